"""Did the training run whole, finite, and learn something?"""

import numpy as np
from pytest_mltrainer.gates.common import training_completed

from pytest_mltrainer.core.config import Limits
from pytest_mltrainer.core.judge import Judge, guided_by
from pytest_mltrainer.evaluation.intervals import FEWEST_FOR_TREND, change
from pytest_mltrainer.training.observation.telemetry import Telemetry
from pytest_mltrainer.training.run import Evaluation, TrainingRun


@guided_by("nan_loss")
def test_run_completed(training_run: TrainingRun, judge: Judge) -> None:
    """As many updates were recorded as the session planned.

    Planned are `training.epochs`; where early stopping is on, its rule is applied again to the
    logged validation metric and must stop at the same epoch. Where several processes trained
    together, all of them ended with the same parameters.
    """
    training_completed(training_run, judge)


@guided_by("nan_loss")
def test_losses_finite(training_run: TrainingRun, telemetry: Telemetry, judge: Judge) -> None:
    """Every recorded loss, gradient norm and metric is finite, and the run met no other value.

    A run is stopped before the update that would use a non-finite loss or gradient, and says where.
    """
    if training_run.has("fault.json"):
        fault = training_run.json("fault.json")
        judge.fail(
            what=f"{fault['what']} at step {fault['step']} (epoch {fault['epoch']})",
            measured=fault["loss"] if fault["what"] == "loss" else fault["gradient_norm"],
            wanted="finite",
            artifact=training_run.described("fault.json"),
        )
    if not len(telemetry.steps):
        judge.cannot("no step was recorded")
    for column in ("loss", "gradient_norm"):
        bad = int((~np.isfinite(telemetry.steps[column])).sum())
        judge(bad, what=f"steps with a {column} that is not finite", at_most=0)
    for record in telemetry.epochs:
        values = {**record.train, **record.validation}
        bad_names = [name for name, value in values.items() if not np.isfinite(value)]
        if bad_names:
            judge.equal(bad_names, [], what=f"metrics of epoch {record.epoch} not finite")


@guided_by("convergence_stall", "unnormalized_data")
def test_loss_decreased(telemetry: Telemetry, judge: Judge) -> None:
    """The training loss fell: the interval of its change lies below 0.

    How far the last tenth of the steps lies from the first, in the median, with its 95 % interval.
    """
    steps = len(telemetry.steps)
    if steps < FEWEST_FOR_TREND:
        judge.cannot(f"{steps} steps are too few to see a trend, {FEWEST_FOR_TREND} are needed")
    judge(
        change(telemetry.steps["loss"]),
        what="change of the training loss from the first tenth to the last",
        below=0.0,
        by="upper bound",
    )


@guided_by("convergence_stall", "underfitting", "unnormalized_data")
def test_beats_trivial(evaluation: Evaluation, judge: Judge) -> None:
    """The model is better on validation than one that never looks at its input.

    Paired on the same samples against the class prior, the mean, or the majority token of the
    training targets; the interval of the advantage must lie above 0.
    """
    validation = evaluation.validation
    judge(
        validation.above_trivial,
        what=f"advantage in {validation.metric.name} over a trivial model",
        above=0.0,
        by="lower bound",
    )


def test_resources_used(
    training_run: TrainingRun, telemetry: Telemetry, limits: Limits, judge: Judge
) -> None:
    """Peak memory and throughput are measured, and a long run does not mostly wait for data.

    Throughput and the share of waiting follow from the step records. The share is judged by
    `max_wait_share` where training took over `wait_judged_after_minutes`, else noted: the first
    batches of a short run wait for everything to start.
    """
    seconds = float(telemetry.steps["step_s"].sum())
    if seconds <= 0:
        judge.cannot("no step time was recorded")
    memory = training_run.json("resources.json")
    judge(memory["host_mb"], what="peak memory of the worker", above=0, unit="MB")
    if "device_mb" in memory:
        judge.note(f"peak memory of the accelerator: {memory['device_mb']:.0f} MB")
    judge(len(telemetry.steps) / seconds, what="updates per second", above=0)
    share = float(telemetry.steps["wait_s"].sum()) / seconds
    if seconds < limits.wait_judged_after_minutes * 60:
        judge.note(f"{share:.0%} of the step time went by waiting for data (a short run: noted)")
        return
    judge(share, what="share of the step time spent waiting", at_most=limits.max_wait_share)


def test_time_budget(training_run: TrainingRun, judge: Judge) -> None:
    """The epochs took at most `budgets.baseline_minutes` together; how even they were is noted."""
    durations = np.array([record.duration_s for record in training_run.telemetry.epochs])
    if not durations.size:
        judge.cannot("no epoch was recorded")
    if durations.size > 1:
        judge.note(f"epochs took {durations.min():.2f} to {durations.max():.2f} s")
    judge(
        float(durations.sum() / 60),
        what="training time",
        at_most=training_run.config.budgets.baseline_minutes,
        unit="minutes",
    )
