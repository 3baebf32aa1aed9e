"""Distances between samples: near duplicates across splits, and the scale to call them near by.

Features are standardised by the training split and clipped at 10 deviations, so that one wild
value makes no distance of its own.
"""

import itertools
from typing import Any

import numpy as np

from pytest_mltrainer.training.data.columns import LIMIT_SHOWN, Array, Moments
from pytest_mltrainer.training.data.samples import Samples, evenly

CLIP = 10.0
MOST_CLIPPED = 0.1
LIMIT_DISTANCES = 1_000_000
ROWS_AT_ONCE = 1_000
NEIGHBOURS = 10
LIMIT_QUERIES = 2_000
# A tenth of the usual distance to the nearest neighbour: in 3 dimensions one row in 1,000.
NEAR = 0.1
FEWEST_ROWS = 50


class Scale:
    """Standardises features by one split's mean and deviation; constant columns become 0."""

    def __init__(self, features: Array) -> None:
        """`features` of the training split; what is not finite counts as the mean."""
        found = Moments.of(features[:ROWS_AT_ONCE].astype(np.float64))
        for start in range(ROWS_AT_ONCE, len(features), ROWS_AT_ONCE):
            part = features[start : start + ROWS_AT_ONCE]
            found.merge(Moments.of(part.astype(np.float64)))
        self.mean = found.mean.astype(np.float32)
        # Not std > 0: the deviation of a constant 0.1 is not 0 but a rounding error.
        self.std = np.where(found.low < found.high, found.std, np.inf).astype(np.float32)

    def apply(self, features: Array) -> Array:
        """The features in deviations from the mean, within 10, in place; unknown values are 0."""
        with np.errstate(all="ignore"):
            features -= self.mean
            features /= self.std
        np.nan_to_num(features, copy=False, nan=0.0, posinf=CLIP, neginf=-CLIP)
        return np.clip(features, -CLIP, CLIP, out=features)


