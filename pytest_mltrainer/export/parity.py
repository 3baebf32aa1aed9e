"""Does the file say what the model says? Compared batch by batch, so that memory stays flat."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from typing import Any, Literal

import numpy as np

from pytest_mltrainer.export.precision import Precision
from pytest_mltrainer.export.signature import Array

Predict = Callable[[Any], Array]
Decides = Literal["class", "labels", "nothing"]

RELATIVE_AND_ABSOLUTE = {
    "float16": (1e-3, 1e-5),
    "float32": (1.3e-6, 1e-5),
    "float64": (1e-7, 1e-7),
}
"""As `torch.testing.assert_close`; here relative to the scale of a batch's outputs."""
OTHER_DTYPES = (0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How far two predictors agree on `n` samples; a flip is another decision beyond the margin.

    `largest_difference` and `tolerance` are those of the batch that is worst by its own tolerance.
    Where that is not elementwise, it only says which decisions are too close to count.
    """

    n: int
    largest_difference: float
    tolerance: float
    flips: int = 0
    decisions: int = 0
    same: int = 0
    is_elementwise: bool = True

    @property
    def differs(self) -> bool:
        """Whether an output is further off than rounding explains. NaN is, of every format."""
        if not self.is_elementwise:
            return not math.isfinite(self.largest_difference)
        return not self.largest_difference <= self.tolerance

    @property
    def agreement(self) -> float:
        """The share of equal decisions."""
        return self.same / self.decisions if self.decisions else 1.0

    @property
    def excess(self) -> float:
        """The largest difference in units of its tolerance."""
        if self.largest_difference <= 0:
            return 0.0
        return self.largest_difference / self.tolerance if self.tolerance else float("inf")


NONE = Parity(n=0, largest_difference=0.0, tolerance=0.0)


def decides_by(kind: str) -> Decides:
    """What a task of this kind decides by its outputs."""
    decisions: dict[str, Decides] = {
        "classification": "class", "sequence": "class", "multilabel": "labels",
    }  # fmt: skip
    return decisions.get(kind, "nothing")


def total(parities: Iterable[Parity]) -> Parity:
    """The parity over all batches; one that holds no sample for none."""
    return reduce(_joined, parities, NONE)


def _joined(one: Parity, other: Parity) -> Parity:
    worst = one if one.excess >= other.excess and one.n else other
    return Parity(
        n=one.n + other.n,
        largest_difference=worst.largest_difference,
        tolerance=worst.tolerance,
        flips=one.flips + other.flips,
        decisions=one.decisions + other.decisions,
        same=one.same + other.same,
        is_elementwise=worst.is_elementwise,
    )


def compare(
    eager: Array,
    exported: Array,
    *,
    decides: Decides = "nothing",
    precision: Precision | None = None,
) -> Parity:
    """Compare the outputs for a batch. NaN on both sides is not parity, nor are other shapes.

    `precision` is that of the file; without one the dtype of its outputs says it.
    """
    if eager.shape != exported.shape or not len(eager):
        wrong = max(len(eager), 1)
        infinite = float("inf")
        return Parity(
            n=len(eager), largest_difference=infinite, tolerance=0.0, flips=wrong, decisions=wrong
        )
    scale = float(np.abs(eager[np.isfinite(eager)]).max(initial=0.0))
    tolerance = precision.tolerance(scale) if precision else _tolerance(exported.dtype, scale)
    with np.errstate(invalid="ignore"):
        difference = np.abs(eager.astype(np.float64) - exported.astype(np.float64))
    difference[~np.isfinite(difference)] = np.inf
    flips, decisions, same = _decisions(eager, exported, decides, tolerance)
    return Parity(
        n=len(eager),
        largest_difference=float(difference.max(initial=0.0)),
        tolerance=tolerance,
        flips=flips,
        decisions=decisions,
        same=same,
        is_elementwise=precision is None or precision.is_elementwise,
    )


def _tolerance(dtype: "np.dtype[Any]", scale: float) -> float:
    relative, absolute = RELATIVE_AND_ABSOLUTE.get(str(dtype), OTHER_DTYPES)
    return absolute * max(scale, 1.0) + relative * scale


def _decisions(
    eager: Array, exported: Array, decides: Decides, tolerance: float
) -> tuple[int, int, int]:
    """Flips beyond the model's own margin, decisions in all, and how many of them are the same."""
    if decides == "nothing":
        return 0, 0, 0
    if decides == "labels":
        margin = np.abs(eager)
        changed = (eager > 0) != (exported > 0)
    else:
        rows = eager.reshape(-1, eager.shape[-1])
        ours, theirs = rows.argmax(-1), exported.reshape(rows.shape).argmax(-1)
        index = np.arange(len(rows))
        margin = rows[index, ours] - rows[index, theirs]
        changed = ours != theirs
    flips = int((changed & ~(margin <= tolerance)).sum())
    return flips, int(changed.size), int((~changed).sum())
