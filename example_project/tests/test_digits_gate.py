"""A check of our own at the baseline's gate: a good average must not hide a weak digit."""

import pytest

from pytest_mltrainer import Evaluation, Judge
from pytest_mltrainer.evaluation.confusion import class_recalls


@pytest.mark.gate("baseline")
def test_no_weak_digit(evaluation: Evaluation, judge: Judge) -> None:
    """Every digit may still be one that is read right nine times in ten.

    Recomputed from the best checkpoint. There are about 36 validation images of a digit, so the
    upper bound of Wilson's 95 % interval decides: 8 misread sevens are proof, 6 may be chance.
    """
    recalls = class_recalls(evaluation.validation.predictions, classes=10)
    for digit, recall in recalls.items():
        judge(recall, at_least=0.9, by="upper bound", what=f"validation recall of digit {digit}")
