"""Recall of the parts of a task: classes, labels, tokens."""

import math

import numpy as np
import pytest

from pytest_mltrainer.evaluation.confusion import IGNORED, class_recalls, part_recalls
from pytest_mltrainer.evaluation.predictions import Predictions


def test_labels_are_recalled_among_the_samples_that_have_them() -> None:
    outputs = np.array([[1.0, -1.0, 3.0], [-2.0, 5.0, 3.0], [4.0, -1.0, 3.0]])
    targets = np.array([[1, 1, 0], [1, 1, 0], [0, 0, 0]])
    recalls = part_recalls(Predictions(outputs, targets), "multilabel")
    assert [recall.n for recall in recalls.values()] == [2, 2, 0]
    assert [recalls[0].value, recalls[1].value] == [0.5, 0.5]
    assert math.isnan(recalls[2].value)
    assert recalls[2].low is None


def test_an_answer_that_is_not_finite_recalls_nothing() -> None:
    predictions = Predictions(np.array([[np.nan], [1.0]]), np.array([[1], [1]]))
    assert part_recalls(predictions, "multilabel")[0].value == 0.5


def test_tokens_that_do_not_count_are_left_out() -> None:
    outputs = np.eye(3)[np.array([[0, 1, 2], [0, 0, 1]])]
    targets = np.array([[0, 1, IGNORED], [0, 1, IGNORED]])
    recalls = part_recalls(Predictions(outputs, targets), "sequence")
    assert {label: recall.n for label, recall in recalls.items()} == {0: 2, 1: 2, 2: 0}
    assert (recalls[0].value, recalls[1].value) == (1.0, 0.5)


def test_classes_are_those_of_the_confusion_matrix() -> None:
    predictions = Predictions(np.eye(2)[[0, 1, 1]], np.array([0, 0, 1]))
    assert part_recalls(predictions, "classification") == class_recalls(predictions, 2)


@pytest.mark.parametrize("kind", ["regression", "custom"])
def test_numbers_have_no_parts(kind: str) -> None:
    assert part_recalls(Predictions(np.zeros(3), np.zeros(3)), kind) == {}
