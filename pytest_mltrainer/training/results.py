"""The results documents: pure functions of recomputed values, so a gate can write them anew."""

import math
from collections.abc import Sequence

from pytest_mltrainer.core.decision import Decision
from pytest_mltrainer.core.measurement import Measurement, number
from pytest_mltrainer.core.ranking import Findings
from pytest_mltrainer.documents.markdown import Document
from pytest_mltrainer.documents.plots import confusion_plot, learning_curve, residual_plot
from pytest_mltrainer.evaluation.confusion import (
    calibration_error,
    class_recalls,
    confusion_matrix,
    named_confusions,
    part_recalls,
    residual_quantiles,
)
from pytest_mltrainer.evaluation.intervals import measure
from pytest_mltrainer.evaluation.metrics import METRICS
from pytest_mltrainer.training.run import SplitEvaluation, TrainingRun

PART_NAMES = {"classification": "class", "multilabel": "label", "sequence": "token"}
BASELINE_SECTIONS = ("Objective", "Validation", "Training", "Decision", "Diagnosis")
TEST_SECTIONS = ("Objective", "Test set", "Calibration", "Validation beside test", "Errors")


def baseline_results(run: TrainingRun) -> str:
    """`baseline_results.md` of a baseline."""
    document = Document("Baseline results")
    _objective(document, run)
    document.section("Validation")
    if run.has("checkpoints/best.pt"):
        scores_table(document, run.evaluation.validation)
    else:
        document.paragraph("There is no finite validation result: the run broke before.")
    _training(document, run)
    decision = Decision(**run.json("decision.json"))
    document.section("Decision")
    document.paragraph(f"The baseline is {decision.status}: {decision.reason}.")
    document.paragraph(f"Next: {decision.next}.")
    _diagnosis(document, Findings.from_json(run.json("diagnoses.json")))
    return document.text()


def final_results(run: TrainingRun) -> str:
    """`test_results.md` of a finalization."""
    document = Document("Test results")
    _objective(document, run)
    document.section("Test set")
    scores_table(document, run.evaluation.test)
    document.section("Calibration")
    document.paragraph(calibration_text(run))
    document.section("Validation beside test")
    document.table(
        ["split", "n", run.metric.name],
        [
            [part.name, len(part.predictions.targets), part.objective]
            for part in (run.evaluation.validation, run.evaluation.test)
        ],
    )
    document.section("Errors")
    _errors(document, run)
    return document.text()


def calibration_text(run: TrainingRun) -> str:
    """The expected calibration error on the test set; for kinds without one, that there is none."""
    if run.task.kind != "classification":
        return f"Not applicable: a task of kind {run.task.kind} has no probability of one class."
    error = calibration_error(run.evaluation.test.predictions)
    return (
        f"Expected calibration error {number(error)}: how far confidence and accuracy lie apart, "
        "in 15 bins of confidence."
    )


def weakest_part(run: TrainingRun) -> str:
    """The class, label or token with the lowest recall on the test set, the first of equal ones.

    Of a regression the targets with the widest residuals.
    """
    predictions = run.evaluation.test.predictions
    recalls = part_recalls(predictions, run.task.kind)
    if known := {name: recall for name, recall in recalls.items() if recall.is_finite}:
        weakest = min(known, key=lambda name: known[name].value)
        word = PART_NAMES[run.task.kind]
        return f"The weakest {word} is {weakest}: recall {known[weakest].text()}."
    if run.task.kind == "regression":
        bins = residual_quantiles(predictions)
        if bins:
            worst = max(bins, key=lambda part: math.hypot(part.mean, part.standard_deviation))
            spread = math.hypot(worst.mean, worst.standard_deviation)
            return (
                f"The model errs most for targets from {number(worst.low)} to "
                f"{number(worst.high)}: root mean square error {number(spread)} (n = {worst.n})."
            )
    return f"Not applicable: a task of kind {run.task.kind} has no classes to compare."


def curves_plot(run: TrainingRun) -> dict[str, bytes]:
    """The learning curves as SVG, by name."""
    best = run.best_logged_epoch()
    target = run.config.objective.target
    picture = learning_curve(
        run.telemetry.epochs, run.metric.name, target, -1 if best is None else best
    )
    return {"plots/learning_curves.svg": picture}


