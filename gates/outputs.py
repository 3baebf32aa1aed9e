"""What several checks ask of outputs: are they finite, and is no class or label lost?"""

import math

import numpy as np

from pytest_mltrainer.core.config import Limits
from pytest_mltrainer.core.judge import Judge
from pytest_mltrainer.evaluation.confusion import part_recalls
from pytest_mltrainer.evaluation.predictions import Predictions
from pytest_mltrainer.training.results import PART_NAMES


def not_finite(predictions: Predictions) -> str:
    """How many samples have an output that is not finite, and the first; empty for none."""
    rows = predictions.outputs.reshape(len(predictions), -1)
    broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if not len(broken):
        return ""
    return f"{len(broken)} of {len(predictions)} samples, the first of them number {broken[0]}"


def need_finite(predictions: Predictions, split: str, judge: Judge) -> None:
    """Say that the model's outputs are not finite, instead of what cannot be computed from them."""
    if found := not_finite(predictions):
        judge.cannot(f"the model's outputs on {split} are not finite for {found}")


def need_enough(predictions: Predictions, limits: Limits, judge: Judge) -> None:
    """Say that a test set is too small to decide anything, however good its score looks."""
    if len(predictions) < limits.min_samples_per_class:
        judge.cannot(
            f"the test set has {len(predictions)} samples: fewer than "
            f"{limits.min_samples_per_class} (limits.min_samples_per_class) decide nothing"
        )


def need_every_part(
    validation: Predictions, test: Predictions, kind: str, limits: Limits, judge: Judge
) -> None:
    """Say that a class or label which validation has is nowhere in the test set.

    Then the test set says nothing of it, and one answer for all looks good. Rare ones, of fewer
    than `min_samples_per_class` in validation, may be missing by chance.
    """
    asked = part_recalls(test, kind)
    for part, recall in part_recalls(validation, kind).items():
        if (recall.n or 0) >= limits.min_samples_per_class and not asked[part].n:
            name = PART_NAMES[kind]
            judge.cannot(
                f"{name} {part} has {recall.n} samples in validation and none in the test set, so "
                f"nothing is known of it: split the data so that each part has every {name}"
            )


def no_part_is_lost(predictions: Predictions, kind: str, limits: Limits, judge: Judge) -> None:
    """Judge the recall of each class or label, note that of each token."""
    for part, recall in part_recalls(predictions, kind).items():
        name = f"{PART_NAMES[kind]} {part}"
        if (recall.n or 0) < limits.min_samples_per_class or math.isnan(recall.value):
            judge.note(f"{name} is not decidable: {recall.n} samples")
        elif kind == "sequence":
            judge.note(f"recall of {name}: {recall.text()}")
        else:
            judge(
                recall, what=f"recall of {name}", at_least=limits.min_class_recall, by="upper bound"
            )
