"""What simple references make of the targets: how often they disagree, and with which samples.

References judge a training sample without having seen it: the 15 nearest neighbours, ridge
regression (on class indicators) by its leave-one-out formula, and for classes of word sequences
naive Bayes, out of fold. The one that errs least on validation is taken.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pytest_mltrainer.training.data.columns import Array
from pytest_mltrainer.training.data.neighbours import nearest
from pytest_mltrainer.training.data.samples import Samples, evenly
from pytest_mltrainer.training.data.targets import Column
from pytest_mltrainer.training.data.words import class_shares, own_class_shares

NEIGHBOURS = 15
LIMIT_TRAIN = 4_000
LIMIT_VALIDATION = 2_000
LIMIT_CLASSES = 100
FEWEST_TRAIN = 100
FEWEST_VALIDATION = 30
SHOWN_ROWS = 10
RIDGE = 1.0
# Of validation's residuals this share is larger than the limit for training's.
TAIL = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Training and validation as features and targets, and where their rows stand.

    `words`: the ids in training and validation, where inputs are sequences of words.
    """

    train: Array
    validation: Array
    targets: Array
    held_out: Array
    rows: list[int]
    names: tuple[str, ...] = ()
    words: tuple[Array, Array] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A reference's scores a class, or values, for unseen training rows and for validation."""

    name: str
    train: Array
    validation: Array


class Unfit(Exception):
    """The data are no problem for the references; the text says why."""


def problem(
    splits: dict[str, Samples],
    scaled: dict[str, Array],
    columns: dict[str, Column],
    words: dict[str, Array] | None = None,
) -> Problem:
    """At most 4,000 training and 2,000 validation samples with finite targets. Raises Unfit."""
    train, validation = columns["train"], columns["validation"]
    if train.values is None or validation.values is None:
        raise Unfit(train.reason)
    if len(train.names) > LIMIT_CLASSES or len(train.names) == 1:
        raise Unfit(f"{len(train.names)} classes; looked at for 2 to {LIMIT_CLASSES}")
    picked = _finite(train.values, evenly(len(train.values), LIMIT_TRAIN))
    held_out = _finite(validation.values, evenly(len(validation.values), LIMIT_VALIDATION))
    if len(picked) < FEWEST_TRAIN or len(held_out) < FEWEST_VALIDATION:
        raise Unfit(
            f"{len(picked)} training and {len(held_out)} validation samples; looked at from "
            f"{FEWEST_TRAIN} and {FEWEST_VALIDATION}"
        )
    return Problem(
        train=scaled["train"][picked],
        validation=scaled["validation"][held_out],
        targets=train.values[picked],
        held_out=validation.values[held_out],
        rows=[splits["train"].rows[i] for i in picked],
        names=train.names,
        words=(words["train"][picked], words["validation"][held_out]) if words else None,
    )


def best_reference(posed: Problem) -> tuple[Reference, float]:
    """The best of the references and its error on validation, as `error` counts it."""
    candidates = [nearest_neighbours(posed), ridge(posed), *naive_bayes(posed)]
    errors = [error(posed, candidate.validation, posed.held_out) for candidate in candidates]
    best = int(np.argmin(errors))
    return candidates[best], errors[best]


def error(posed: Problem, outputs: Array, targets: Array) -> float:
    """Classes: the share of wrong ones. Values: mean squared error over the target's variance."""
    if posed.names:
        return float((outputs.argmax(axis=1) != targets).mean())
    variance = float(np.var(targets))
    return float(np.mean((outputs[:, 0] - targets) ** 2)) / variance if variance else np.inf


def label_facts(posed: Problem, reference: Reference, held_out_error: float) -> dict[str, Any]:
    """Disagreement in training and validation, of classes or of values, with the worst rows."""
    if posed.names:
        return _class_facts(posed, reference, held_out_error)
    return _value_facts(posed, reference, held_out_error)


def _class_facts(posed: Problem, reference: Reference, held_out_error: float) -> dict[str, Any]:
    trivial = 1 - np.bincount(posed.held_out).max() / len(posed.held_out)
    recall = {}
    for code, name in enumerate(posed.names):
        own = posed.held_out == code
        if own.any():
            hits = reference.validation.argmax(axis=1)[own] == code
            recall[name] = {"recall": float(hits.mean()), "n": int(own.sum())}
    return {
        "judged": True,
        "reference": reference.name,
        "train": error(posed, reference.train, posed.targets),
        "n_train": len(posed.targets),
        "validation": held_out_error,
        "n_validation": len(posed.held_out),
        "trivial": float(trivial),
        "recall": recall,
        **_suspects(posed, reference.train),
    }


