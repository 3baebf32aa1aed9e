"""What each sample adds to a score, so that every metric is a function of sums over samples.

A *tally* is an (n, k) array, dense or sparse; a *combination* turns sums over samples, shape
(..., k), into scores, shape (...). A resample of the samples is then one matrix product, and the
bootstrap needs no loop and no second implementation of any metric.

Everywhere: a sample whose output is not finite tallies NaN, which makes the score NaN; the first
of equal logits wins; shapes that do not fit raise UserError.
"""

from typing import TYPE_CHECKING

import numpy as np

from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.evaluation.predictions import Array

if TYPE_CHECKING:
    from scipy.sparse import csr_array

IGNORED = -100


def hits(outputs: Array, targets: Array) -> Array:
    """(hit, 1) of each sample: 1 where the largest logit is the label's."""
    predicted, finite = predicted_labels(outputs, targets)
    return _with_ones(np.where(finite, predicted == targets, np.nan))


def class_counts(outputs: Array, targets: Array) -> "csr_array":
    """(hit, true, predicted) for each class that occurs, as a sparse matrix with 3 C columns.

    Sparse because a row has three entries, however many classes there are.
    """
    from scipy import sparse

    predicted, finite = predicted_labels(outputs, targets)
    names, codes = np.unique(np.concatenate([targets, predicted]), return_inverse=True)
    true, found = np.split(codes.reshape(-1), 2)
    rows, classes = np.arange(len(targets)), len(names)
    ones = np.ones(len(targets))
    return sparse.csr_array(
        (
            np.concatenate([np.where(finite, true == found, np.nan), ones, ones]),
            (np.tile(rows, 3), np.concatenate([true, classes + true, 2 * classes + found])),
        ),
        shape=(len(targets), 3 * classes),
    )


def label_hits(outputs: Array, targets: Array) -> Array:
    """(share of labels that are right, 1) of each sample; a logit above 0 says yes."""
    right, finite = _right_labels(outputs, targets)
    return _with_ones(np.where(finite, right.mean(axis=1), np.nan))


def subset_hits(outputs: Array, targets: Array) -> Array:
    """(1 where every label is right, 1) of each sample."""
    right, finite = _right_labels(outputs, targets)
    return _with_ones(np.where(finite, right.all(axis=1), np.nan))


def label_overlap(outputs: Array, targets: Array) -> Array:
    """(2 true positives, 2 true positives + false positives + false negatives): micro F1."""
    _right, finite = _right_labels(outputs, targets)
    found, true = outputs > 0, targets > 0.5
    double = 2.0 * (found & true).sum(axis=1)
    size = found.sum(axis=1) + true.sum(axis=1)
    return np.column_stack([np.where(finite, double, np.nan), size])


def token_hits(outputs: Array, targets: Array) -> Array:
    """(right tokens, counted tokens) of each sequence; what stands at ignored places is free."""
    if outputs.ndim != 3 or outputs.shape[:2] != targets.shape:
        raise _wrong_shape("sequence", "(n, T, C) and (n, T)", outputs, targets)
    counted = targets != IGNORED
    right = ((outputs.argmax(axis=2) == targets) & counted).sum(axis=1)
    finite = (np.isfinite(outputs).all(axis=2) | ~counted).all(axis=1)
    return np.column_stack([np.where(finite, right, np.nan), counted.sum(axis=1)])


def absolute_errors(outputs: Array, targets: Array) -> Array:
    """(mean absolute error over the outputs, 1) of each sample."""
    found, true = _numbers(outputs, targets)
    return _with_ones(np.abs(found - true).mean(axis=1))


def squared_errors(outputs: Array, targets: Array) -> Array:
    """(squared errors, 1, targets, squared targets), one column an output; targets centred.

    Centred at the median: exact for constant targets, and sums of squares keep their digits.
    """
    found, true = _numbers(outputs, targets)
    centred = true - np.median(true, axis=0)
    return np.hstack([(found - true) ** 2, np.ones_like(true), centred, centred**2])