def error_plot(run: TrainingRun) -> dict[str, bytes]:
    """The confusion matrix of the test set, or its residuals, as SVG by name; else nothing."""
    predictions = run.evaluation.test.predictions
    if run.task.kind == "classification":
        labels = class_labels(predictions.outputs.shape[1])
        matrix = confusion_matrix(predictions, len(labels))
        return {"plots/confusion.svg": confusion_plot(matrix, labels)}
    if run.task.kind == "regression":
        return {"plots/residuals.svg": residual_plot(predictions)}
    return {}


def class_labels(classes: int) -> Sequence[str]:
    """The names of classes: their numbers."""
    return [str(index) for index in range(classes)]


def _objective(document: Document, run: TrainingRun) -> None:
    target = run.config.objective.target
    document.section("Objective")
    document.table(
        ["metric", "better", "target"],
        [[run.metric.name, "higher" if run.maximize else "lower", target]],
    )


def scores_table(document: Document, split: SplitEvaluation) -> None:
    """Every metric with its interval, beside that of a trivial model."""
    predictions, trivial = split.predictions, split.trivial
    rows: list[list[str | float | Measurement | None]] = []
    for name, score in split.scores.items():
        known = METRICS.get(name)
        with_interval = measure(known, predictions) if known else score
        beside = known.score(trivial.outputs, trivial.targets) if known else None
        rows.append([name, with_interval, beside])
    rows.append(["loss", split.loss, None])
    document.table(["metric", "value", "trivial model"], rows)


def _training(document: Document, run: TrainingRun) -> None:
    telemetry = run.telemetry
    document.section("Training")
    facts: list[list[str | float | None]] = [
        ["epochs done", len(telemetry.epochs)],
        ["epochs planned", run.config.training.epochs],
        ["steps", len(telemetry.steps)],
        ["best epoch", run.best_logged_epoch()],
    ]
    document.table(["fact", "value"], facts)
    document.image("Learning curves", "plots/learning_curves.svg")


def _diagnosis(document: Document, findings: Findings) -> None:
    document.section("Diagnosis")
    if not findings.diagnoses:
        document.paragraph("No diagnostic saw anything.")
    for diagnosis in findings.diagnoses:
        document.paragraph(f"{diagnosis.id}: {diagnosis.summary}")
        document.bullets(entry.instruction for entry in diagnosis.recommendations)
    for name, reason in findings.failed.items():
        document.paragraph(f"{name} could not run: {reason}")
    if findings.not_judged:
        document.paragraph("These diagnostics could not look:")
        document.bullets(f"{name}: {reason}" for name, reason in findings.not_judged.items())


def _errors(document: Document, run: TrainingRun) -> None:
    predictions = run.evaluation.test.predictions
    if run.task.kind == "classification":
        classes = predictions.outputs.shape[1]
        labels = class_labels(classes)
        recalls = class_recalls(predictions, classes)
        document.table(
            ["class", "recall"], [[labels[index], recall] for index, recall in recalls.items()]
        )
        matrix = confusion_matrix(predictions, classes)
        document.table(
            ["true", "predicted", "count", "share of the true class"],
            [
                [labels[true], labels[predicted], count, share]
                for true, predicted, count, share in named_confusions(matrix)
            ],
        )
        document.image("Confusion matrix", "plots/confusion.svg")
    elif run.task.kind == "regression":
        bins = residual_quantiles(predictions)
        document.table(
            ["targets from", "to", "n", "mean residual", "standard deviation"],
            [[part.low, part.high, part.n, part.mean, part.standard_deviation] for part in bins],
        )
        document.image("Residuals", "plots/residuals.svg")
    else:
        document.paragraph(f"A task of kind {run.task.kind} has no matrix of errors.")
        if recalls := part_recalls(predictions, run.task.kind):
            document.table(
                [PART_NAMES[run.task.kind], "recall"],
                [[str(name), recall] for name, recall in recalls.items()],
            )
