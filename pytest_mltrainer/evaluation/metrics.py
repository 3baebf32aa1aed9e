"""The metrics, by name and by kind of task."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from pytest_mltrainer.core.errors import UserError, did_you_mean
from pytest_mltrainer.evaluation import tallies
from pytest_mltrainer.evaluation.predictions import Array

Scale = Literal["proportion", "share", "open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A score of outputs against targets, written as a function of sums over samples.

    `tally` gives each sample's addends, (n, k); `combine` turns sums (..., k) into scores (...).
    `scale`: a proportion is the mean of zeros and ones, a share lies between 0 and 1, an open
    score anywhere. `is_mean`: the score is the mean of the tally's first column.
    """

    name: str
    kinds: tuple[str, ...]
    maximize: bool
    tally: Callable[[Array, Array], Any]
    combine: Callable[[Array], Array] = tallies.ratio
    scale: Scale = "open"
    is_mean: bool = False
    unit: str = ""

    def score(self, outputs: Array, targets: Array) -> float:
        """The score; NaN for no samples, for outputs that are not finite, and where undefined.

        Raises UserError for shapes that do not belong to the metric's kind.
        """
        return self._combined(_sums(self.tally, outputs, targets))

    def _combined(self, sums: Array | None) -> float:
        if sums is None:
            return math.nan
        with np.errstate(all="ignore"):
            value = float(self.combine(sums))
        return value if math.isfinite(value) else math.nan

    def per_sample(self, outputs: Array, targets: Array) -> Array | None:
        """Values whose mean is the score, or None where the score is no mean over samples.

        Token accuracy is None as well: its mean runs over tokens, not over sequences.
        """
        if not self.is_mean:
            return None
        if len(outputs) == 0:
            return np.empty(0)
        with np.errstate(all="ignore"):
            return np.asarray(self.tally(outputs, targets)[:, 0])


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            name="accuracy",
            kinds=("classification",),
            maximize=True,
            tally=tallies.hits,
            scale="proportion",
            is_mean=True,
        ),
        Metric(
            name="balanced_accuracy",
            kinds=("classification",),
            maximize=True,
            tally=tallies.class_counts,
            combine=tallies.mean_recall,
            scale="share",
        ),
        Metric(
            name="macro_f1",
            kinds=("classification",),
            maximize=True,
            tally=tallies.class_counts,
            combine=tallies.mean_f1,
            scale="share",
        ),
        Metric(
            name="micro_f1",
            kinds=("multilabel",),
            maximize=True,
            tally=tallies.label_overlap,
            scale="share",
        ),
        Metric(
            name="label_accuracy",
            kinds=("multilabel",),
            maximize=True,
            tally=tallies.label_hits,
            scale="share",
            is_mean=True,
        ),
        Metric(
            name="subset_accuracy",
            kinds=("multilabel",),
            maximize=True,
            tally=tallies.subset_hits,
            scale="proportion",
            is_mean=True,
        ),
        Metric(
            name="r2",
            kinds=("regression",),
            maximize=True,
            tally=tallies.squared_errors,
            combine=tallies.determination,
        ),
        Metric(
            name="mae",
            kinds=("regression",),
            maximize=False,
            tally=tallies.absolute_errors,
            is_mean=True,
            unit="target units",
        ),
        Metric(
            name="rmse",
            kinds=("regression",),
            maximize=False,
            tally=tallies.squared_errors,
            combine=tallies.root_mean,
            unit="target units",
        ),
        Metric(
            name="token_accuracy",
            kinds=("sequence",),
            maximize=True,
            tally=tallies.token_hits,
            scale="share",
        ),
    )
}

DEFAULTS = {
    "classification": "accuracy",
    "multilabel": "micro_f1",
    "regression": "r2",
    "sequence": "token_accuracy",
}


def default_metric(kind: str) -> Metric:
    """The metric of a task that names none. Raises UserError for a kind without one."""
    if kind not in DEFAULTS:
        raise UserError(
            f"no default metric for tasks of kind '{kind}'; there are {', '.join(DEFAULTS)}."
            f"{did_you_mean(kind, DEFAULTS)} Name the metric in the objective"
        )
    return METRICS[DEFAULTS[kind]]


def metric_named(name: str, kind: str) -> Metric:
    """The metric `name` for tasks of `kind`. Raises UserError that lists what there is."""
    metric = METRICS.get(name)
    if metric is not None and kind in metric.kinds:
        return metric
    known = [other.name for other in METRICS.values() if kind in other.kinds]
    found = f"'{name}' is for {', '.join(metric.kinds)}" if metric else f"no metric '{name}'"
    there = f"for {kind} there are {', '.join(known)}" if known else f"for {kind} there is none"
    raise UserError(f"metric: {found}; {there}.{did_you_mean(name, known)}")


def all_metrics(kind: str, outputs: Array, targets: Array) -> dict[str, float]:
    """Every metric of the kind by name, NaN where undefined; empty for a kind without any."""
    metrics = [metric for metric in METRICS.values() if kind in metric.kinds]
    # Several metrics are made of the same sums.
    tallies_in_use = {metric.tally for metric in metrics}
    tallied = {tally: _sums(tally, outputs, targets) for tally in tallies_in_use}
    return {metric.name: metric._combined(tallied[metric.tally]) for metric in metrics}


def _sums(tally: Callable[[Array, Array], Any], outputs: Array, targets: Array) -> Array | None:
    if len(outputs) == 0:
        return None
    with np.errstate(all="ignore"):
        return np.asarray(tally(outputs, targets).sum(axis=0), dtype=np.float64)
