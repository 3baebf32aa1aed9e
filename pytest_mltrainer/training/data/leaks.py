"""A single column that gives the target away while all others together do not."""

from dataclasses import replace
from typing import Any

import numpy as np

from pytest_mltrainer.training.data.columns import Array
from pytest_mltrainer.training.data.labels import Problem, best_reference

BINS = 64
LIMIT_BINS = 512
ALONE_LIMIT = 0.02
FEWEST_COLUMNS = 4


def alone_facts(posed: Problem, names: list[str]) -> dict[str, Any]:
    """The column whose own value tells the target best, with its error on validation.

    The error is that of looking the target up in the column's bins: 1 - balanced accuracy, or
    the share of the variance left. Where it is under 0.02, `others` is the error of the better
    reference on all other columns. Under 4 columns that vary, one may well carry everything.
    """
    varying = np.flatnonzero(np.ptp(posed.train, axis=0) > 0)
    if not names or len(varying) < FEWEST_COLUMNS:
        return {"judged": False, "reason": f"under {FEWEST_COLUMNS} columns of a table that vary"}
    errors = {int(column): _error(posed, int(column)) for column in varying}
    best = min(errors, key=lambda column: errors[column])
    found: dict[str, Any] = {
        "judged": True,
        "column": names[best],
        "error": errors[best],
        "others": None,
    }
    if errors[best] <= ALONE_LIMIT:
        # Copies of a column that gives the target away do so as well: they go with it.
        rest = [column for column, alone in errors.items() if alone > ALONE_LIMIT]
        found["columns"] = [names[column] for column in errors if column not in rest][:5]
        found["others"] = _error_of(posed, rest) if rest else errors[best]
    return found


def _error_of(posed: Problem, columns: list[int]) -> float:
    less = replace(posed, train=posed.train[:, columns], validation=posed.validation[:, columns])
    reference, left = best_reference(less)
    if not posed.names:
        return left
    return _unbalanced(reference.validation.argmax(axis=1), posed)


def _unbalanced(found: Array, posed: Problem) -> float:
    """1 - balanced accuracy on validation."""
    hits = [(found == label)[posed.held_out == label].mean() for label in set(posed.held_out)]
    return 1 - float(np.mean(hits))


def _error(posed: Problem, column: int) -> float:
    seen, held_out = posed.train[:, column], posed.validation[:, column]
    bins = min(max(BINS, 4 * len(posed.names)), LIMIT_BINS)
    values = np.unique(seen)
    if len(values) > bins:
        edges = np.unique(np.quantile(seen, np.linspace(0, 1, bins + 1)[1:-1]))
    else:
        edges = (values[1:] + values[:-1]) / 2
    own, other = np.searchsorted(edges, seen), np.searchsorted(edges, held_out)
    if posed.names:
        return _unbalanced(_usual_class(posed, own, len(edges) + 1)[other], posed)
    return min(_values_left(posed, own, other, len(edges) + 1), _line_left(posed, seen, held_out))


def _usual_class(posed: Problem, bins: Array, count: int) -> Array:
    classes = len(posed.names)
    table = np.bincount(bins * classes + posed.targets, minlength=count * classes)
    sizes = np.maximum(np.bincount(posed.targets, minlength=classes), 1)
    return np.asarray((table.reshape(count, classes) / sizes).argmax(axis=1))


def _values_left(posed: Problem, own: Array, other: Array, count: int) -> float:
    sums = np.bincount(own, weights=posed.targets, minlength=count)
    sizes = np.bincount(own, minlength=count)
    means = np.where(sizes > 0, sums / np.maximum(sizes, 1), posed.targets.mean())
    return _left(means[other], posed)


def _line_left(posed: Problem, seen: Array, held_out: Array) -> float:
    slope, level = np.polyfit(seen.astype(np.float64), posed.targets, 1)
    return _left(slope * held_out + level, posed)


def _left(found: Array, posed: Problem) -> float:
    variance = float(np.var(posed.held_out))
    return float(np.mean((found - posed.held_out) ** 2)) / variance if variance else 1.0
