"""What is judged by kind: classes and labels can fail, tokens are noted, numbers have no parts."""

import numpy as np
import pytest
from pytest_mltrainer.gates.outputs import (
    need_enough,
    need_every_part,
    need_finite,
    no_part_is_lost,
)

from pytest_mltrainer.core.config import Limits
from pytest_mltrainer.core.judge import CannotJudge, CheckFailed, Judge
from pytest_mltrainer.evaluation.predictions import Predictions

LIMITS = Limits()
GENERATOR = np.random.default_rng(0)


def labels(recall: float) -> Predictions:
    """Two labels of 100 samples: the first always found, the second as often as `recall` says."""
    targets = np.ones((100, 2))
    outputs = np.ones((100, 2))
    outputs[int(recall * 100) :, 1] = -1
    return Predictions(outputs=outputs, targets=targets)


def test_every_label_is_judged() -> None:
    judge = Judge()
    no_part_is_lost(labels(0.6), "multilabel", LIMITS, judge)
    assert [entry.what for entry in judge.judgements] == ["recall of label 0", "recall of label 1"]


def test_a_lost_label_fails_though_most_answers_are_right() -> None:
    with pytest.raises(CheckFailed, match=r"recall of label 1: 0\.3.* by its upper bound"):
        no_part_is_lost(labels(0.3), "multilabel", LIMITS, Judge())


def test_a_label_of_few_samples_is_not_decidable() -> None:
    predictions = labels(0.3)
    few = Predictions(outputs=predictions.outputs[-10:], targets=predictions.targets[-10:])
    judge = Judge()
    no_part_is_lost(few, "multilabel", LIMITS, judge)
    assert judge.judgements == []
    assert judge.notes[1] == "label 1 is not decidable: 10 samples"


def test_tokens_are_noted() -> None:
    tokens = Predictions(outputs=GENERATOR.random((50, 4, 2)), targets=np.zeros((50, 4), np.int64))
    judge = Judge()
    no_part_is_lost(tokens, "sequence", LIMITS, judge)
    assert judge.judgements == []
    assert judge.notes[0].startswith("recall of token 0: 0.")


def test_numbers_have_no_parts() -> None:
    judge = Judge()
    numbers = Predictions(outputs=GENERATOR.random(50), targets=GENERATOR.random(50))
    no_part_is_lost(numbers, "regression", LIMITS, judge)
    assert (judge.judgements, judge.notes) == ([], [])


def test_outputs_that_are_not_finite_are_counted() -> None:
    outputs = GENERATOR.random((20, 3))
    outputs[[4, 9], 1] = np.nan, np.inf
    predictions = Predictions(outputs=outputs, targets=np.zeros(20, np.int64))
    says = "on the test set are not finite for 2 of 20 samples, the first of them number 4"
    with pytest.raises(CannotJudge, match=says):
        need_finite(predictions, "the test set", Judge())


def classes(*counts: int) -> Predictions:
    targets = np.repeat(np.arange(len(counts)), counts)
    return Predictions(outputs=GENERATOR.random((len(targets), len(counts))), targets=targets)


def test_a_class_that_the_test_set_lacks_is_named() -> None:
    says = "class 1 has 40 samples in validation and none in the test set"
    with pytest.raises(CannotJudge, match=says):
        need_every_part(classes(60, 40), classes(80, 0), "classification", LIMITS, Judge())


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_what_is_rare_or_no_class_may_be_missing(kind: str) -> None:
    need_every_part(classes(60, 5), classes(80, 0), kind, LIMITS, Judge())
    need_every_part(classes(60, 40), classes(80, 1), kind, LIMITS, Judge())


def test_a_test_set_too_small_to_judge_says_so() -> None:
    with pytest.raises(CannotJudge, match="the test set has 8 samples: fewer than 20"):
        need_enough(classes(4, 4), LIMITS, Judge())
    need_enough(classes(10, 10), LIMITS, Judge())