def nearest(queries: Array, table: Array, k: int, own: Array | None = None) -> tuple[Array, Array]:
    """Distances to the k nearest rows of `table`, ascending, and their indices.

    `own` gives for each query the row of `table` that is itself and does not count. Blocks of
    queries keep the memory at a million distances.
    """
    k = min(k, len(table) - (own is not None))
    squares = np.einsum("ij,ij->i", table, table)
    distances = np.empty((len(queries), k), dtype=np.float32)
    indices = np.empty((len(queries), k), dtype=np.int64)
    step = max(1, LIMIT_DISTANCES // len(table))
    for start in range(0, len(queries), step):
        rows = slice(start, start + step)
        block = queries[rows]
        apart = squares - 2 * (block @ table.T)
        apart += np.einsum("ij,ij->i", block, block)[:, None]
        if own is not None:
            apart[np.arange(len(block)), own[rows]] = np.inf
        # The least of all is found twenty times faster than by a partition.
        found = (
            apart.argmin(axis=1)[:, None]
            if k == 1
            else np.argpartition(apart, k - 1, axis=1)[:, :k]
        )
        order = np.argsort(np.take_along_axis(apart, found, axis=1), axis=1, kind="stable")
        indices[rows] = np.take_along_axis(found, order, axis=1)
        distances[rows] = np.take_along_axis(apart, indices[rows], axis=1)
    return np.sqrt(np.maximum(distances, 0)), indices


def near_duplicates(splits: dict[str, Samples], scaled: dict[str, Array]) -> dict[str, Any]:
    """Samples of one split that lie next to a sample of another, by pair of splits.

    Next to: within a tenth of the usual distance to the nearest neighbour in training, which is
    read off the 10th neighbour, whom a few copies do not move. `chance` is the share that would be
    as near in data of that intrinsic dimension, ln 2 times 0.1 to its power; `share` is measured
    and `estimated` allows for samples of the first split that were not read.
    Equal samples count as near. Up to 2,000 rows are looked up among up to 20,000.
    """
    train = scaled["train"]
    if len(train) < FEWEST_ROWS or not np.ptp(train, axis=0).any():
        return {"judged": False, "reason": f"under {FEWEST_ROWS} training samples that differ"}
    dimension, usual = _spacing(train)
    if not usual:
        return {"judged": False, "reason": "most training samples have equal ones"}
    found: dict[str, Any] = {
        "judged": True,
        "dimension": round(dimension, 3),
        "chance": float(min(1.0, np.log(2) * NEAR**dimension)),
        "pairs": {},
    }
    for one, other in itertools.combinations(splits, 2):
        queries = np.array(evenly(len(scaled[other]), LIMIT_QUERIES))
        distances, indices = nearest(scaled[other][queries], scaled[one], 1)
        # What was cut off at 10 deviations is equal only because of that.
        distances[(np.abs(scaled[other][queries]) >= CLIP).mean(axis=1) > MOST_CLIPPED] = np.inf
        near = np.flatnonzero(distances[:, 0] <= NEAR * usual)
        examples = [
            [one, splits[one].rows[indices[i, 0]], other, splits[other].rows[queries[i]]]
            for i in near[:LIMIT_SHOWN]
        ]
        found["pairs"][f"{one}/{other}"] = {
            "near": len(near),
            "of": len(queries),
            "share": len(near) / len(queries),
            "estimated": min(1.0, len(near) / len(queries) * splits[one].n / len(scaled[one])),
            "examples": examples,
        }
    return found


def chance_equal(one: Array, other: Array, groups: Array | None = None) -> tuple[float, float]:
    """Which share of `other` `one` would hold if its columns were independent.

    Of its distinct rows and of all of them. Counted after permuting each column of `one`, within
    `groups` (classes) where they are given: near 0 for measured values, high in tables of a few
    categories and in short texts of a few words, which repeat their rows by nature. The columns of
    one category stay together.
    """
    generator = np.random.default_rng(0)
    mixed = one.copy()
    categories = _one_hot(one)
    for group in [None] if groups is None else np.unique(groups):
        rows = np.arange(len(one)) if group is None else np.flatnonzero(groups == group)
        for columns in categories:
            mixed[rows[:, None], columns] = one[generator.permutation(rows)[:, None], columns]
    there = {row.tobytes() for row in mixed}
    looked_up = [row.tobytes() for row in np.ascontiguousarray(other)]
    distinct = set(looked_up)
    return (
        len(distinct & there) / max(len(distinct), 1),
        sum(row in there for row in looked_up) / max(len(looked_up), 1),
    )


def _one_hot(table: Array) -> list[list[int]]:
    """Columns in neighbouring groups: those that say at most one category in 0 and 1, others alone.

    The sum need not be 1: the first category is often left out, and unknown ones have no column.
    """
    low, high = table.min(axis=0), table.max(axis=0)
    is_high = (table == high) & (low < high)
    is_binary = (is_high | (table == low)).all(axis=0)
    found: list[list[int]] = []
    said = np.zeros(len(table), dtype=bool)
    for column in range(table.shape[1]):
        belongs = is_binary[column] and not (said & is_high[:, column]).any()
        if found and belongs and is_binary[column - 1]:
            found[-1].append(column)
            said |= is_high[:, column]
        else:
            found.append([column])
            said = is_high[:, column].copy()
    return found


def _spacing(table: Array) -> tuple[float, float]:
    """Intrinsic dimension, and the usual distance to the nearest neighbour that follows from it.

    The number of neighbours grows with distance to the power of the dimension, so the 10th is
    2^(1/d) times as far as the 5th and 10^(1/d) times as far as the first.
    """
    own = np.array(evenly(len(table), LIMIT_QUERIES))
    distances, _ = nearest(table[own], table, NEIGHBOURS, own)
    fifth, tenth = distances[:, NEIGHBOURS // 2 - 1], distances[:, -1]
    known = fifth > 0
    growth = float(np.mean(np.log(tenth[known] / fifth[known]))) if known.any() else 0.0
    dimension = np.log(2) / max(growth, 1e-2)
    return dimension, float(np.median(tenth) * NEIGHBOURS ** (-1 / dimension))
