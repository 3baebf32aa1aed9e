"""Where a model is wrong."""

import math
from itertools import pairwise

import numpy as np
import pytest
import sklearn.metrics as sk

from pytest_mltrainer.evaluation.confusion import (
    calibration_error,
    class_recalls,
    confusion_matrix,
    named_confusions,
    residual_quantiles,
)
from pytest_mltrainer.evaluation.predictions import Predictions
from pytest_mltrainer.evaluation.proportions import wilson

TRUE = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2])
FOUND = np.array([0, 1, 1, 1, 1, 0, 2, 2, 0])
CLASSES = Predictions(np.eye(4)[FOUND], TRUE)


def test_matrix_equals_sklearn() -> None:
    wanted = sk.confusion_matrix(TRUE, FOUND, labels=range(4))
    np.testing.assert_array_equal(confusion_matrix(CLASSES, 4), wanted)


def test_what_is_not_finite_is_in_no_cell_and_counts_as_a_miss() -> None:
    outputs = CLASSES.outputs.copy()
    outputs[3] = np.nan
    broken = Predictions(outputs, TRUE)
    assert confusion_matrix(broken, 4).sum() == len(TRUE) - 1
    assert class_recalls(broken, 4)[1].value == 0.5


def test_recalls_have_wilsons_interval() -> None:
    recalls = class_recalls(CLASSES, 4)
    assert [recalls[label].n for label in range(4)] == [3, 2, 4, 0]
    assert recalls[0].value == pytest.approx(1 / 3)
    assert (recalls[0].low, recalls[0].high) == pytest.approx(wilson(1 / 3, 3))
    assert math.isnan(recalls[3].value)
    assert recalls[3].low is None


def test_confusions_are_named_most_frequent_first() -> None:
    matrix = confusion_matrix(CLASSES, 4)
    assert named_confusions(matrix) == [(0, 1, 2, pytest.approx(2 / 3)), (2, 0, 2, 0.5)]
    assert len(named_confusions(matrix, top=1)) == 1
    assert named_confusions(np.eye(3, dtype=int)) == []


def test_empty_predictions() -> None:
    empty = Predictions(np.empty((0, 3)), np.empty(0, dtype=int))
    assert confusion_matrix(empty, 3).sum() == 0
    assert class_recalls(empty, 3)[2].n == 0
    assert math.isnan(calibration_error(empty))
    assert residual_quantiles(empty) == []


def test_residuals_over_quantiles() -> None:
    targets = np.arange(100.0)
    outputs = np.where(targets < 20, targets + 3, targets)
    outputs[50] = np.nan
    found = residual_quantiles(Predictions(outputs, targets))
    assert sum(one.n for one in found) == 99
    assert [round(one.mean, 1) for one in found] == [3, 0, 0, 0, 0]
    assert found[0].low == 0
    assert found[-1].high == 99
    assert all(one.high < other.low for one, other in pairwise(found))


def test_equal_targets_share_a_bin() -> None:
    assert [one.n for one in residual_quantiles(Predictions(np.zeros(9), np.ones(9)))] == [9]


def test_calibration() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(20_000, 3)) * 2
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    targets = (chances.cumsum(axis=1) < generator.random((20_000, 1))).sum(axis=1)
    assert calibration_error(Predictions(logits, targets)) < 0.02
    assert calibration_error(Predictions(logits * 5, targets)) > 0.1
    sure = Predictions(np.eye(2)[[0, 0]] * 1e3, np.array([0, 1]))
    assert calibration_error(sure) == pytest.approx(0.5)
