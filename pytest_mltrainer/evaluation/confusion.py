"""Where a model is wrong: confusions, recalls and calibration of classes, residuals of numbers."""

import math
from dataclasses import dataclass

import numpy as np

from pytest_mltrainer.core.measurement import Measurement
from pytest_mltrainer.evaluation.predictions import Array, Predictions
from pytest_mltrainer.evaluation.proportions import wilson
from pytest_mltrainer.evaluation.tallies import predicted_labels

IGNORED = -100
"""The target of a token that does not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualBin:
    """Residuals (output - target) of the samples whose target lies from `low` to `high`."""

    low: float
    high: float
    n: int
    mean: float
    median: float
    standard_deviation: float


def confusion_matrix(predictions: Predictions, classes: int) -> Array:
    """Counts, rows true and columns predicted, shape (classes, classes).

    Samples with outputs that are not finite or labels outside 0 to classes - 1 stand in no cell:
    the sum is then below n. Raises UserError for outputs of another kind.
    """
    if not len(predictions):
        return np.zeros((classes, classes), dtype=np.int64)
    found, finite = predicted_labels(predictions.outputs, predictions.targets)
    true = np.where(finite, predictions.targets, -1).astype(np.int64)
    counted = (true >= 0) & (true < classes) & (found < classes)
    cells = np.bincount(true[counted] * classes + found[counted], minlength=classes**2)
    return cells.reshape(classes, classes)


def class_recalls(
    predictions: Predictions, classes: int, confidence: float = 0.95
) -> dict[int, Measurement]:
    """Recall of each class with Wilson's interval; an output that is not finite is a miss.

    A class without samples has the value NaN, n = 0 and no interval.
    """
    if not len(predictions):
        return {label: Measurement(value=math.nan, n=0) for label in range(classes)}
    found, finite = predicted_labels(predictions.outputs, predictions.targets)
    hit = finite & (found == predictions.targets)
    recalls = {}
    for label in range(classes):
        own = predictions.targets == label
        n = int(own.sum())
        value = float(hit[own].mean()) if n else math.nan
        low, high = wilson(value, n, confidence) if n else (None, None)
        recalls[label] = Measurement(value=value, n=n, low=low, high=high, confidence=confidence)
    return recalls


def part_recalls(predictions: Predictions, kind: str) -> dict[int, Measurement]:
    """Recall of each class, of each label among the samples that have it, or of each token.

    Tokens of one sequence are not independent: their intervals are too narrow. Empty for kinds
    without classes.
    """
    if kind == "classification":
        return class_recalls(predictions, predictions.outputs.shape[1])
    if kind == "sequence":
        targets = predictions.targets.reshape(-1)
        counted = targets != IGNORED
        outputs = predictions.outputs.reshape(len(targets), -1)
        tokens = Predictions(outputs=outputs[counted], targets=targets[counted])
        return class_recalls(tokens, outputs.shape[1])
    if kind != "multilabel":
        return {}
    recalls = {}
    for label in range(predictions.targets.shape[1]):
        own = predictions.outputs[predictions.targets[:, label] == 1, label]
        value = float((own > 0).mean()) if len(own) else math.nan
        low, high = wilson(value, len(own)) if len(own) else (None, None)
        recalls[label] = Measurement(value=value, n=len(own), low=low, high=high)
    return recalls


def named_confusions(matrix: Array, top: int = 5) -> list[tuple[int, int, int, float]]:
    """(true, predicted, count, share of true) of the most frequent mistakes, at most `top`.

    Ordered by count, then by labels; pairs that never occur are left out.
    """
    totals = matrix.sum(axis=1)
    mistakes = [
        (int(true), int(found), int(matrix[true, found]), float(matrix[true, found] / totals[true]))
        for true, found in zip(*np.nonzero(matrix), strict=True)
        if true != found
    ]
    return sorted(mistakes, key=lambda mistake: (-mistake[2], mistake[0], mistake[1]))[:top]


def residual_quantiles(predictions: Predictions, bins: int = 5) -> list[ResidualBin]:
    """Residuals over quantiles of the target, smallest targets first; several outputs are pooled.

    Equal targets share a bin, so there may be fewer than `bins`; pairs that are not finite are
    left out, and of nothing comes an empty list.
    """
    outputs = predictions.outputs.astype(np.float64).reshape(-1)
    targets = predictions.targets.astype(np.float64).reshape(-1)
    finite = np.isfinite(outputs) & np.isfinite(targets)
    outputs, targets = outputs[finite], targets[finite]
    if not len(targets):
        return []
    # Edges are targets themselves: an interpolated edge can fall between equal numbers.
    edges = np.unique(np.quantile(targets, np.arange(1, bins) / bins, method="lower"))
    place = np.searchsorted(edges, targets, side="left")
    found = []
    for index in np.unique(place):
        inside, residuals = targets[place == index], (outputs - targets)[place == index]
        found.append(
            ResidualBin(
                low=float(inside.min()),
                high=float(inside.max()),
                n=len(inside),
                mean=float(residuals.mean()),
                median=float(np.median(residuals)),
                standard_deviation=float(residuals.std()),
            )
        )
    return found


def calibration_error(predictions: Predictions, bins: int = 15) -> float:
    """Expected calibration error (Guo et al. 2017): mean |accuracy - confidence| over bins.

    Confidence is the largest softmax probability, bins are of equal width and weighted by their
    samples. NaN for no samples and for outputs that are not finite.
    """
    if not len(predictions):
        return math.nan
    found, finite = predicted_labels(predictions.outputs, predictions.targets)
    if not finite.all():
        return math.nan
    logits = predictions.outputs.astype(np.float64)
    shifted = logits - logits.max(axis=1, keepdims=True)
    confidence = 1 / np.exp(shifted).sum(axis=1)
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    gap = np.bincount(place, weights=(found == predictions.targets) - confidence, minlength=bins)
    return float(np.abs(gap).sum() / len(predictions))
