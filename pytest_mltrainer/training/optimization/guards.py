"""What an optimized model must not lose beside its objective: guard metrics, slices, costs.

Each is compared with the baseline on the same fresh seeds. A guard is broken only where its whole
interval lies beyond the limit, so that few samples cannot block by chance.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pytest_mltrainer.core.judge import Bound
from pytest_mltrainer.core.measurement import Measurement, number
from pytest_mltrainer.evaluation.crossed import SeedPair, crossed_gain
from pytest_mltrainer.evaluation.intervals import difference
from pytest_mltrainer.evaluation.metrics import METRICS, Metric, metric_named
from pytest_mltrainer.evaluation.predictions import Predictions
from pytest_mltrainer.training.optimization.comparison import fresh_seeds, seed_pairs
from pytest_mltrainer.training.optimization.trials import BASELINE, Trial, seed_trial, trial_run
from pytest_mltrainer.training.run import TrainingRun

SHORTEST_EPOCH_S = 1.0
"""Epochs of the baseline that are shorter say nothing of the time that a model takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """One guard: what was measured, against what; `undecided` says why it is not judged."""

    name: str
    measured: Measurement
    bound: Literal["at least", "at most"]
    limit: float
    undecided: str = ""

    @property
    def by(self) -> Bound:
        """The end of the interval that decides: only if it is beyond the limit, all of it is."""
        if self.bound == "at least":
            return "value" if self.measured.high is None else "upper bound"
        return "value" if self.measured.low is None else "lower bound"

    @property
    def holds(self) -> bool:
        """Whether it holds, or cannot be decided; a value that is not finite does not hold."""
        if self.undecided:
            return True
        ends = {"upper bound": self.measured.high, "lower bound": self.measured.low}
        decisive = ends.get(self.by)
        value = self.measured.value if decisive is None else decisive
        within = value >= self.limit if self.bound == "at least" else value <= self.limit
        return math.isfinite(self.measured.value) and within

    def text(self) -> str:
        """`gain in macro_f1: -0.0312 (n = 360, ...), at least -0.0200`."""
        said = f"{self.name}: {self.measured.text()}, {self.bound} {number(self.limit)}"
        return f"{said}; {self.undecided}" if self.undecided else said


def guards_of(run: TrainingRun, trials: Mapping[str, Trial], winner: str) -> tuple[Guard, ...]:
    """Every guard of `winner` against the baseline; none where no seed has both.

    `run` is the optimization's. Metrics and slices by the predictions on the fresh seeds, the gap
    between training and validation by the models of the first of them.
    """
    pairs = seed_pairs(run, trials, winner, BASELINE)
    if not pairs:
        return ()
    names = [
        tuple(seed_trial(number, side) for side in (winner, BASELINE))
        for number, seed in enumerate(fresh_seeds(run.config), 1)
        if seed in {pair.seed for pair in pairs}
    ]
    return (
        *_metrics(run, pairs),
        *_slices(run, pairs),
        _gap(run, *names[0]),
        _time(run, names),
        _memory(run, trials, names),
    )


def broken_guards(guards: Sequence[Guard]) -> list[str]:
    """The names of those that do not hold."""
    return [guard.name for guard in guards if not guard.holds]


def _metrics(run: TrainingRun, pairs: Sequence[SeedPair]) -> list[Guard]:
    """The metrics of `objective.guards`: none falls by more than its margin."""
    return [
        _gain_guard(f"gain in {name}", metric_named(name, run.task.kind), pairs, margin)
        for name, margin in run.config.objective.guards.items()
    ]


def _slices(run: TrainingRun, pairs: Sequence[SeedPair]) -> list[Guard]:
    """The slices of `Task.slice_key`: in none does the objective fall by more than its margin."""
    n = len(pairs[0].winner)
    keys = np.array([str(run.task.slice_key("validation", place) or "") for place in range(n)])
    fewest = run.config.limits.min_samples_per_class
    found = []
    for key in sorted(set(keys) - {""}):
        parts = [
            SeedPair(
                seed=pair.seed,
                winner=_part(pair.winner, keys == key),
                reference=_part(pair.reference, keys == key),
            )
            for pair in pairs
        ]
        size = len(parts[0].winner)
        found.append(
            _gain_guard(
                f"gain in {run.metric.name} on slice {key}",
                run.metric,
                parts,
                run.config.objective.margin,
                maximize=run.maximize,
                undecided=f"{size} samples cannot decide it" if size < fewest else "",
            )
        )
    return found


def _part(
    predictions: Predictions, rows: "np.ndarray[tuple[int], np.dtype[np.bool_]]"
) -> Predictions:
    return Predictions(predictions.outputs[rows], predictions.targets[rows])


def _gain_guard(
    name: str,
    metric: Metric,
    pairs: Sequence[SeedPair],
    margin: float,
    *,
    maximize: bool | None = None,
    undecided: str = "",
) -> Guard:
    better = metric.maximize if maximize is None else maximize
    gain = crossed_gain(metric, pairs, maximize=better).measured
    return Guard(name=name, measured=gain, bound="at least", limit=-margin, undecided=undecided)


def _gap(run: TrainingRun, winner: str, baseline: str) -> Guard:
    """Training does not beat validation by more than the limit, or than it did in the baseline."""
    limits = run.config.limits
    regression = run.task.kind == "regression"
    limit = limits.max_train_val_gap_sd if regression else limits.max_train_val_gap_points
    own, before = (_gap_of(trial_run(run, name)) for name in (winner, baseline))
    known = before.value if math.isfinite(before.value) else limit
    return Guard(
        name="advantage of training over validation",
        measured=own,
        bound="at most",
        limit=max(limit, known),
    )


def _gap_of(run: TrainingRun) -> Measurement:
    train, validation = (
        part.predictions for part in (run.evaluation.train, run.evaluation.validation)
    )
    if run.task.kind == "regression":
        spread = float(validation.targets.std()) or math.nan
        return difference(METRICS["rmse"], validation, train).scaled(1 / spread, "target SD")
    pair = (train, validation) if run.maximize else (validation, train)
    share = run.metric.scale != "open"
    return difference(run.metric, *pair).scaled(100.0 if share else 1.0, "points")


def _time(run: TrainingRun, names: Sequence[tuple[str, ...]]) -> Guard:
    """The shortest epoch: what other programs take away makes the others longer."""
    own, before = (
        min(record.duration_s for name in side for record in trial_run(run, name).telemetry.epochs)
        for side in zip(*names, strict=True)
    )
    short = before < SHORTEST_EPOCH_S
    return Guard(
        name="time of an epoch, over the baseline's",
        measured=Measurement(value=own / before if before > 0 else math.nan),
        bound="at most",
        limit=run.config.limits.max_time_ratio,
        undecided=f"epochs of {before:.2g} s are too short to be judged by" if short else "",
    )


def _memory(
    run: TrainingRun, trials: Mapping[str, Trial], names: Sequence[tuple[str, ...]]
) -> Guard:
    """The peak on the device where there is one, else of the process; the largest of the seeds."""
    peaks = [[trials[name].memory for name in side] for side in zip(*names, strict=True)]
    on_device = all("device_mb" in peak for side in peaks for peak in side)
    key = "device_mb" if on_device else "host_mb"
    own, before = (max(float(peak.get(key, math.nan)) for peak in side) for side in peaks)
    ratio = own / before if before > 0 else math.nan
    return Guard(
        name="peak memory, over the baseline's",
        measured=Measurement(value=ratio),
        bound="at most",
        limit=run.config.limits.max_memory_ratio,
        undecided="" if math.isfinite(ratio) else "it was not measured",
    )
