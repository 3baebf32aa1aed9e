"""What the outputs make of extreme answers of the last layer: limits, and who sets them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from pytest_mltrainer.training.probes.bench import Bench, is_batched, map_tensors
from pytest_mltrainer.training.probes.trace import leaves

AMPLITUDES = (1e2, 1e4)
TRIED_MODULES = 5
EVEN = 1e-3
FROM_ELSEWHERE = 0.05
"""Share of the outputs' range; behind an activation, noise of 10,000 leaves other inputs no say."""


def stressed_outputs(bench: Bench, model: nn.Module, outputs: torch.Tensor) -> list[torch.Tensor]:
    """Outputs when the last layer with parameters answers noise of two large sizes.

    The activation behind it, if there is one, then shows its limits. Empty when no such layer has
    a say in the outputs, and when the same noise gives other outputs for other inputs: then their
    limits come from elsewhere, such as from experts that a gate mixes, and are none of an
    activation.
    """
    module = _last_with_a_say(bench, model, outputs)
    if module is None:
        return []
    found = [_noisy(bench, model, module, amplitude) for amplitude in AMPLITUDES]
    if not is_batched(bench.inputs, bench.size) or not torch.isfinite(found[1]).all():
        return found
    others = map_tensors(bench.inputs, lambda part: part.roll(1, 0))
    apart = _noisy(bench, model, module, AMPLITUDES[1], others) - found[1]
    spread = float(found[1].max() - found[1].min())
    return found if float(apart.abs().max()) <= FROM_ELSEWHERE * spread else []


def _last_with_a_say(bench: Bench, model: nn.Module, outputs: torch.Tensor) -> nn.Module | None:
    """The last module with parameters that the outputs follow, or None."""
    order: list[nn.Module] = []
    named = [m for m in leaves(model) if any(True for _ in m.parameters(recurse=False))]

    def note(module: nn.Module, *_: Any) -> None:
        order.append(module)

    handles = [module.register_forward_hook(note) for module in named]
    bench.predict(model, bench.inputs)
    for handle in handles:
        handle.remove()
    for module in list(dict.fromkeys(reversed(order)))[:TRIED_MODULES]:
        found = [_noisy(bench, model, module, amplitude) for amplitude in AMPLITUDES]
        if all(not torch.equal(part, outputs) for part in found):
            return module
    return None


def _noisy(
    bench: Bench, model: nn.Module, module: nn.Module, amplitude: float, inputs: Any = None
) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return _answering(
        bench,
        model,
        module,
        lambda first: amplitude * torch.randn(first.shape, generator=generator).to(first),
        bench.inputs if inputs is None else inputs,
    )


def _shifted(bench: Bench, model: nn.Module, module: nn.Module, by: float) -> torch.Tensor:
    return _answering(bench, model, module, lambda first: first + by, bench.inputs)


def _answering(
    bench: Bench,
    model: nn.Module,
    module: nn.Module,
    change: Callable[[torch.Tensor], torch.Tensor],
    inputs: Any,
) -> torch.Tensor:
    """The outputs when what a module answers is changed."""

    def replace(_module: nn.Module, _given: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (change(output[0]), *output[1:])
        return change(output)

    handle = module.register_forward_hook(replace)
    try:
        return bench.predict(model, inputs).float()
    finally:
        handle.remove()


def are_free(bench: Bench, model: nn.Module, outputs: torch.Tensor) -> bool:
    """Whether all outputs rise by as much again when the last layer's output does."""
    module = _last_with_a_say(bench, model, outputs)
    if module is None:
        return False
    one, two, three = (_shifted(bench, model, module, n * AMPLITUDES[0]) for n in (1, 2, 3))
    rise, again = two - one, three - two
    is_even = torch.allclose(rise, again, rtol=EVEN, atol=EVEN * AMPLITUDES[0])
    return is_even and bool((rise > EVEN * AMPLITUDES[0]).all())
