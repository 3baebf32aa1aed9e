"""Do outputs tell samples apart, and where does the difference between samples go?"""

import math
from typing import Any

import torch
from torch import nn

from pytest_mltrainer.training.probes.bench import (
    Bench,
    CannotProbe,
    first_tensor,
    is_batched,
    map_tensors,
    number,
)
from pytest_mltrainer.training.probes.initial import standardised
from pytest_mltrainer.training.probes.trace import traced
from pytest_mltrainer.training.reproducibility import digest_nested

ROUNDINGS = 4
"""Rounding errors that equal rows of a batch may differ by."""
VARIED = 1e-4
FAR, STRAIGHT = 1000.0, 0.01


def input_facts(bench: Bench) -> dict[str, Any]:
    """How far outputs differ between samples, relative to their size, before and after updates.

    `constant`: neither the fresh model, on raw or standardised inputs, nor the one after the
    rehearsal tells samples apart beyond rounding. `lost_at`: where the difference goes at once;
    empty when it fades over many layers. `distinct_inputs` of `rows`; `ignored_parts` of inputs
    that are a mapping; `affine`: whether outputs follow real-valued inputs on straight lines before
    and after updates, as layers without an activation between them do. Raises CannotProbe for fewer
    than two samples.
    """
    if bench.size < 2:
        raise CannotProbe("fewer than two samples")
    fresh, stepped = bench.fresh().eval(), bench.stepped().eval()
    outputs = bench.predict(fresh, bench.inputs)
    variations = [
        _variation(outputs),
        _variation(bench.predict(stepped, bench.inputs)),
        _variation(bench.predict(fresh, standardised(bench.inputs))),
    ]
    rounding = ROUNDINGS * torch.finfo(_floating(outputs).dtype).eps
    is_constant = all(v is not None and v <= rounding for v in variations)
    return {
        "rows": bench.size,
        "distinct_inputs": len({digest_nested(sample[0]) for sample in bench.samples}),
        "variation": number(variations[0] or 0.0),
        "variation_stepped": number(variations[1] or 0.0),
        "rounding": rounding,
        "constant": is_constant,
        "lost_at": _lost_at(bench, fresh, rounding) if is_constant else "",
        "ignored_parts": _ignored_parts(bench, stepped),
        "affine": all(
            variation is not None and variation > rounding and _is_affine(bench, model)
            for variation, model in zip(variations[:2], (fresh, stepped), strict=True)
        ),
    }


def _floating(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.is_floating_point() else tensor.float()


def _variation(tensor: torch.Tensor) -> float | None:
    """Standard deviation over rows against the root mean square of all; None if not finite."""
    values = _floating(tensor).double().flatten(1) if tensor.ndim > 1 else tensor.double()[:, None]
    size = float(values.square().mean().sqrt())
    spread = float(values.var(0, correction=0).mean().sqrt())
    found = spread / size if size else 0.0
    return found if math.isfinite(found) else None


def _is_affine(bench: Bench, model: nn.Module) -> bool:
    """Whether the outputs far out on the line through two samples are where the line would be.

    So far out that an activation that bends anywhere on the way shows, where it reaches the outputs
    at all: not behind a branch or a head that starts at zero.
    """
    rows = standardised(bench.inputs)
    if not isinstance(rows, torch.Tensor) or not rows.is_floating_point():
        return False
    first, second = bench.predict(model, rows), bench.predict(model, rows.roll(1, 0))
    far = bench.predict(model, FAR * rows - (FAR - 1) * rows.roll(1, 0))
    line = FAR * first.double() - (FAR - 1) * second.double()
    error, size = float((far - line).norm()), float(line.norm())
    return math.isfinite(error) and error <= STRAIGHT * size


def _lost_at(bench: Bench, model: nn.Module, rounding: float) -> str:
    """The module, or the place between two, where rows that differed become alike at once."""

    def measure(tensor: torch.Tensor) -> float | None:
        return _variation(tensor) if tensor.ndim and len(tensor) == bench.size else None

    with traced(model, measure) as events:
        bench.predict(model, bench.inputs)
    whole = first_tensor(bench.inputs)
    last, place = (measure(whole) if whole is not None else None) or 1.0, "the inputs"
    for event in events:
        if last > VARIED and event.value <= rounding:
            return (
                event.module
                if event.direction == "output"
                else (f"between {place} and {event.module}")
            )
        last, place = event.value, event.module
    return f"behind {place}" if last > VARIED else ""


def _ignored_parts(bench: Bench, model: nn.Module) -> list[str]:
    """The keys of a mapping of inputs that may be swapped between samples without effect."""
    if not isinstance(bench.inputs, dict) or not is_batched(bench.inputs, bench.size):
        return []
    whole = bench.predict(model, bench.inputs)
    return [
        str(key)
        for key, part in bench.inputs.items()
        if torch.equal(
            whole,
            bench.predict(
                model,
                {**bench.inputs, key: map_tensors(part, lambda rows: rows.roll(1, 0))},
            ),
        )
    ]
