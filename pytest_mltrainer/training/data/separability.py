"""Whether training and validation look as if drawn from the same source.

A two-sample test by classifiers (Lopez-Paz, Oquab 2017): if neither a linear model nor small trees
can tell which split a sample is from, the splits are alike for all that such models see.
"""

import warnings
from typing import Any

import numpy as np

from pytest_mltrainer.training.data.columns import Array
from pytest_mltrainer.training.data.samples import Samples, evenly
from pytest_mltrainer.training.data.targets import Column

LIMIT_ROWS = 2_000
LIMIT_FEATURES = 256
FEWEST_ROWS = 30
FOLDS = 3
TREES = 24
SHOWN = 5
Z_95 = 1.96
# A column that moved counts from half a deviation on, and beyond 5 standard errors.
SHIFT = 0.5
SHIFT_ERRORS = 5.0
SPREAD = 2.0
BY_CHANCE = 0.01


def skew_facts(
    splits: dict[str, Samples], scaled: dict[str, Array], columns: dict[str, Column]
) -> dict[str, Any]:
    """AUC of telling the splits apart, columns that moved, labels that differ.

    Equal samples count once, and training is drawn with validation's label shares, so that a
    training split that was rebalanced on purpose does not look like another source. `labels` are
    judged beside it. Training samples that are augmented at random are not compared.
    """
    labels = label_shares(columns)
    if splits["train"].random:
        reason = "training samples are augmented at random"
        return {"judged": False, "reason": reason, "labels": labels}
    rows = {name: _distinct(splits[name]) for name in ("train", "validation")}
    rows["train"] = _like(rows["train"], columns, rows["validation"])
    rows = {name: found[evenly(len(found), LIMIT_ROWS)] for name, found in rows.items()}
    if min(len(found) for found in rows.values()) < FEWEST_ROWS:
        reason = f"under {FEWEST_ROWS} distinct samples in a split"
        return {"judged": False, "reason": reason, "labels": labels}
    train, validation = scaled["train"][rows["train"]], scaled["validation"][rows["validation"]]
    picked = evenly(train.shape[1], LIMIT_FEATURES)
    found = tell_apart(train[:, picked], validation[:, picked])
    names = splits["train"].columns()
    return {
        "judged": True,
        **found,
        "moved": _moved(train, validation, names),
        "labels": labels,
    }


def tell_apart(one: Array, other: Array) -> dict[str, Any]:
    """The better cross-validated AUC of ridge and of extra trees, with a 95 % lower bound.

    The bound is Hanley and McNeil's (1982), widened for taking the better of two (Bonferroni).
    """
    table = np.concatenate([one, other])
    second = np.r_[np.zeros(len(one)), np.ones(len(other))]
    folds = np.empty(len(second), dtype=np.int64)
    generator = np.random.default_rng(0)
    for side in (0, 1):
        own = np.flatnonzero(second == side)
        folds[generator.permutation(own)] = np.arange(len(own)) % FOLDS
    scores = np.empty((2, len(second)))
    for fold in range(FOLDS):
        seen, held_out = folds != fold, folds == fold
        scores[:, held_out] = _fitted(table[seen], second[seen], table[held_out])
    # Within a fold: scores of differently fitted models are not on one scale.
    areas = [
        float(np.mean([_auc(score[folds == f], second[folds == f]) for f in range(FOLDS)]))
        for score in scores
    ]
    area = max(areas)
    low = area - 2.24 * _standard_error(area, len(one), len(other))
    return {"auc": area, "auc_low": low, "by": ("linear", "trees")[int(np.argmax(areas))]}


