"""How far a linear model gets on the same data: what a network has to be compared with."""

import warnings
from typing import TYPE_CHECKING

import numpy as np

from pytest_mltrainer.evaluation.metrics import Metric
from pytest_mltrainer.evaluation.predictions import Array

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

MOST_FEATURES = 1_024
MOST_CATEGORIES = 8
# Rows x features x classes: about three seconds of logistic regression on two cores.
LARGEST_PROBLEM = 40_000_000
FEWEST_ROWS = 100
LOWEST_LOGIT = -100.0


def linear_reference(
    kind: str,
    train_inputs: Array,
    train_targets: Array,
    inputs: Array,
    targets: Array,
    metric: Metric,
    limit_rows: int = 5_000,
) -> dict[str, float] | None:
    """`linear_train` and `linear_validation`: scores of a linear model in `metric`.

    Logistic regression (classification) or ridge regression with alpha 1 (regression) on the
    flattened inputs, standardised by the training rows; up to 8 columns of whole numbers, such as
    the ids of users and items, are read as categories too, and what does better on validation
    counts. Rows and features beyond the limits are sampled with a fixed seed, which keeps it to a
    few seconds; a fit that has not converged by then counts as it is. None for other kinds, inputs
    that are not finite numbers, an empty side and a single class.
    """
    if kind not in ("classification", "regression") or not len(train_inputs) or not len(inputs):
        return None
    classes = len(np.unique(train_targets)) if kind == "classification" else 2
    if classes < 2:
        return None
    generator = np.random.default_rng(0)
    width = int(np.prod(train_inputs.shape[1:], dtype=np.int64))
    columns = _sample(width, MOST_FEATURES, generator)
    affordable = max(FEWEST_ROWS, LARGEST_PROBLEM // max(1, len(columns) * classes))
    rows = _sample(len(train_inputs), min(limit_rows, affordable), generator)
    others = _sample(len(inputs), limit_rows, generator)
    train = _features(train_inputs, rows, columns)
    validation = _features(inputs, others, columns)
    if train is None or validation is None:
        return None
    scores = []
    for as_categories in (False, True) if _may_be_categories(inputs) else (False,):
        estimator = _estimator(kind, as_categories=as_categories)
        train_outputs, outputs = _fitted(estimator, train, train_targets[rows], validation)
        scores.append(
            {
                "linear_train": metric.score(train_outputs, train_targets[rows]),
                "linear_validation": metric.score(outputs, targets[others]),
            }
        )
    best = max if metric.maximize else min
    return best(scores, key=lambda each: each["linear_validation"])


def code_score(train: Array, targets: Array, metric: Metric) -> float | None:
    """What an autoencoder reaches at least: validation written by two principal components.

    Of the training targets, by singular values. None where they are not finite numbers, are of
    other sizes or have no two columns, and for a metric of other kinds.
    """
    table, others = (part.reshape(len(part), -1).astype(np.float64) for part in (train, targets))
    sizes = {table.shape[1], others.shape[1]}
    if "regression" not in metric.kinds or len(sizes) != 1 or min(*table.shape) < 2:
        return None
    if not (np.isfinite(table).all() and np.isfinite(others).all()):
        return None
    rows = _sample(len(table), FEWEST_ROWS * 10, np.random.default_rng(0))
    mean = table[rows].mean(axis=0)
    axes = np.linalg.svd(table[rows] - mean, full_matrices=False)[2][:2]
    written = mean + (others - mean) @ axes.T @ axes
    return float(metric.score(written.reshape(targets.shape), targets))


def _sample(size: int, limit: int, generator: np.random.Generator) -> Array:
    return np.arange(size) if size <= limit else np.sort(generator.permutation(size)[:limit])


def _features(inputs: Array, rows: Array, columns: Array) -> Array | None:
    if inputs.dtype.kind not in "biuf" or not len(columns):
        return None
    features = inputs[rows].reshape(len(rows), -1)[:, columns].astype(np.float64)
    return features if np.isfinite(features).all() else None


def _may_be_categories(inputs: Array) -> bool:
    return inputs.dtype.kind in "iu" and inputs[0].size <= MOST_CATEGORIES


def _estimator(kind: str, *, as_categories: bool) -> "Pipeline":
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    read = OneHotEncoder(handle_unknown="ignore") if as_categories else StandardScaler()
    linear = LogisticRegression(max_iter=100) if kind == "classification" else Ridge(alpha=1.0)
    return make_pipeline(read, linear)


def _fitted(
    model: "Pipeline", train: Array, targets: Array, validation: Array
) -> tuple[Array, Array]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(train, targets)
        if hasattr(model, "predict_log_proba"):
            return _logits(model, train), _logits(model, validation)
        return model.predict(train), model.predict(validation)


def _logits(model: "Pipeline", features: Array) -> Array:
    """Log probabilities in the columns of their labels; labels never seen are out of reach."""
    labels = model.classes_.astype(np.int64)
    logits = np.full((len(features), max(2, int(labels.max()) + 1)), 2 * LOWEST_LOGIT)
    logits[:, labels] = np.maximum(model.predict_log_proba(features), LOWEST_LOGIT)
    return logits
