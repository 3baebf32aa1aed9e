"""What holds within each split and not from one to the other: other meanings, merged classes.

The same simple models are fitted on validation as well, so that each split judges the other.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from pytest_mltrainer.training.data.columns import Array
from pytest_mltrainer.training.data.labels import (
    Problem,
    Reference,
    best_reference,
    error,
    naive_bayes,
    ridge,
)

# A linear model with more columns than that knows rows of one source by heart, which is no rule.
MOST_COLUMNS = 0.25
SHOWN_PAIRS = 5
SHOWN_ROWS = 5
LEAST_EXCESS = 0.05


def mirrored(posed: Problem) -> Problem:
    """The problem with training and validation exchanged."""
    return replace(
        posed,
        train=posed.validation,
        validation=posed.train,
        targets=posed.held_out,
        held_out=posed.targets,
        rows=[],
        words=posed.words and (posed.words[1], posed.words[0]),
    )


def across_facts(posed: Problem) -> dict[str, Any]:
    """The error of a simple model within training, within validation, and from one to the other.

    Within: each row judged unseen. `errors`: by how many standard errors the same validation rows
    are judged worse from training than from validation. `trivial`: the error on validation without
    looking. No nearest neighbours: rows that belong together (visits of a patient) know each other
    within a split, and split by patient that is no skew.
    """
    narrow = posed.train.shape[1] <= MOST_COLUMNS * min(len(posed.train), len(posed.validation))
    models = [model for model, fits in ((_linear, narrow), (naive_bayes, True)) if fits]
    known = [(model, reference) for model in models for reference in model(posed)]
    if not known:
        return {"judged": False, "reason": "more columns than a quarter of the rows"}
    errors = [error(posed, reference.train, posed.targets) for _, reference in known]
    model, reference = known[int(np.argmin(errors))]
    within = model(mirrored(posed))[0].train
    worse = _each(posed, reference.validation) - _each(posed, within)
    # All rows may be judged alike; one that is not would then still be possible.
    spread = max(float(worse.std()), len(worse) ** -0.5) / np.sqrt(len(worse))
    shares = np.bincount(posed.held_out) / len(posed.held_out) if posed.names else None
    return {
        "judged": True,
        "reference": reference.name,
        "train": min(errors),
        "validation": error(posed, within, posed.held_out),
        "across": error(posed, reference.validation, posed.held_out),
        "trivial": 1.0 if shares is None else float(1 - shares.max()),
        "errors": float(worse.mean()) / spread,
    }


def merged_facts(posed: Problem, forward: Reference) -> dict[str, Any]:
    """Training labels that a model of validation gives to one other class, by pair of classes.

    By label, so that other shares of the classes change nothing. Each pair has the share of the
    label's training rows that are called otherwise, beside the larger share of two in validation:
    judged from validation itself, and from training. `reverse` is the excess of the pair the other
    way round; `explained` how much of all that training disagrees more the pairs make up.
    """
    back = mirrored(posed)
    reference, error_within = best_reference(back)
    own = _table(posed.targets, reference.validation, posed)
    within = _table(posed.held_out, reference.train, posed)
    base = np.maximum(within, _table(posed.held_out, forward.validation, posed))
    rows, held_out = own.sum(axis=1, keepdims=True), within.sum(axis=1, keepdims=True)
    excess = own / np.maximum(rows, 1) - base / np.maximum(held_out, 1)
    np.fill_diagonal(excess, 0.0)
    excess[held_out[:, 0] == 0] = 0.0
    shown = [
        divmod(int(cell), len(excess)) for cell in np.argsort(-excess, axis=None)[:SHOWN_PAIRS]
    ]
    called = reference.validation.argmax(axis=1)
    more = float((called != posed.targets).mean()) - error_within
    pairs = [(label, other) for label, other in shown if excess[label, other] > LEAST_EXCESS]
    return {
        "reference": reference.name,
        "validation": error_within,
        "trivial": float(1 - held_out.max() / held_out.sum()),
        "more": more,
        "pairs": [
            {
                "label": posed.names[label],
                "called": posed.names[other],
                "count": int(own[label, other]),
                "of": int(rows[label, 0]),
                "held_out": int(base[label, other]),
                "held_out_of": int(held_out[label, 0]),
                "reverse": float(excess[other, label]),
                "explains": float(excess[label, other] * rows[label, 0] / rows.sum()),
                "rows": [
                    posed.rows[i]
                    for i in np.flatnonzero((posed.targets == label) & (called == other))
                ][:SHOWN_ROWS],
            }
            for label, other in pairs
        ],
    }


def _linear(posed: Problem) -> list[Reference]:
    return [ridge(posed)]


def _table(labels: Array, scores: Array, posed: Problem) -> Array:
    """Rows by label and by the class that the scores say."""
    classes = len(posed.names)
    cells = labels * classes + scores.argmax(axis=1)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def _each(posed: Problem, outputs: Array) -> Array:
    """What each validation row adds to the error."""
    if posed.names:
        return np.asarray(outputs.argmax(axis=1) != posed.held_out, dtype=np.float64)
    variance = float(np.var(posed.held_out)) or 1.0
    return np.asarray((outputs[:, 0] - posed.held_out) ** 2 / variance)
