"""Sequences of words: whole numbers that stand for something, in whatever order they come."""

import numpy as np

from pytest_mltrainer.training.data.columns import Array
from pytest_mltrainer.training.data.samples import Samples

MOST_WORDS = 20_000
FOLDS = 5


def words_of(splits: dict[str, Samples]) -> dict[str, Array] | None:
    """The ids of each split, (n, places); None where inputs are no vectors of small whole numbers.

    Reads the unscaled features.
    """
    ids = {}
    for name, split in splits.items():
        shapes = [shape for _, shape in split.layout or ()]
        if split.features is None or len(shapes) != 1 or len(shapes[0]) != 1:
            return None
        if not np.issubdtype(np.dtype(split.dtype), np.integer):
            return None
        if split.features.min(initial=0) < 0 or split.features.max(initial=0) >= MOST_WORDS:
            return None
        ids[name] = split.features.astype(np.int32)
    return ids


def class_shares(ids: Array, labels: Array, unseen: Array, classes: int) -> Array:
    """The probability of each class for `unseen` by multinomial naive Bayes, add-one smoothed."""
    words = int(max(ids.max(initial=0), unseen.max(initial=0))) + 1
    cells = labels[:, None].astype(np.int64) * words + ids
    counts = np.bincount(cells.reshape(-1), minlength=classes * words).reshape(classes, words) + 1.0
    rates = np.log(counts) - np.log(counts.sum(axis=1, keepdims=True))
    scores = np.stack([rate[unseen].sum(axis=1) for rate in rates], axis=1)
    scores += np.log(np.bincount(labels, minlength=classes) + 1.0)
    scores -= scores.max(axis=1, keepdims=True)
    shares = np.exp(scores)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def own_class_shares(ids: Array, labels: Array, classes: int) -> Array:
    """The same for the rows themselves, each fifth judged by the other four."""
    shares = np.empty((len(ids), classes))
    folds = np.arange(len(ids)) % FOLDS
    for fold in range(FOLDS):
        seen = folds != fold
        shares[~seen] = class_shares(ids[seen], labels[seen], ids[~seen], classes)
    return shares
