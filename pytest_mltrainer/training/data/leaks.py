"""A single column that gives the target away: in all rows, or exactly in many of them."""

from dataclasses import replace
from typing import Any

import numpy as np

from pytest_mltrainer.training.data.columns import Array
from pytest_mltrainer.training.data.labels import Problem, best_reference
from pytest_mltrainer.training.data.samples import evenly

BINS = 64
LIMIT_BINS = 512
ALONE_LIMIT = 0.02
FEWEST_COLUMNS = 4
LINES = 200
LIMIT_ROWS = 500
# Rounding to single precision, in deviations of the target, on a line between points that are not
# too close to one another.
ON_LINE = 1e-5
CLOSEST = 0.1
REAL = 0.5
# The quartiles of a normal distribution are so many deviations apart.
QUARTILES = 1.349


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


def line_facts(posed: Problem, names: list[str]) -> dict[str, Any]:
    """The column in which most targets lie exactly on one straight line, and their share.

    Of lines through 200 pairs of 500 training rows drawn at random the fullest counts; a share of a
    tenth is met with 87 % probability, of a fifth always. `train` and `validation` are shares of
    all rows, of which only those count whose target occurs once: what is often 0 is often equal.
    Not judged for classes, for targets of which under half occur once, and under 4 columns.
    """
    single, held_out = _occur_once(posed.targets), _occur_once(posed.held_out)
    if posed.names or min(len(names), posed.train.shape[1]) < FEWEST_COLUMNS:
        return {"judged": False, "reason": f"no regression of a table of {FEWEST_COLUMNS} columns"}
    spread = min(float(np.std(posed.targets)), _quartiles_apart(posed.targets))
    if single.mean() < REAL or not spread:
        return {"judged": False, "reason": "most targets occur more than once"}
    rows = np.flatnonzero(single)
    rows = rows[evenly(len(rows), LIMIT_ROWS)]
    seen, wanted = posed.train[rows].astype(np.float64), posed.targets[rows] / spread
    pairs = np.random.default_rng(0).integers(0, len(rows), (2, LINES))
    lines = [_fullest_line(seen[:, column], wanted, pairs) for column in range(seen.shape[1])]
    best = max(range(len(lines)), key=lambda column: lines[column][0])
    _, slope, level = lines[best]

    def share(column: Array, targets: Array, counted: Array) -> float:
        apart = np.abs(slope * column.astype(np.float64) + level - targets / spread)
        return float(((apart <= ON_LINE) & counted).mean())

    return {
        "judged": True,
        "column": names[best],
        "train": share(posed.train[:, best], posed.targets, single),
        "validation": share(posed.validation[:, best], posed.held_out, held_out),
    }


def _occur_once(targets: Array) -> Array:
    values, counts = np.unique(targets, return_counts=True)
    return np.isin(targets, values[counts == 1])


def _quartiles_apart(targets: Array) -> float:
    """A deviation that a few wild targets do not widen."""
    low, high = np.quantile(targets, (0.25, 0.75))
    return float(high - low) / QUARTILES


def _fullest_line(seen: Array, wanted: Array, pairs: Array) -> tuple[float, float, float]:
    """The largest share of rows on a line through a pair, and the line's slope and level."""
    one, two = pairs
    apart = seen[two] - seen[one]
    usable = np.abs(apart) > CLOSEST
    if not usable.any():
        return 0.0, 0.0, 0.0
    one, two, apart = one[usable], two[usable], apart[usable]
    slopes = (wanted[two] - wanted[one]) / apart
    levels = wanted[one] - slopes * seen[one]
    on_line = np.abs(np.outer(slopes, seen) + levels[:, None] - wanted) <= ON_LINE
    fullest = int(on_line.sum(axis=1).argmax())
    return float(on_line[fullest].mean()), float(slopes[fullest]), float(levels[fullest])


def _error_of(posed: Problem, columns: list[int]) -> float:
    less = replace(
        posed, train=posed.train[:, columns], validation=posed.validation[:, columns], words=None
    )
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
