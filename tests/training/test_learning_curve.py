"""What the learning curve says of runs whose cause is known, and which rows its parts hold."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mltrainer.evaluation.metrics import METRICS
from pytest_mltrainer.evaluation.predictions import Predictions
from pytest_mltrainer.training.diagnosing.learning_curve import (
    LearningCurve,
    judge_curve,
    judge_point,
    rows_of,
)

ACCURACY, RMSE = METRICS["accuracy"], METRICS["rmse"]


def right(share: float, n: int) -> Predictions:
    """Two classes, `share` of `n` rows predicted right; the same rows for the same share."""
    targets = np.arange(n) % 2
    hits = np.arange(n) < round(share * n)
    outputs = np.zeros((n, 2))
    outputs[np.arange(n), np.where(hits, targets, 1 - targets)] = 1.0
    return Predictions(outputs=outputs, targets=targets)


def off_by(error: float, n: int) -> Predictions:
    targets = np.linspace(0.0, 10.0, n)
    signs = np.where(np.arange(n) % 3 == 0, -1.0, 1.0) * (1 + 0.1 * (np.arange(n) % 5))
    return Predictions(outputs=targets + error * signs, targets=targets)


def curve(train: float, half: float, whole: float, goal: float | None = 0.95) -> LearningCurve:
    raw = {0.5: (right(train, 500), right(half, 400)), 1.0: (right(train, 1000), right(whole, 400))}
    return judge_curve(raw, ACCURACY, maximize=True, goal=goal, trivial=0.5)


@pytest.mark.parametrize(
    ("train", "half", "whole", "kind"),
    [
        (0.70, 0.68, 0.69, "bias"),
        (1.00, 0.80, 0.80, "variance"),
        (1.00, 0.70, 0.80, "data"),
        (0.97, 0.95, 0.96, "flat"),
        (0.97, 0.80, 0.95, "data"),
    ],
)
def test_accuracy(train: float, half: float, whole: float, kind: str) -> None:
    found = curve(train, half, whole)
    assert found.kind == kind, found.reason
    assert found.gap is not None
    assert found.gap.value == pytest.approx(train - whole)


@pytest.mark.parametrize(
    ("train", "whole", "kind"),
    [(0.70, 0.69, "bias"), (1.00, 0.80, "variance"), (0.97, 0.95, "not judged")],
)
def test_its_last_point_alone_tells_bias_and_variance(
    train: float, whole: float, kind: str
) -> None:
    parts = right(train, 1000), right(whole, 400)
    found = judge_point(*parts, ACCURACY, maximize=True, goal=0.95, trivial=0.5)
    assert (found.kind, found.rise) == (kind, None)


@pytest.mark.parametrize(
    ("train", "half", "whole", "kind"),
    [(2.0, 2.1, 2.1, "bias"), (0.1, 1.0, 1.0, "variance"), (0.1, 2.0, 1.0, "data")],
)
def test_an_error_counts_downwards(train: float, half: float, whole: float, kind: str) -> None:
    raw = {
        0.5: (off_by(train, 100), off_by(half, 300)),
        1.0: (off_by(train, 300), off_by(whole, 300)),
    }
    found = judge_curve(raw, RMSE, maximize=False, goal=1.0, trivial=3.0)
    assert found.kind == kind, found.reason


def test_without_a_goal_nothing_is_called_bias() -> None:
    assert curve(0.70, 0.68, 0.69, goal=None).kind == "flat"


def test_too_few_rows_are_not_judged() -> None:
    raw = {0.5: (off_by(1.0, 5), off_by(1.0, 5)), 1.0: (off_by(1.0, 5), off_by(1.0, 5))}
    assert judge_curve(raw, RMSE, maximize=False, goal=1.0, trivial=3.0).kind == "not judged"


@given(labels=st.lists(st.integers(0, 3), min_size=4, max_size=60), seed=st.integers(0, 99))
def test_parts_lie_within_one_another_and_keep_every_class(labels: list[int], seed: int) -> None:
    targets: np.ndarray[Any, Any] = np.array(labels)
    quarter, half, whole = (
        rows_of(share, targets, kind="classification", seed=seed) for share in (0.25, 0.5, 1.0)
    )
    assert set(quarter) <= set(half) <= set(whole) == set(range(len(labels)))
    assert set(targets[quarter]) == set(labels)
    assert quarter == rows_of(0.25, targets, kind="classification", seed=seed)
    for label in set(labels):
        count = labels.count(label)
        assert sum(targets[half] == label) == max(1, round(count / 2))


def test_regression_draws_rows_at_random() -> None:
    targets = np.linspace(0.0, 1.0, 100)
    one, other = (rows_of(0.25, targets, kind="regression", seed=seed) for seed in (1, 2))
    assert len(one) == len(other) == 25
    assert one != other
