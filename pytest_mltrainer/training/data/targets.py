"""Targets as one column: class labels or values, with what the profile says of them."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from pytest_mltrainer.training.data.columns import LIMIT_SHOWN, Array, Moments
from pytest_mltrainer.training.data.samples import Samples

LIMIT_CLASSES = 1_000
SOFT = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One number a sample: codes of `names` (classes), or values. None with a `reason`."""

    values: Array | None = None
    names: tuple[str, ...] = ()
    reason: str = ""


def target_columns(kind: str, splits: dict[str, Samples]) -> dict[str, Column]:
    """The column of each split; classes are coded alike in all of them.

    Rows of probabilities over classes count as their largest. Several labels or values a sample
    make no column.
    """
    if kind not in ("classification", "regression"):
        return {name: Column(reason=f"a {kind} target is no single column") for name in splits}
    columns = {}
    for name, split in splits.items():
        numbers = _single(kind, split)
        if numbers is None:
            return {name: Column(reason="targets are no single number a sample") for name in splits}
        columns[name] = numbers
    if kind == "regression":
        return {name: Column(values=values.astype(float)) for name, values in columns.items()}
    names = sorted(_labels_of(columns), key=lambda label: (len(label), label))
    codes = {label: code for code, label in enumerate(names)}
    return {
        name: Column(
            values=np.array([codes[str(label)] for label in values.tolist()], dtype=np.int64),
            names=tuple(names),
        )
        for name, values in columns.items()
    }


def targets_summary(kind: str, splits: dict[str, Samples]) -> dict[str, Any]:
    """Range and spread of training's targets, classes or labels counted by split.

    `nonfinite` counts all splits. Without readable targets `judged` is False, with the reason.
    """
    missing = [name for name, split in splits.items() if any(t is None for t in split.targets)]
    flat = {
        name: np.concatenate([t.reshape(-1) for t in split.targets if t is not None] or [EMPTY])
        for name, split in splits.items()
    }
    train = flat["train"].astype(np.float64)[:, None]
    found = Moments.of(train)
    known = bool(found.count[0])
    summary: dict[str, Any] = {
        "judged": not missing,
        "nonfinite": sum(int((~np.isfinite(part)).sum()) for part in flat.values()),
        "mean": float(found.mean[0]) if known else 0.0,
        "std": float(found.std[0]) if known else 0.0,
        "min": float(found.low[0]) if known else 0.0,
        "max": float(found.high[0]) if known else 0.0,
        "classes": None,
        "labels": None,
    }
    if missing:
        summary["reason"] = f"targets of {', '.join(missing)} are no numbers"
    elif kind == "classification":
        summary["classes"] = _class_counts(splits, flat)
    elif kind == "multilabel":
        summary["labels"] = _label_counts(splits)
    return summary


def nonfinite_targets(split: Samples) -> dict[str, Any]:
    """How many targets are not finite, and the first rows that have some."""
    bad = [0 if t is None else int((~np.isfinite(t)).sum()) for t in split.targets]
    rows = [split.rows[i] for i in np.flatnonzero(bad)]
    return {"count": sum(bad), "rows_affected": len(rows), "rows": rows[:LIMIT_SHOWN]}


EMPTY = np.zeros(0)


def _single(kind: str, split: Samples) -> Array | None:
    """One number a sample, or None."""
    known = [target for target in split.targets if target is not None]
    if not known or len(known) < len(split.targets) or len({t.shape for t in known}) > 1:
        return None
    table = np.stack(known).reshape(len(known), -1)
    if table.shape[1] == 1:
        return table[:, 0]
    soft = table.dtype.kind == "f" and table.min() >= 0 and abs(table.sum(1) - 1).max() < SOFT
    return table.argmax(axis=1) if kind == "classification" and soft else None


def _labels_of(columns: dict[str, Array]) -> set[str]:
    return {str(label) for values in columns.values() for label in np.unique(values).tolist()}


def _class_counts(splits: dict[str, Samples], flat: dict[str, Array]) -> dict[str, Any]:
    single = {name: _single("classification", split) for name, split in splits.items()}
    counts = {}
    for name, values in single.items():
        found = flat[name] if values is None else values
        counts[name] = Counter(map(str, found.tolist()))
    labels = sorted(set().union(*counts.values()), key=lambda label: (len(label), label))
    return {
        label: {name: counts[name][label] for name in splits} for label in labels[:LIMIT_CLASSES]
    }


def _label_counts(splits: dict[str, Samples]) -> dict[str, Any] | None:
    """Rows on which each label is set; None where rows differ in their number of labels."""
    totals = {}
    for name, split in splits.items():
        rows = [target.reshape(-1) for target in split.targets if target is not None]
        if len({len(row) for row in rows}) != 1:
            return None
        totals[name] = (np.stack(rows) > 0.5).sum(axis=0)
    width = min(len(counts) for counts in totals.values())
    return {
        str(label): {name: int(counts[label]) for name, counts in totals.items()}
        for label in range(min(width, LIMIT_CLASSES))
    }
