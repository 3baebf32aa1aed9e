"""What a model must beat: predictions that ignore the input."""

import numpy as np

from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.evaluation.predictions import Array, Predictions
from pytest_mltrainer.evaluation.tallies import IGNORED


def trivial_predictions(kind: str, train_targets: Array, targets: Array) -> Predictions:
    """The same output for every sample of `targets`, learned from the training targets alone.

    Classification and sequence: logs of the class shares, so that the majority class (of equal
    ones the first) wins; multilabel: the log odds of each label; regression: the mean. Shares
    are smoothed by half a sample, so that an absent class has a finite logit. Raises UserError
    for another kind and for no training targets.
    """
    known = np.asarray(train_targets)
    if kind == "sequence":
        known = known[known != IGNORED]
    if len(known) == 0:
        raise UserError("trivial predictions: found no training targets, wanted at least one")
    if kind == "multilabel":
        share = ((known > 0.5).sum(axis=0) + 0.5) / (len(known) + 1)
        output = np.log(share / (1 - share))
    elif kind == "regression":
        output = known.mean(axis=0, dtype=np.float64)
    elif kind in ("classification", "sequence"):
        output = _log_prior(known, targets)
    else:
        raise UserError(
            f"trivial predictions: found a task of kind '{kind}', wanted classification, "
            "multilabel, regression or sequence: give the objective a trivial score of its own"
        )
    shape = targets.shape[:2] if kind == "sequence" else targets.shape[:1]
    return Predictions(np.broadcast_to(output, (*shape, *output.shape)), targets)


def _log_prior(known: Array, targets: Array) -> Array:
    labels = known.astype(np.int64)
    classes = max(2, int(labels.max()) + 1, int(targets.max(initial=0)) + 1)
    counts = np.bincount(labels[labels >= 0], minlength=classes)
    return np.asarray(np.log((counts + 0.5) / (counts.sum() + 0.5 * classes)))
