"""What a simple model that is not linear reaches on the same data: proof that there is more."""

import warnings
from typing import Any

import numpy as np

from pytest_mltrainer.evaluation.metrics import Metric
from pytest_mltrainer.evaluation.tallies import IGNORED
from pytest_mltrainer.training.data.columns import Array
from pytest_mltrainer.training.data.samples import evenly

LIMIT_ROWS = 2_000
LIMIT_FEATURES = 600
MOST_WORDS = 500
MOST_CLASSES = 100
FEWEST_ROWS = 30
TREES = 60
NEARLY = 1e-3
WINDOW, PAST = (-2, -1, 0, 1, 2), (-2, -1, 0)
NEXT_INPUT = 0.9
"""Share of the targets that are the next input, above which a task is to foretell it."""


def attainable_score(
    kind: str, metric: Metric, train: tuple[Array, Array], held_out: tuple[Array, Array]
) -> float | None:
    """The validation score of extremely randomised trees (Geurts et al. 2006) on plain features.

    Features: the values; of series and pictures the sizes of their frequencies as well, which do
    not mind a shift; of sequences of words (small whole numbers) how often each one occurs. Of a
    sequence task each place with its two neighbours on either side; with those before it alone
    where the target is the next input, as in a language model. None for other kinds, under 30
    rows, over 100 classes, inputs or targets that are no finite numbers.
    """
    x, y, held_x, held_y = *_rows(*train), *_rows(*held_out)
    if min(len(x), len(held_x)) < FEWEST_ROWS or x.shape[1:] != held_x.shape[1:]:
        return None
    if not all(part.dtype.kind in "biuf" and np.isfinite(part).all() for part in (x, y, held_x)):
        return None
    if kind == "sequence":
        return _score_of_places(metric, x, y, held_x, held_y)
    words = _words(x, held_x)
    table, held_table = _features(x, words), _features(held_x, words)
    if kind == "classification" and y.ndim == 1:
        outputs = _class_logits(table, y.astype(np.int64), held_table, held_y)
    elif kind == "regression":
        outputs = _values(table, y.reshape(len(y), -1), held_table).reshape(held_y.shape)
    elif kind == "multilabel" and y.ndim == 2:
        share = _values(table, (y > 0.5).astype(float), held_table).clip(NEARLY, 1 - NEARLY)
        outputs = np.log(share / (1 - share))
    else:
        return None
    return None if outputs is None else metric.score(outputs, held_y)


def _rows(inputs: Array, targets: Array) -> tuple[Array, Array]:
    picked = evenly(len(inputs), LIMIT_ROWS)
    return inputs[picked], targets[picked]


def _words(x: Array, held_x: Array) -> int:
    """How many words there are; 0 where the inputs are no sequences of words."""
    if x.dtype.kind not in "iu" or x.ndim != 2 or min(x.min(), held_x.min()) < 0:
        return 0
    highest = int(max(x.max(), held_x.max()))
    return highest + 1 if highest < MOST_WORDS else 0


def _features(x: Array, words: int) -> Array:
    parts = [_thinned(x.reshape(len(x), -1).astype(np.float64))]
    if words:
        counts = np.zeros((len(x), words))
        np.add.at(counts, (np.arange(len(x))[:, None], x), 1)
        parts.append(counts)
    elif x.ndim > 2:
        # Time stands first in a series (time, channels), channels in pictures (channels, y, x).
        axes = (1,) if x.ndim == 3 else tuple(range(2, x.ndim))
        sizes = np.abs(np.fft.rfftn(x.astype(np.float64), axes=axes))
        parts.append(_thinned(sizes.reshape(len(x), -1)))
    return np.concatenate(parts, axis=1)


def _thinned(table: Array) -> Array:
    return table[:, evenly(table.shape[1], LIMIT_FEATURES)]


def _class_logits(table: Array, labels: Array, held_out: Array, held_y: Array) -> Array | None:
    from sklearn.ensemble import ExtraTreesClassifier

    known = np.unique(labels)
    if not 2 <= len(known) <= MOST_CLASSES or known[0] < 0:
        return None
    forest = ExtraTreesClassifier(TREES, min_samples_leaf=2, random_state=0).fit(table, labels)
    classes = max(2, int(known[-1]) + 1, int(held_y.max()) + 1)
    shares = np.full((len(held_out), classes), NEARLY / 10)
    shares[:, forest.classes_.astype(int)] = forest.predict_proba(held_out).clip(NEARLY)
    return np.asarray(np.log(shares))


def _values(table: Array, wanted: Array, held_out: Array) -> Array:
    from sklearn.ensemble import ExtraTreesRegressor

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        forest = ExtraTreesRegressor(TREES, min_samples_leaf=2, random_state=0)
        found = forest.fit(table, wanted).predict(held_out)
    return np.asarray(found).reshape(len(held_out), -1)


def _score_of_places(
    metric: Metric, x: Array, y: Array, held_x: Array, held_y: Array
) -> float | None:
    if y.shape[:2] != x.shape[:2] or y.ndim != 2 or y.dtype.kind not in "iu":
        return None
    window = PAST if _foretells(x, y) else WINDOW
    table, held_table = _windows(x, window), _windows(held_x, window)
    labels = y.reshape(-1)
    picked = np.flatnonzero(labels != IGNORED)
    picked = picked[evenly(len(picked), 5 * LIMIT_ROWS)]
    outputs = _class_logits(table[picked], labels[picked], held_table, held_y)
    return None if outputs is None else metric.score(outputs.reshape(*held_y.shape, -1), held_y)


def _foretells(x: Array, y: Array) -> bool:
    if x.ndim != 2 or x.shape[1] < 2:
        return False
    told = y[:, :-1] != IGNORED
    return bool(told.any()) and (x[:, 1:] == y[:, :-1])[told].mean() > NEXT_INPUT


def _windows(x: Array, window: tuple[int, ...]) -> Array:
    """A row for each place: what stands there and beside it, 0 beyond the ends."""
    series = x.reshape(*x.shape[:2], -1).astype(np.float64)
    reach = max(map(abs, window))
    padded = np.pad(series, ((0, 0), (reach, reach), (0, 0)))
    length = series.shape[1]
    seen: list[Any] = [padded[:, reach + by : reach + by + length] for by in window]
    return np.concatenate(seen, axis=2).reshape(len(x) * length, -1)