def _suspects(posed: Problem, scores: Array) -> dict[str, Any]:
    """Confident learning (Northcutt et al. 2021): rows that another class claims.

    A class claims a row whose score for it is at least the mean score of that class's own rows.
    `suspects` are the rows that a class other than their label claims by the largest margin.
    """
    labels = posed.targets
    classes = np.unique(labels)
    own = scores[np.arange(len(labels)), labels]
    limits = np.full(scores.shape[1], np.inf)
    for label in classes:
        limits[label] = own[labels == label].mean()
    claims = np.where(scores >= limits, scores, -np.inf)
    claimed = claims.argmax(axis=1)
    wrong = np.isfinite(claims.max(axis=1)) & (claimed != labels)
    margin = np.where(wrong, scores[np.arange(len(labels)), claimed] - own, -np.inf)
    worst = np.argsort(-margin, kind="stable")[: min(SHOWN_ROWS, int(wrong.sum()))]
    return {
        "suspect_share": float(wrong.mean()),
        "rate_by_class": {
            posed.names[label]: round(float(wrong[labels == label].mean()), 4) for label in classes
        },
        "suspects": [
            {
                "row": posed.rows[i],
                "label": posed.names[labels[i]],
                "neighbours_say": posed.names[claimed[i]],
            }
            for i in worst
        ],
    }


def _value_facts(posed: Problem, reference: Reference, held_out_error: float) -> dict[str, Any]:
    """The share of training residuals beyond the 95 % quantile of validation's: 5 % by chance."""
    residuals = np.abs(reference.train[:, 0] - posed.targets)
    held_out = np.abs(reference.validation[:, 0] - posed.held_out)
    limit = float(np.quantile(held_out, 1 - TAIL))
    worst = np.argsort(-residuals, kind="stable")[:SHOWN_ROWS]
    return {
        "judged": True,
        "reference": reference.name,
        "train": float((residuals > limit).mean()),
        "n_train": len(residuals),
        "validation": TAIL,
        "n_validation": len(held_out),
        "unexplained": held_out_error,
        "unexplained_train": error(posed, reference.train, posed.targets),
        "unexplained_error": float(
            np.hypot(
                _standard_error(residuals, posed.targets), _standard_error(held_out, posed.held_out)
            )
        ),
        "suspects": [
            {
                "row": posed.rows[i],
                "label": f"{posed.targets[i]:.4g}",
                "neighbours_say": f"{reference.train[i, 0]:.4g}",
            }
            for i in worst
        ],
    }


def _standard_error(residuals: Array, targets: Array) -> float:
    """Of the mean squared residual over the variance, as these residuals spread: large for few."""
    variance = float(np.var(targets))
    return float(np.std(residuals**2)) / variance / len(targets) ** 0.5 if variance else np.inf


def _finite(values: Array, rows: list[int]) -> Array:
    picked = np.array(rows, dtype=np.int64)
    return picked[np.isfinite(values[picked])]


def _indicators(posed: Problem) -> Array:
    if not posed.names:
        return posed.targets[:, None].astype(np.float64)
    return np.eye(len(posed.names))[posed.targets]


def nearest_neighbours(posed: Problem) -> Reference:
    """The mean of the 15 nearest training rows, a row itself left out."""
    wanted = _indicators(posed)
    k = min(NEIGHBOURS, len(wanted) - 1)
    _, near = nearest(posed.train, posed.train, k, np.arange(len(wanted)))
    _, near_held_out = nearest(posed.validation, posed.train, k)
    return Reference(
        name="nearest neighbours",
        train=wanted[near].mean(axis=1),
        validation=wanted[near_held_out].mean(axis=1),
    )


def naive_bayes(posed: Problem) -> list[Reference]:
    """Naive Bayes on how often words occur; nothing for values and for what is no words."""
    if posed.words is None or not posed.names:
        return []
    ids, held_out = posed.words
    classes = len(posed.names)
    return [
        Reference(
            name="how often words occur",
            train=own_class_shares(ids, posed.targets, classes),
            validation=class_shares(ids, posed.targets, held_out, classes),
        )
    ]


def ridge(posed: Problem) -> Reference:
    """Leave-one-out of a linear smoother: y - (y - fit) / (1 - leverage)."""
    table = np.c_[np.ones(len(posed.train)), posed.train].astype(np.float64)
    wanted = _indicators(posed)
    penalty = RIDGE * np.eye(table.shape[1])
    penalty[0, 0] = 0.0
    inverse = np.linalg.pinv(table.T @ table + penalty, hermitian=True)
    weights = inverse @ (table.T @ wanted)
    leverage = np.minimum(np.einsum("ij,ij->i", table @ inverse, table), 1 - 1e-6)
    residuals = (wanted - table @ weights) / (1 - leverage)[:, None]
    held_out = np.c_[np.ones(len(posed.validation)), posed.validation]
    return Reference(name="a linear model", train=wanted - residuals, validation=held_out @ weights)
