"""Does a sample's output depend on the other samples of its batch?"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from pytest_mltrainer.training.probes.bench import (
    Bench,
    CannotProbe,
    is_batched,
    map_tensors,
    number,
    tensors_in,
)
from pytest_mltrainer.training.probes.trace import Event, traced

CHANGED = 1e-4
"""Relative; sums in another order differ by 1e-6 of the scale, a leak between samples by 1e-2."""
Signature = torch.Tensor


def mixing_facts(bench: Bench) -> dict[str, Any]:
    """How far a sample's outputs move, in evaluation mode, when the other samples are exchanged.

    `leak` is relative to the largest output, over the fresh model and the one after the rehearsal;
    the batch keeps its size and its padding where rows can be exchanged in the collated batch.
    `where`: the first module in which the kept sample is touched. Raises CannotProbe for fewer
    than four samples, or outputs that are not one a sample.
    """
    if bench.size < 4 or len(bench.others) < bench.size:
        raise CannotProbe("fewer than four samples")
    half = bench.size // 2
    leak, where = 0.0, ""
    for model in (bench.fresh().eval(), bench.stepped().eval()):
        # Both halves: a recurrent layer that takes the batch for time touches only later samples.
        for kept in (slice(half, None), slice(None, half)):
            one = rows_through(bench, model, bench.inputs)
            other = rows_through(bench, model, _mixed(bench, kept))
            found = distance(one.outputs[kept], other.outputs[kept])
            if found > leak:
                leak, where = found, first_difference(one.events, other.events, kept)
    return {"rows": bench.size, "leak": number(leak), "where": where if leak > CHANGED else ""}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pass:
    """One pass through a model: its outputs, and the signature of each row at each module."""

    outputs: torch.Tensor
    events: list[Event[Signature]]


def rows_through(bench: Bench, model: nn.Module, inputs: Any) -> Pass:
    """Run a batch through the model. Raises CannotProbe for outputs that are not one a sample."""

    def measure(tensor: torch.Tensor) -> Signature | None:
        if not tensor.ndim or len(tensor) != bench.size:
            return None
        rows = tensor.double().flatten(1) if tensor.ndim > 1 else tensor.double()[:, None]
        pattern = torch.cos(torch.arange(rows.shape[1], device=rows.device, dtype=rows.dtype))
        return torch.stack([rows @ pattern, rows.mean(1), rows.square().mean(1)], dim=1)

    with traced(model, measure) as events:
        outputs = bench.predict(model, inputs)
    if not isinstance(outputs, torch.Tensor) or len(outputs) != bench.size:
        raise CannotProbe("outputs are not one a sample")
    return Pass(outputs=outputs, events=events)


def _mixed(bench: Bench, kept: slice) -> Any:
    """The batch with all but the kept samples exchanged."""
    if is_batched(bench.inputs, bench.size):
        strangers = bench.collated(bench.others)
        if [part.shape for part in tensors_in(strangers)] == [
            part.shape for part in tensors_in(bench.inputs)
        ]:
            return _with_rows(strangers, bench.inputs, kept)
        # Other padding: the samples of the batch itself change places.
        rows = torch.arange(bench.size).roll(1)
        rows[kept] = torch.arange(bench.size)[kept]
        return map_tensors(bench.inputs, lambda tensor: tensor[rows.to(tensor.device)])
    samples = list(bench.others)
    samples[kept] = bench.samples[kept]
    return bench.collated(samples)


def _with_rows(strangers: Any, own: Any, kept: slice) -> Any:
    rows = iter(tensors_in(own))

    def put(tensor: torch.Tensor) -> torch.Tensor:
        mixed = tensor.clone()
        mixed[kept] = next(rows)[kept]
        return mixed

    return map_tensors(strangers, put)


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference against the largest value; NaN beside NaN is no difference."""
    one, other = torch.nan_to_num(one.double()), torch.nan_to_num(other.double())
    return float((one - other).abs().max()) / (float(one.abs().max()) or 1.0)


def first_difference(
    one: "list[Event[Signature]]", other: "list[Event[Signature]]", rows: slice
) -> str:
    """The module, or the place before it, from which on the rows differ between two passes."""
    place = "the inputs"
    for a, b in zip(one, other, strict=False):
        if a.value.shape == b.value.shape and distance(a.value[rows], b.value[rows]) > CHANGED:
            return a.module if a.direction == "output" else f"between {place} and {a.module}"
        place = a.module
    return f"behind {place}"