def label_shares(columns: dict[str, Column]) -> dict[str, Any] | None:
    """Distance of the label shares, how likely by chance, and classes that training lacks.

    None where targets are no classes. `by_chance` is the p-value of the chi-squared test;
    `rebalanced` says that training has equal shares, as after resampling on purpose. A class counts
    as unseen when a random split would hardly (1 % over all classes) leave it to validation.
    """
    train, held_out = columns["train"], columns["validation"].values
    if train.values is None or held_out is None or len(train.names) < 2:
        return None
    from scipy import stats

    counts = np.stack(
        [np.bincount(values, minlength=len(train.names)) for values in (train.values, held_out)]
    )
    present = [name for name, count in zip(train.names, counts.sum(axis=0), strict=True) if count]
    counts = counts[:, counts.sum(axis=0) > 0]
    shares = counts / counts.sum(axis=1, keepdims=True)
    # Of many small classes some are unlucky: each gets its share of the 1 %.
    unlucky = counts.shape[1] * (counts[1].sum() / counts.sum()) ** counts[1]
    several = counts.shape[1] > 1
    return {
        "distance": float(np.abs(shares[0] - shares[1]).sum() / 2),
        "by_chance": float(stats.chi2_contingency(counts)[1]) if several else 1.0,
        "rebalanced": bool(np.abs(shares[0] - 1 / counts.shape[1]).sum() / 2 < 0.05),
        "unseen": [
            present[code] for code in np.flatnonzero((counts[0] == 0) & (unlucky < BY_CHANCE))
        ],
        "furthest": [
            {
                "label": present[code],
                "train": float(shares[0, code]),
                "validation": float(shares[1, code]),
            }
            for code in np.argsort(-np.abs(shares[0] - shares[1]))[:SHOWN]
        ],
    }


def _distinct(split: Samples) -> Array:
    """Positions of the first sample of each content."""
    first: dict[str, int] = {}
    for position, content in enumerate(split.contents):
        first.setdefault(content, position)
    return np.array(list(first.values()), dtype=np.int64)


def _like(rows: Array, columns: dict[str, Column], held_out: Array) -> Array:
    """As many of `rows` as have the label shares of `held_out`; all where there are no labels."""
    train, validation = columns["train"], columns["validation"]
    if train.values is None or validation.values is None or not train.names:
        return rows
    own = train.values[rows]
    wanted = np.bincount(validation.values[held_out], minlength=len(train.names))
    there = np.bincount(own, minlength=len(train.names))
    both = (wanted > 0) & (there > 0)
    if not both.any():
        return rows
    # Of the scarcest class everything is taken, but no class may shrink the sample to nothing.
    factor = max(float((there[both] / wanted[both]).min()), min(1.0, 200 / wanted[both].sum()))
    generator = np.random.default_rng(0)
    picked = [
        generator.permutation(rows[own == code])[: max(1, int(wanted[code] * factor))]
        for code in np.flatnonzero(both)
    ]
    return np.sort(np.concatenate(picked))


def _fitted(table: Array, second: Array, unseen: Array) -> Array:
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.linear_model import Ridge

    balance = np.where(second == 1, 1 / second.mean(), 1 / (1 - second.mean()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        linear = Ridge(alpha=10.0).fit(table, second, sample_weight=balance)
        trees = ExtraTreesClassifier(
            TREES, max_depth=8, min_samples_leaf=3, random_state=0, class_weight="balanced"
        ).fit(table, second)
    return np.stack([linear.predict(unseen), trees.predict_proba(unseen)[:, 1]])


def _auc(scores: Array, second: Array) -> float:
    from scipy import stats

    ranks = stats.rankdata(scores)
    positive = int(second.sum())
    negative = len(second) - positive
    return float((ranks[second == 1].sum() - positive * (positive + 1) / 2) / (positive * negative))


def _standard_error(area: float, one: int, other: int) -> float:
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (one - 1) * (q1 - area**2) + (other - 1) * (q2 - area**2)
    return float(np.sqrt(max(spread, 0.0) / (one * other)))


def _moved(train: Array, validation: Array, names: list[str]) -> list[dict[str, Any]]:
    """Columns whose mean or deviation moved, furthest first."""
    spread = train.std(axis=0)
    known = spread > 0
    apart = np.where(known, validation.mean(0) - train.mean(0), 0) / np.where(known, spread, 1)
    noise = np.sqrt(1 / len(train) + validation.var(0) / np.where(known, spread**2, 1)
                    / len(validation))  # fmt: skip
    ratio = np.where(known, validation.std(0), 1) / np.where(known, spread, 1)
    moved = (np.abs(apart) > SHIFT) & (np.abs(apart) > SHIFT_ERRORS * noise)
    far = np.flatnonzero(moved | (ratio > SPREAD) | (ratio < 1 / SPREAD))
    worst = far[np.argsort(-np.abs(apart[far]), kind="stable")]
    indices = evenly(len(names), train.shape[1]) if names else []
    return [
        {
            "column": names[indices[i]] if names else "",
            "shift": float(apart[i]),
            "spread": float(ratio[i]),
        }
        for i in worst[:SHOWN]
    ]
