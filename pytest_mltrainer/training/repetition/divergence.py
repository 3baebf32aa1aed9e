"""The first difference of two runs: of their environments, then of their steps."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

PARTS = ("rng", "batch", "loss", "gradients", "parameters", "optimizer")
"""In the order of cause: the first that differs names what went wrong."""
FULL_PARTS = ("gradients", "parameters")
ALWAYS_TAKEN = ("rng", "loss")
ENVIRONMENT_FIRST = (
    "threads", "oneDNN", "device", "CPU capability", "torch", "numpy", "PYTHONHASHSEED", "autocast",
    "loader workers",
)  # fmt: skip
"""What changes the bits of a training most often, in the order in which it is told."""

Columns = Mapping[str, "np.ndarray[Any, Any]"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """The first step whose digests differ, and the first part of it in the order of cause.

    `part` is `length` where one run ends before the other. `equal_until` is the last step before
    it whose gradients and parameters were compared and equal, -1 for none: what caused the
    difference happened behind that one.
    """

    step: int
    part: str
    one: str
    other: str
    equal_until: int

    def text(self) -> str:
        """`step 7: gradients differ (1a2b against 3c4d)`."""
        if self.part == "length":
            return f"step {self.step}: one run has {self.one} steps, the other {self.other}"
        verb = "differs" if self.part in ("rng", "batch", "loss") else "differ"
        return f"step {self.step}: {self.part} {verb} ({self.one} against {self.other})"

    def to_json(self) -> dict[str, Any]:
        """The divergence as it is stored."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentDifference:
    """One fact about two environments that is not the same."""

    name: str
    one: str
    other: str

    def text(self) -> str:
        """`threads 1 against 2`."""
        return f"{self.name} {self.one} against {self.other}"


def first_divergence(one: Any, other: Any) -> Divergence | None:
    """The first difference of two sequences of digests, or None when there is none.

    Either are records of `digests.rec`, or the steps of a rehearsal as `columns` gives them. Steps
    are compared by their numbers, a part only where both took it.
    """
    steps, at_one, at_other = np.intersect1d(one["step"], other["step"], return_indices=True)
    both = {
        part: (one[part][at_one], other[part][at_other])
        for part in PARTS
        if part in _names(one) and part in _names(other)
    }
    differs = {part: _differing(part, *pair) for part, pair in both.items()}
    firsts = {part: int(np.argmax(mask)) for part, mask in differs.items() if mask.any()}
    if not firsts:
        return _lengths(one, other, steps, both)
    row = min(firsts.values())
    part = next(part for part in PARTS if firsts.get(part) == row)
    values = (shown(part, column[row]) for column in both[part])
    return Divergence(
        step=int(steps[row]),
        part=part,
        one=next(values),
        other=next(values),
        equal_until=_equal_until(steps[:row], both),
    )


def columns(steps: Sequence[Mapping[str, str]]) -> Columns:
    """The steps of a rehearsal, one mapping from part to digest each, as columns by part."""
    found: dict[str, np.ndarray[Any, Any]] = {"step": np.arange(len(steps))}
    for part in PARTS:
        found[part] = np.array([step.get(part, "") for step in steps], dtype=str)
    return found


def environment_differences(
    one: Mapping[str, str], other: Mapping[str, str]
) -> list[EnvironmentDifference]:
    """The facts that differ, those that change bits most often first; `(unknown)` where absent."""
    known = [name for name in ENVIRONMENT_FIRST if name in one or name in other]
    names = [*known, *sorted({*one, *other}.difference(known))]
    return [
        EnvironmentDifference(
            name=name, one=one.get(name, "(unknown)"), other=other.get(name, "(unknown)")
        )
        for name in names
        if one.get(name) != other.get(name)
    ]


def shown(part: str, value: Any) -> str:
    """A digest in short; a recorded loss as the number whose bits it is."""
    if isinstance(value, str):
        return value[:16]
    if part == "loss":
        return repr(float(np.array(value, "<u8").view("<f8")))
    return f"{int(value):016x}"


def _names(found: Any) -> Sequence[str]:
    return found.dtype.names if isinstance(found, np.ndarray) else list(found)


def _differing(part: str, one: Any, other: Any) -> Any:
    # The bits of a loss of 0.0 are 0 as well, which elsewhere means that nothing was taken.
    return (one != other) & (part in ALWAYS_TAKEN or _taken(one) & _taken(other))


def _taken(column: Any) -> Any:
    return column != ("" if column.dtype.kind == "U" else 0)


def _equal_until(steps: Any, both: Mapping[str, Any]) -> int:
    full = np.ones(len(steps), bool)
    for part in FULL_PARTS:
        if part in both:
            full &= _taken(both[part][0][: len(steps)]) & _taken(both[part][1][: len(steps)])
    places = np.flatnonzero(full)
    return int(steps[places[-1]]) if places.size else -1


def _lengths(one: Any, other: Any, steps: Any, both: Mapping[str, Any]) -> Divergence | None:
    if len(one["step"]) == len(other["step"]):
        return None
    return Divergence(
        step=int(steps[-1]) + 1 if len(steps) else 0,
        part="length",
        one=str(len(one["step"])),
        other=str(len(other["step"])),
        equal_until=_equal_until(steps, both),
    )
