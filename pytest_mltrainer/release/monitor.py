"""Alarms of a service, by the rules that were calibrated when its model was released.

This file is copied into the folder of the final model and needs NumPy only. A service collects
windows of requests and asks:

    from monitor import Monitor
    alarms = Monitor.load(folder).check(inputs, outputs, latencies_ms)

Every rule watches the mean over a window of one or more values of each request. It alarms when
|mean - reference| / scale of any value is above the threshold; mean, scale and threshold stand in
`monitoring_rules.json`. Inputs, confidences and answers that are numbers count by their ranks among
the reference (0 to 1), which one wild value cannot move far. A window has at least as many requests
as the rules were calibrated for: fewer would alarm by chance, more make no false alarm likelier.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
MOST_COLUMNS = 64
"""Wider arrays are watched by the means of this many blocks."""
SLACK = 1e-9
"""Above the threshold by more than the rounding of a mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """One rule that a window breaks, by the value that departs furthest."""

    rule: str
    value: str
    found: float
    expected: float
    departure: float
    threshold: float

    def text(self) -> str:
        """One line for a log or a pager."""
        apart = f"{self.departure:.3g} scales away, threshold {self.threshold:.3g}"
        return f"{self.rule}: {self.value} is {self.found:.6g}, not {self.expected:.6g} ({apart})"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """What one rule sees in a window: the means of its values, and how many scales they are off."""

    rule: str
    values: Sequence[str]
    found: Array
    expected: Array
    distances: Array
    threshold: float

    def alarm(self) -> Alarm | None:
        """The alarm of the value that departs furthest, if that is beyond the threshold."""
        worst = int(self.distances.argmax())
        if not self.distances[worst] > self.threshold + SLACK:
            return None
        return Alarm(
            rule=self.rule,
            value=self.values[worst],
            found=float(self.found[worst]),
            expected=float(self.expected[worst]),
            departure=float(self.distances[worst]),
            threshold=self.threshold,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Monitor:
    """The rules of a released model."""

    rules: Mapping[str, Mapping[str, Any]]
    window: int
    kind: str
    slow_ms: float
    one_by_one: bool = False
    """Requests differ in shape: given as a list, watched by size, mean and deviation."""
    model: str = ""
    """The released model, as `pytest-mltrainer releases` names it."""

    @classmethod
    def load(cls, folder: Path | str) -> "Monitor":
        """The rules in a folder of a final model."""
        stored = json.loads((Path(folder) / "monitoring_rules.json").read_text(encoding="utf-8"))
        return cls(
            rules=stored["rules"],
            window=stored["window"],
            kind=stored["kind"],
            slow_ms=stored["slow_ms"],
            one_by_one=stored["one_by_one"],
            model=stored["model"],
        )

    def check(self, inputs: Any, outputs: Any, latencies_ms: Sequence[float]) -> list[Alarm]:
        """The alarms of a window; empty when all is well. Arguments and errors are `read`'s."""
        found = (reading.alarm() for reading in self.read(inputs, outputs, latencies_ms))
        return [alarm for alarm in found if alarm is not None]

    def read(self, inputs: Any, outputs: Any, latencies_ms: Sequence[float]) -> list[Reading]:
        """What each rule sees in a window.

        `inputs` as the model takes them (an array, or a nesting of arrays), or, `one_by_one`, a
        list of such batches with one request each; `outputs` as it gives them, `latencies_ms` one
        number a request. Raises ValueError for too small a window.
        """
        given = summaries(inputs) if self.one_by_one else inputs
        values = request_values(self.kind, given, outputs)
        values["latency"] = slow_calls(latencies_ms, self.slow_ms)
        for name, rule in self.rules.items():
            if "grid" in rule:
                values[name] = ranks(values[name], np.asarray(rule["grid"]))
        values["input_spread"] = spread(values["input_drift"])
        fewest = min(len(np.asarray(outputs)), len(latencies_ms))
        if fewest < self.window:
            raise ValueError(f"a window of {fewest} requests, wanted at least {self.window}")
        return [self._reading(name, values[name]) for name in self.rules]

    def _reading(self, name: str, values: Array) -> Reading:
        rule = self.rules[name]
        expected, scale = np.asarray(rule["mean"]), np.asarray(rule["scale"])
        means, threshold = window_means(values), float(rule["threshold"])
        if means.shape != expected.shape:
            return Reading(
                rule=name, values=["number of values"], found=np.asarray([len(means)]),
                expected=np.asarray([len(expected)]), distances=np.asarray([np.inf]),
                threshold=threshold,
            )  # fmt: skip
        # A mean is missing where no request of the window has the value: `not_finite` tells.
        distances = np.nan_to_num(np.abs(means - expected) / scale, nan=0.0)
        return Reading(
            rule=name,
            values=[f"rank of {value}" if "grid" in rule else value for value in rule["values"]],
            found=means,
            expected=expected,
            distances=distances,
            threshold=threshold,
        )


def request_values(kind: str, inputs: Any, outputs: Any) -> dict[str, Array]:
    """What the rules watch of each request, by rule: arrays of shape (requests, values)."""
    answers = np.asarray(outputs, dtype=np.float64)
    parts = [np.asarray(part) for _, part in parts_of(inputs)]
    tables = [answers.reshape(len(answers), -1)]
    tables += [part.reshape(len(part), -1).astype(np.float64) for part in parts]
    broken = np.asarray([~np.isfinite(table).all(axis=1) for table in tables]).sum(axis=0) > 0
    columns = [blocks(part) for part in parts]
    none = np.empty((len(answers), 0))
    return {
        "input_drift": np.concatenate(columns, axis=1) if columns else none,
        "label_shift": answer_values(kind, answers),
        "confidence": confidence(kind, answers),
        "not_finite": np.asarray(broken, dtype=np.float64)[:, None],
    }


def parts_of(inputs: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The arrays of a nesting with their names; an only array has an empty one."""
    if isinstance(inputs, Mapping):
        for key, part in inputs.items():
            yield from parts_of(part, f"{name}.{key}" if name else str(key))
    elif isinstance(inputs, list | tuple) and inputs and hasattr(inputs[0], "shape"):
        for index, part in enumerate(inputs):
            yield from parts_of(part, f"{name}.{index}" if name else str(index))
    else:
        yield name, inputs


def summaries(requests: Sequence[Any]) -> dict[str, Array]:
    """Size, mean and standard deviation of each array of each request."""
    parts: dict[str, list[Array]] = {}
    for request in requests:
        for name, part in parts_of(request):
            parts.setdefault(name or "inputs", []).append(np.asarray(part).reshape(-1))
    found: dict[str, Array] = {}
    for name, arrays in parts.items():
        sizes = np.asarray([len(array) for array in arrays])
        values = np.concatenate(arrays).astype(np.float64)
        owner = np.repeat(np.arange(len(sizes)), sizes)
        with np.errstate(all="ignore"):
            means = np.bincount(owner, values, len(sizes)) / sizes
            apart = np.bincount(owner, (values - means[owner]) ** 2, len(sizes)) / sizes
        found |= {
            f"size of {name}": sizes.astype(np.float64),
            f"mean of {name}": means,
            f"deviation of {name}": np.sqrt(apart),
        }
    return found


def blocks(part: Array) -> Array:
    """Each value of a request, or the means of blocks of values where there are many."""
    rows = part.reshape(len(part), -1).astype(np.float64)
    rows = np.where(np.isfinite(rows), rows, np.nan)
    width = rows.shape[1]
    if width <= MOST_COLUMNS:
        return rows
    starts = [width * block // MOST_COLUMNS for block in range(MOST_COLUMNS)]
    return np.asarray(np.add.reduceat(rows, starts, axis=1) / np.diff([*starts, width]))


def answer_values(kind: str, answers: Array) -> Array:
    """What was answered: predicted classes as 0 and 1 (of a sequence their shares), or values."""
    if kind in ("classification", "sequence"):
        classes = answers.shape[-1]
        found = np.nan_to_num(answers, nan=-np.inf).reshape(len(answers), -1, classes).argmax(-1)
        # Neighbouring classes share a column where there are very many.
        columns = min(classes, MOST_COLUMNS)
        marks = np.eye(columns)[found * columns // classes]
        return np.asarray(marks.mean(axis=1))
    if kind == "multilabel":
        return (answers > 0).astype(np.float64)
    return blocks(answers)


def confidence(kind: str, answers: Array) -> Array:
    """The probability of what was answered, mean over positions and labels; none for numbers."""
    if kind in ("classification", "sequence"):
        with np.errstate(all="ignore"):
            shifted = np.exp(answers - answers.max(axis=-1, keepdims=True))
            top = 1 / shifted.sum(axis=-1)
        return np.asarray(top.reshape(len(answers), -1).mean(axis=1, keepdims=True))
    if kind == "multilabel":
        with np.errstate(all="ignore"):
            certain = 1 / (1 + np.exp(-np.abs(answers)))
        return np.asarray(certain.mean(axis=1, keepdims=True))
    return np.empty((len(answers), 0))


def ranks(columns: Array, grid: Array) -> Array:
    """The rank of each value among the quantiles of its column, 0 to 1, the middle one of ties.

    Columns that the reference has not are left as they are: their number gives an alarm.
    """
    if columns.shape[1] != len(grid):
        return columns
    found = np.empty_like(columns)
    for column, known in enumerate(grid):
        values = columns[:, column]
        below = np.searchsorted(known, values, "left") + np.searchsorted(known, values, "right")
        found[:, column] = below / (2 * len(known))
    return np.where(np.isfinite(columns), found, np.nan)


def spread(ranked: Array) -> Array:
    """How extreme each request is: mean over its inputs of |2 rank - 1|; one half on average."""
    if not ranked.shape[1]:
        return ranked
    return np.asarray(window_means(np.abs(2 * ranked.T - 1))[:, None])


def slow_calls(latencies_ms: Sequence[float], slow_ms: float) -> Array:
    """1 for each call that took longer than `slow_ms`, or whose time is unknown."""
    return (~(np.asarray(latencies_ms, dtype=np.float64) <= slow_ms)).astype(np.float64)[:, None]


def window_means(values: Array) -> Array:
    """Mean of each column over the requests that have the value; NaN where none has."""
    there = np.isfinite(values)
    with np.errstate(all="ignore"):
        return np.asarray(np.where(there, values, 0.0).sum(axis=0) / there.sum(axis=0))
