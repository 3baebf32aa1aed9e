"""Are the bottleneck and the learning curve measured, and do they say what was concluded?"""

import math

import numpy as np
from pytest_mltrainer.gates.common import examined, says_the_same

from pytest_mltrainer.core.judge import Judge
from pytest_mltrainer.training.diagnosing.bottleneck import LOADING_LIMIT, PARTS, breakdown
from pytest_mltrainer.training.diagnosing.diagnosis import baseline_of, why_broken
from pytest_mltrainer.training.diagnosing.learning_curve import plan_curve, raw_predictions, rows_of
from pytest_mltrainer.training.run import TrainingRun, training_targets

TOLERANCE = 0.02
"""Share of a step by which its parts may exceed it: the clocks of both sides tick apart."""


def test_bottleneck_measured(training_run: TrainingRun, judge: Judge) -> None:
    """The parts of each timed step add up to it, and steps without loading show what loading costs.

    Waiting, forward, backward and update are timed apart from the step itself, so together they
    must not exceed it by more than 2 %; what is left is called rest. Shares are computed again from
    the raw times. How fast the machine is decides nothing.
    """
    timed = training_run.json("bottleneck.json")
    split = breakdown(timed["loaded"], timed["repeated"])
    if split is None:
        judge.not_applicable("the training ends before its second step: there is nothing to time")
    rows = [*timed["loaded"], *timed["repeated"]]
    bad = sum(not math.isfinite(row[name]) or row[name] < 0 for row in rows for name in row)
    judge(bad, what=f"times that are negative or not finite, in {len(rows)} steps", at_most=0)
    total = sum(row["step"] for row in rows)
    judge(
        sum(row[part] for row in rows for part in PARTS) / total,
        what="waiting, forward, backward and update, as a share of their steps",
        at_most=1 + TOLERANCE,
        artifact=training_run.described("bottleneck.json"),
    )
    judge(abs(sum(split.shares.values()) - 1), what="what shares lack of a whole", at_most=1e-9)
    says_the_same(
        judge,
        training_run.json("breakdown.json"),
        split.to_json(),
        what="shares, computed again from the raw times",
    )
    waiting = split.shares["waiting"]
    judge.note(f"{split.loading:.0%} of a step go away without loading, {waiting:.0%} are waiting")
    judge.note(f"{split.text()}; it would be from {LOADING_LIMIT:.0%} of both on")


def test_capacity_judged(training_run: TrainingRun, judge: Judge) -> None:
    """The learning curve over a quarter, half and all rows says bias, variance, data, or flat.

    Scores, intervals and the conclusion come anew from the raw predictions, all rows from the
    baseline's best checkpoint; the parts must hold the rows that the seed draws. The cost is
    estimated from the baseline's epochs and must be within `budgets.diagnosis_minutes`, or the
    trainings were left out and it was said. Not applicable to a broken baseline.
    """
    baseline = baseline_of(training_run)
    broken = why_broken(baseline)
    stored = training_run.json("capacity.json")
    plan = plan_curve(
        baseline,
        training_run.config.budgets.diagnosis_minutes,
        broken.reason if broken else "",
    )
    wanted = {name: getattr(plan, name) for name in plan.__slots__}
    says_the_same(judge, stored["plan"], wanted, what="plan of the learning curve")
    if broken:
        judge.not_applicable(f"the baseline is broken: {broken.reason}")
    if plan.refused:
        judge.that(
            not [name for name in training_run.manifest.artifacts if name.endswith(".npz")],
            what="trainings that were left out",
            measured="predictions are there",
            wanted=f"none, and it is said: {plan.refused}",
        )
        return
    if stored["failed"]:
        judge.cannot(stored["failed"])
    judge(plan.estimated_s / 60, what="estimated cost", at_most=plan.budget_s / 60, unit="minutes")
    _same_rows(training_run, judge)
    curve = examined(training_run).curve
    says_the_same(
        judge,
        training_run.json("learning_curve.json"),
        curve.to_json(),
        what="learning curve, scored anew from the raw predictions",
    )
    for point in curve.points:
        judge.note(f"{point.share:.0%} of the rows: validation {point.validation.text()}")
    judge.note(f"{curve.kind}: {curve.reason}")


def _same_rows(run: TrainingRun, judge: Judge) -> None:
    """Each training's rows and the validation set, by their targets."""
    baseline = baseline_of(run)
    plan = plan_curve(baseline, run.config.budgets.diagnosis_minutes, "")
    targets = training_targets(baseline.splits)
    validation = baseline.evaluation.validation.predictions.targets
    for share, (train, other) in sorted(raw_predictions(run, baseline, plan).items()):
        rows = rows_of(share, targets, kind=baseline.task.kind, seed=baseline.config.seed)
        same = np.array_equal(train.targets, targets[rows], equal_nan=targets.dtype.kind == "f")
        judge.that(
            same and np.array_equal(other.targets, validation),
            what=f"targets of {share:.0%} of the rows, and of validation",
            measured="others",
            wanted="those of the rows that the seed draws",
        )
