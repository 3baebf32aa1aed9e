"""The bodies of checks that several gates share."""

import numpy as np

from pytest_mltrainer.core.config import load_config
from pytest_mltrainer.core.judge import Judge
from pytest_mltrainer.training.progress import Progress
from pytest_mltrainer.training.resumption import resumable_checkpoint, resume_afresh
from pytest_mltrainer.training.run import TrainingRun
from pytest_mltrainer.training.task import Task


def training_completed(run: TrainingRun, judge: Judge) -> None:
    """As many updates as planned, or as many epochs as early stopping, re-evaluated, asks for."""
    if type(run.task).train is not Task.train:
        judge.not_applicable("the task trains by a loop of its own, whose length is not planned")
    training = run.config.training
    batches = -(-len(run.splits.train) // training.batch_size)  # type: ignore[arg-type]
    updates = -(-batches // training.accumulate)
    done = len(run.telemetry.steps)
    wanted = updates * stopping_epoch(run)
    ending = "the run turned non-finite" if run.has("fault.json") else "the run ended early"
    judge.that(
        done == wanted,
        what="updates recorded",
        measured=f"{done}" if done == wanted else f"{done} ({ending})",
        wanted=f"{wanted} ({updates} an epoch, {stopping_epoch(run)} of {training.epochs} epochs)",
        artifact=run.described("telemetry/steps.rec"),
    )


def stopping_epoch(run: TrainingRun) -> int:
    """How many epochs are asked for, early stopping re-evaluated on what was logged."""
    training = run.config.training
    progress = Progress()
    for record in run.telemetry.epochs:
        value = record.validation[run.metric.name]
        progress.update(
            record.epoch, value, maximize=run.maximize, stopping=training.early_stopping
        )
        if progress.stopped_early:
            return progress.epochs_done
    return training.epochs


def best_is_best(run: TrainingRun, judge: Judge) -> None:
    """The best checkpoint loads safely, fits the model, and is of the best logged epoch."""
    best = run.best_logged_epoch()
    if best is None:
        judge.cannot("no epoch has a finite validation metric, so there is no best one")
    checkpoint = run.checkpoint("best")
    run.model(checkpoint)
    judge.equal(
        checkpoint.epoch,
        best,
        what=f"epoch of the best checkpoint, by the logged validation {run.metric.name}",
        artifact=run.described("checkpoints/best.pt"),
    )


def metric_recomputed(run: TrainingRun, judge: Judge) -> None:
    """The metric of the best checkpoint, predicted anew, is the one that was logged."""
    best = run.best_logged_epoch()
    if best is None:
        judge.cannot("no epoch has a finite validation metric")
    logged = run.telemetry.epochs[best].validation[run.metric.name]
    validation = run.evaluation.validation
    found = validation.scores[run.metric.name]
    one_sample = 1 / len(validation.predictions.targets) if run.metric.scale == "proportion" else 0
    judge(
        abs(found - logged),
        what=f"validation {run.metric.name} recomputed {found:.6f} against logged {logged:.6f}",
        at_most=max(one_sample, run.config.limits.max_metric_difference * abs(logged)),
        artifact=run.described("checkpoints/best.pt"),
    )


def resumes(run: TrainingRun, judge: Judge) -> None:
    """A fresh process goes on from the latest checkpoint and repeats the recorded steps exactly."""
    steps = run.config.limits.probe_steps
    found = resumable_checkpoint(run, steps)
    if found is None:
        judge.not_applicable(f"no periodic checkpoint has {steps} recorded steps behind it")
    name, start = found
    repeated = resume_afresh(run, load_config(run.project.config_path), name, steps)
    recorded = run.telemetry.steps[start : start + steps]
    judge.equal(len(repeated), steps, what=f"steps trained again behind {name}")
    for column in ("step", "learning_rate", "loss", "gradient_norm"):
        different = np.flatnonzero(repeated[column] != recorded[column])
        if different.size:
            row = int(different[0])
            judge.fail(
                what=f"{column} of step {start + row}, resumed from {name}",
                measured=float(repeated[column][row]).hex(),
                wanted=float(recorded[column][row]).hex(),
                artifact=run.described(f"checkpoints/{name}.pt"),
            )
    judge.that(
        True,
        what=f"{steps} steps behind {name}, trained again in a fresh process",
        measured="loss, gradient norm and learning rate equal bit for bit",
        wanted="equal",
        artifact=run.described(f"checkpoints/{name}.pt"),
    )
