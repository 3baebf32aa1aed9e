"""How far back gradients reach in recurrent layers, and what activations do before training."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from pytest_mltrainer.training.observation.activation_facts import activation_facts
from pytest_mltrainer.training.probes.bench import Bench, first_tensor, number, without_dropout
from pytest_mltrainer.training.probes.trace import leaves

RECURRENT = (nn.RNN, nn.LSTM, nn.GRU)
LEAST_TIMES = 8
SHARE = 8
"""An eighth of the times at either end is compared."""


def reach_facts(bench: Bench) -> dict[str, Any]:
    """How gradients and states change over the times of each recurrent layer of the fresh model.

    By name: `reach`, the gradient at the first eighth of the times over that at the last: far below
    1 where it fades, far above where it explodes; `growth`, the size of the outputs at the last
    eighth over the first; `gain`, how much the weights of the recurrence enlarge independent
    states. A module with weights that one pass calls 8 times or more is a recurrence written by
    hand. Layers of under 8 times, packed sequences and layers without a gradient are left out.
    `dead`, `saturated`: by place, what `activation_facts` says of the fresh model.
    """
    model = bench.fresh()
    with without_dropout(model):
        facts = activation_facts(model, lambda: bench.predict(model, bench.inputs))
    return {"dead": facts.dead, "saturated": facts.saturated, **_over_time(bench)}


class _Recurrence(NamedTuple):
    """A module that one pass goes through again and again: its outputs and gradients by time."""

    module: nn.Module
    name: str
    states: Sequence[torch.Tensor]
    gradients: Sequence[torch.Tensor | None]


def _over_time(bench: Bench) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {"reach": {}, "growth": {}, "gain": {}}
    for module, name, states, gradients in _recurrences(bench):
        _note(found["reach"], name, _ends(gradients))
        first_over_last = _ends([state.detach() for state in states])
        _note(found["growth"], name, 1 / first_over_last if first_over_last else None)
        _note(found["gain"], name, _gain(module))
    return found


def _recurrences(bench: Bench) -> list[_Recurrence]:
    """Of a recurrent layer the gradients of its inputs, of a repeated module of its outputs."""
    model = bench.fresh()
    names = leaves(model)
    layers: dict[nn.Module, str] = {
        module: name for module, name in names.items() if isinstance(module, RECURRENT)
    }
    others = {module: name for module, name in names.items() if _can_be_repeated(module)}
    given: dict[str, torch.Tensor] = {}
    made: dict[str, list[torch.Tensor]] = {}
    handles: list[Any] = [
        module.register_forward_pre_hook(_tracked(given, name)) for module, name in layers.items()
    ]
    for module, name in {**layers, **others}.items():
        handles.append(module.register_forward_hook(_kept(made, name)))
    try:
        with without_dropout(model):
            bench.rng.restore()
            outputs = bench.task.predict(model, bench.inputs)
    finally:
        for handle in handles:
            handle.remove()
    whole = {module: name for module, name in layers.items() if name in made}
    repeated = {
        module: name for module, name in others.items() if len(made.get(name, ())) >= LEAST_TIMES
    }
    if not (whole or repeated) or not outputs.requires_grad:
        return []
    bench.task.loss(outputs, bench.targets, bench.config).backward()
    return [
        _Recurrence(
            module,
            name,
            _by_time(module, made[name][0]),
            _by_time(module, _gradient_of(given.get(name))),
        )
        for module, name in whole.items()
    ] + [
        _Recurrence(module, name, made[name], [state.grad for state in made[name]])
        for module, name in repeated.items()
    ]


def _can_be_repeated(module: nn.Module) -> bool:
    has_matrix = any(part.ndim == 2 for part in module.parameters(recurse=False))
    return has_matrix and not isinstance(module, (*RECURRENT, nn.Embedding, nn.EmbeddingBag))


def _note(found: dict[str, float], name: str, value: float | None) -> None:
    if value is not None and number(value) is not None:
        found[name] = value


def _tracked(given: dict[str, torch.Tensor], name: str) -> Any:
    """A hook that lets the series that goes into a layer keep its gradient."""

    def track(_module: nn.Module, inputs: Any) -> Any:
        series = inputs[0]
        if not isinstance(series, torch.Tensor) or series.ndim != 3 or name in given:
            return None
        given[name] = series if series.requires_grad else series.detach().requires_grad_()
        given[name].retain_grad()
        return (given[name], *inputs[1:])

    return track


def _kept(made: dict[str, list[torch.Tensor]], name: str) -> Any:
    """A hook that keeps each output with its gradient."""

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        tensor = first_tensor(output)
        if tensor is not None and tensor.requires_grad:
            tensor.retain_grad()
            made.setdefault(name, []).append(tensor)

    return keep


def _gradient_of(tensor: torch.Tensor | None) -> torch.Tensor | None:
    return None if tensor is None else tensor.grad


def _by_time(module: nn.Module, series: torch.Tensor | None) -> list[torch.Tensor]:
    if series is None or series.ndim != 3:
        return []
    return list(series.unbind(1 if getattr(module, "batch_first", False) else 0))


def _ends(by_time: Sequence[torch.Tensor | None]) -> float | None:
    """Size at the first eighth of the times over that at the last; None where that is 0."""
    sizes = [0.0 if part is None else float(part.double().norm()) for part in by_time]
    part = len(sizes) // SHARE
    if len(sizes) < LEAST_TIMES:
        return None
    first, last = math.hypot(*sizes[:part]), math.hypot(*sizes[-part:])
    return number(first / last) if last > 0 else None


def _gain(module: nn.Module) -> float | None:
    """Root mean square of the recurrent weights times the root of the states, the largest."""
    gains = [
        float(part.detach().double().square().mean().sqrt()) * part.shape[1] ** 0.5
        for name, part in module.named_parameters(recurse=False)
        if name.startswith("weight_hh") or (isinstance(module, nn.Linear) and _is_square(part))
    ]
    return max(gains, default=None)


def _is_square(matrix: torch.Tensor) -> bool:
    return matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