def ratio(sums: Array) -> Array:
    """First column over second; 0 / 0 is NaN."""
    return np.asarray(sums[..., 0] / sums[..., 1])


def mean_recall(sums: Array) -> Array:
    """Recall, averaged over the classes that occur among the targets."""
    hit, true, _predicted = np.split(sums, 3, axis=-1)
    return _mean_over_present(hit, true)


def mean_f1(sums: Array) -> Array:
    """F1, averaged over the classes that occur among targets or predictions."""
    hit, true, predicted = np.split(sums, 3, axis=-1)
    return _mean_over_present(2 * hit, true + predicted)


def root_mean(sums: Array) -> Array:
    """Root of the mean squared error, averaged over the outputs."""
    squared, count, _sum, _squares = np.split(sums, 4, axis=-1)
    return np.asarray(np.sqrt(squared / count).mean(axis=-1))


def determination(sums: Array) -> Array:
    """R2, averaged over the outputs whose targets vary; NaN where none does.

    A target that is constant has no variance to explain: any error there would be infinitely bad,
    and one blank pixel of a picture would leave the picture without a score.
    """
    squared, count, total, squares = np.split(sums, 4, axis=-1)
    spread = squares - total**2 / count
    # What is left of a constant after subtraction is rounding, not spread.
    varies = spread > 1e-12 * squares
    left = np.where(varies, squared / np.where(varies, spread, 1), 0)
    count = varies.sum(axis=-1)
    return np.asarray(1 - left.sum(axis=-1) / np.where(count, count, np.nan))


def predicted_labels(outputs: Array, targets: Array) -> tuple[Array, Array]:
    """The class of the largest logit, and whether the sample's values are all finite."""
    if outputs.ndim != 2 or outputs.shape[1] < 2 or targets.shape != outputs.shape[:1]:
        raise _wrong_shape("classification", "(n, C) with C >= 2 and (n,)", outputs, targets)
    finite = np.isfinite(outputs).all(axis=1) & np.isfinite(targets)
    return outputs.argmax(axis=1), np.asarray(finite)


def _right_labels(outputs: Array, targets: Array) -> tuple[Array, Array]:
    if outputs.ndim != 2 or outputs.shape != targets.shape:
        raise _wrong_shape("multilabel", "(n, L) and (n, L)", outputs, targets)
    finite = np.asarray(np.isfinite(outputs) & np.isfinite(targets))
    return (outputs > 0) == (targets > 0.5), np.asarray(finite.all(axis=1))


def _numbers(outputs: Array, targets: Array) -> tuple[Array, Array]:
    # (n,) against (n, 1) would broadcast to (n, n) and score something else.
    found, true = (
        np.asarray(array, dtype=np.float64).reshape(len(array), -1) for array in (outputs, targets)
    )
    if found.shape != true.shape:
        raise _wrong_shape("regression", "(n,) or (n, k) alike", outputs, targets)
    finite = (np.isfinite(found) & np.isfinite(true)).all(axis=1, keepdims=True)
    return np.where(finite, found, np.nan), true


def _mean_over_present(part: Array, whole: Array) -> Array:
    # NaN counts as present (NaN != 0), so that it reaches the mean.
    present = whole != 0
    shares = np.where(present, part / np.where(present, whole, 1), 0)
    return np.asarray(shares.sum(axis=-1) / present.sum(axis=-1))


def _with_ones(values: Array) -> Array:
    return np.column_stack([values, np.ones(len(values))])


def _wrong_shape(kind: str, wanted: str, outputs: Array, targets: Array) -> UserError:
    return UserError(
        f"{kind}: found outputs of shape {outputs.shape} with targets of shape {targets.shape}, "
        f"wanted {wanted}: return that from the model, or set the task's `kind`"
    )
