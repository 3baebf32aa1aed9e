"""What does the test set, opened once, say?"""

from collections.abc import Iterator

import numpy as np
from pytest_mltrainer.gates.outputs import (
    need_enough,
    need_every_part,
    need_finite,
    no_part_is_lost,
    not_finite,
)

from pytest_mltrainer.core.config import Limits
from pytest_mltrainer.core.digests import sha256_file
from pytest_mltrainer.core.judge import Judge, guided_by
from pytest_mltrainer.core.ledger import FINAL_TRAINING, OPENING, events
from pytest_mltrainer.core.measurement import number
from pytest_mltrainer.documents.compare import differences, missing_sections
from pytest_mltrainer.evaluation.confusion import part_recalls
from pytest_mltrainer.evaluation.intervals import difference, measure
from pytest_mltrainer.evaluation.metrics import METRICS
from pytest_mltrainer.evaluation.predictions import Predictions
from pytest_mltrainer.training.results import (
    PART_NAMES,
    calibration_text,
    error_plot,
    final_results,
)
from pytest_mltrainer.training.run import Evaluation, TrainingRun


def test_test_evaluated(training_run: TrainingRun, evaluation: Evaluation, judge: Judge) -> None:
    """The stored raw predictions are those of the best checkpoint on planning's test split.

    The split is found again by its digest, the predictions are made again in this process and
    compared sample by sample (1e-4 of their scale), and the opening stands in the ledger. Every
    metric with its interval, the recall of each class and the calibration are noted.
    """
    again, _ = training_run.profiled
    recorded = training_run.planned("splits.json")["splits"]["test"]["digest"]
    judge.equal(again["splits"]["test"]["digest"], recorded, what="digest of the test split")
    stored = Predictions.load(training_run.folder.artifact("predictions/test.npz"))
    found = evaluation.test.predictions
    judge.equal(stored.outputs.shape, found.outputs.shape, what="shape of the stored predictions")
    broken = not_finite(found)
    judge.that(
        not broken,
        what="outputs of the model on the test set",
        measured=f"not finite for {broken}" if broken else "finite",
        wanted="finite: look at what the model divides by, or takes the logarithm of",
    )
    scale = max(float(np.abs(found.outputs).max()), 1.0)
    judge(
        float(np.abs(stored.outputs - found.outputs).max()),
        what="largest difference between stored and repeated predictions",
        at_most=1e-4 * scale,
        artifact=training_run.described("predictions/test.npz"),
    )
    model = sha256_file(training_run.folder.artifact("checkpoints/best.pt"))
    opened = [entry for entry in events(training_run.run_folder) if entry["event"] == OPENING]
    entered = [entry for entry in opened if entry["model"] == model]
    judge.equal(len(entered), 1, what="openings of the test set by this model in the ledger")
    judge.note(f"the test set was opened by {len(opened)} models in all")
    for note in _measured(training_run, evaluation):
        judge.note(note)


def _measured(run: TrainingRun, evaluation: Evaluation) -> Iterator[str]:
    """Every metric with its interval, the recall of each class or label, and the calibration."""
    predictions = evaluation.test.predictions
    for name, score in evaluation.test.scores.items():
        known = METRICS.get(name)
        text = measure(known, predictions).text() if known else number(float(score))
        yield f"test {name}: {text}"
    for part, recall in part_recalls(predictions, run.task.kind).items():
        yield f"recall of {PART_NAMES[run.task.kind]} {part}: {recall.text()}"
    yield calibration_text(run)


@guided_by("overfitting", "underfitting")
def test_target_met(
    training_run: TrainingRun, evaluation: Evaluation, limits: Limits, judge: Judge
) -> None:
    """The objective's metric on the test set meets the target, by its point estimate.

    The interval and the number of final trainings are printed: the best of 20 seeds buys 1.5 points
    on 360 images. A test set of fewer than `min_samples_per_class` samples cannot be judged.
    """
    target = training_run.config.objective.target
    if target is None:
        judge.not_applicable("objective.target is not set")
    every = events(training_run.run_folder)
    trainings = sum(entry["event"] == FINAL_TRAINING for entry in every)
    judge.note(f"final trainings started: {trainings}")
    test = evaluation.test
    need_finite(test.predictions, "the test set", judge)
    need_enough(test.predictions, limits, judge)
    what = f"test {test.metric.name}"
    if training_run.maximize:
        judge(test.objective, what=what, at_least=target)
    else:
        judge(test.objective, what=what, at_most=target)


@guided_by("overfitting", "data_leakage")
def test_val_test_gap(
    training_run: TrainingRun, evaluation: Evaluation, limits: Limits, judge: Judge
) -> None:
    """Validation does not beat test by more than `max_val_test_gap_points`.

    Both are recomputed from the best checkpoint. A wide gap means that the model, or the choice
    between models, was fitted to the validation set. Fails when the lower bound of the 95 %
    interval of the difference is above the limit, so that a small test set cannot block by chance.
    A regression is judged by RMSE in standard deviations of the target.
    """
    validation, test = evaluation.validation.predictions, evaluation.test.predictions
    need_finite(validation, "validation", judge)
    need_finite(test, "the test set", judge)
    if training_run.task.kind == "regression":
        spread = float(test.targets.std())
        if not spread:
            judge.cannot("the targets of the test set are constant")
        gap = difference(METRICS["rmse"], test, validation)
        scale, limit, unit = 1 / spread, limits.max_val_test_gap_sd, "target SD"
    else:
        metric = training_run.metric
        pair = (validation, test) if metric.maximize else (test, validation)
        gap = difference(metric, *pair)
        scale, limit, unit = 100.0, limits.max_val_test_gap_points, "points"
    judge(
        gap.scaled(scale, unit),
        what="advantage of validation over test",
        at_most=limit,
        by="lower bound",
        unit=unit,
    )


@guided_by("underfitting")
def test_confusion_analysed(
    training_run: TrainingRun, evaluation: Evaluation, limits: Limits, judge: Judge
) -> None:
    """The errors in `test_results.md` and its plot are the recomputed ones, and no class is lost.

    A class, or one of several labels, fails when the upper bound of its recall is under
    `min_class_recall`. With fewer than `min_samples_per_class` samples it cannot be decided and is
    listed; one that validation has and the test set lacks cannot be judged. A regression has
    residuals over quantiles of the target instead. The recalls of tokens are noted: those of one
    sequence are not independent, so their intervals decide nothing.
    """
    found = training_run.text("test_results.md")
    judge.equal(missing_sections(found, ["Errors"]), [], what="missing sections")
    different = [
        entry.text()
        for entry in differences(found, final_results(training_run))
        if entry.section == "Errors"
    ]
    judge.that(
        not different,
        what="errors in test_results.md that differ from what is recomputed",
        measured="; ".join(different[:3]) or "none",
        wanted="none",
        artifact=training_run.described("test_results.md"),
    )
    for name, redrawn in error_plot(training_run).items():
        stored = training_run.folder.artifact(name).read_bytes()
        judge.equal(stored == redrawn, True, what=f"{name} shows the recomputed errors")
    validation, test = evaluation.validation.predictions, evaluation.test.predictions
    need_every_part(validation, test, training_run.task.kind, limits, judge)
    no_part_is_lost(test, training_run.task.kind, limits, judge)
