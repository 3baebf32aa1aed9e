"""Does the model answer rows in which a value is missing?"""

import math
from collections.abc import Callable
from typing import Any

import torch

from pytest_mltrainer.training.probes.bench import (
    Bench,
    CannotProbe,
    is_batched,
    map_tensors,
    tensors_in,
)


def masking_facts(bench: Bench) -> dict[str, Any]:
    """Whether all stays finite when one value of each row is NaN (`nan`), infinite (`infinite`).

    All: outputs and the gradients of the weights, since a bounded activation gives finite outputs
    for infinite inputs and no finite gradient. Each row loses another value, spread evenly over a
    sample, in each tensor of the inputs. Raises CannotProbe for inputs that cannot be NaN, and for
    a model that is not finite anyhow.
    """
    parts = tensors_in(bench.inputs)
    floating = [part for part in parts if part.is_floating_point()]
    if not floating or not is_batched(bench.inputs, bench.size):
        raise CannotProbe("inputs are no batch of real numbers")
    model = bench.fresh().eval()

    def is_finite(change: Callable[[torch.Tensor], torch.Tensor]) -> bool:
        bench.rng.restore()
        outputs = bench.task.predict(model, map_tensors(bench.inputs, change)).float()
        weights = [part for part in model.parameters() if part.requires_grad]
        slopes = torch.autograd.grad(outputs.sum(), weights, allow_unused=True)
        known = [outputs, *(slope for slope in slopes if slope is not None)]
        return all(bool(torch.isfinite(part).all()) for part in known)

    if not is_finite(lambda part: torch.nan_to_num(part, posinf=0.0, neginf=0.0)):
        raise CannotProbe("outputs are not finite on finite inputs")
    return {
        "nan": is_finite(lambda part: _without(part, math.nan)),
        "infinite": is_finite(lambda part: _without(part, math.inf)),
    }


def _without(part: torch.Tensor, value: float) -> torch.Tensor:
    """The tensor with one value of each row replaced, at another place in each."""
    if not part.is_floating_point() or not part.numel():
        return part
    spoilt = part.clone().reshape(len(part), -1)
    rows, width = spoilt.shape
    places = torch.arange(rows) * max(1, width // rows) % width
    spoilt[torch.arange(rows), places] = value
    return spoilt.reshape(part.shape)
