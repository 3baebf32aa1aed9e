"""Trivial and linear predictions: what a model is compared with."""

import time
import warnings

import numpy as np
import pytest

from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.evaluation.metrics import METRICS, default_metric
from pytest_mltrainer.evaluation.references import linear_reference
from pytest_mltrainer.evaluation.trivial import trivial_predictions


def test_majority_class_and_its_share() -> None:
    train, targets = np.array([2, 2, 2, 0, 1, 2]), np.array([2, 0, 5])
    found = trivial_predictions("classification", train, targets)
    assert found.outputs.shape == (3, 6)
    assert METRICS["accuracy"].score(found.outputs, targets) == pytest.approx(1 / 3)
    assert np.exp(found.outputs[0]).sum() == pytest.approx(1)


def test_one_class_only_is_scored_too() -> None:
    found = trivial_predictions("classification", np.zeros(4, dtype=int), np.zeros(2, dtype=int))
    assert METRICS["accuracy"].score(found.outputs, found.targets) == 1


def test_frequent_labels_are_predicted() -> None:
    train = np.array([[1, 0, 1], [1, 0, 0], [1, 0, 1]])
    found = trivial_predictions("multilabel", train, train)
    np.testing.assert_array_equal(found.outputs > 0, [[True, False, True]] * 3)
    assert np.isfinite(found.outputs).all()


@pytest.mark.parametrize("shape", [(50,), (50, 1), (50, 3)])
def test_the_mean_has_r2_zero(shape: tuple[int, ...]) -> None:
    targets = np.random.default_rng(0).normal(7, 2, shape)
    found = trivial_predictions("regression", targets, targets)
    assert found.outputs.shape == shape
    assert METRICS["r2"].score(found.outputs, targets) == pytest.approx(0, abs=1e-12)


def test_majority_token_ignores_padding() -> None:
    train = np.array([[1, -100, -100], [1, 0, -100]])
    found = trivial_predictions("sequence", train, train)
    assert METRICS["token_accuracy"].score(found.outputs, train) == pytest.approx(2 / 3)


def test_nothing_to_learn_from_is_an_error() -> None:
    with pytest.raises(UserError, match="no training targets"):
        trivial_predictions("regression", np.empty(0), np.zeros(3))
    with pytest.raises(UserError, match="'custom'"):
        trivial_predictions("custom", np.zeros(3), np.zeros(3))


def linear_problem(kind: str, n: int, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(n, *shape)) * 100 + 3
    signal = inputs.reshape(n, -1)[:, :10].sum(axis=1)
    if kind == "regression":
        return inputs, signal
    return inputs, np.digitize(signal, np.quantile(signal, [0.3, 0.6]))


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_linear_problems_are_solved(kind: str) -> None:
    inputs, targets = linear_problem(kind, 600, (4, 5))
    metric = default_metric(kind)
    call = (kind, inputs[:500], targets[:500], inputs[500:], targets[500:], metric)
    found = linear_reference(*call)
    assert found is not None
    assert found["linear_train"] > 0.9
    assert found["linear_validation"] > 0.85
    assert found == linear_reference(*call)


def test_cost_is_bounded_and_nothing_is_said_aloud() -> None:
    inputs, targets = linear_problem("classification", 8_000, (1_500,))
    targets = targets + 3 * (np.arange(8_000) % 10)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = linear_reference(
            "classification", inputs, targets, inputs, targets, METRICS["accuracy"]
        )
    assert found is not None
    assert time.perf_counter() - start < 15


def test_where_there_is_no_reference() -> None:
    inputs, targets = linear_problem("classification", 50, (3,))
    metric = METRICS["accuracy"]
    broken = inputs.copy()
    broken[0, 0] = np.nan
    for kind, train, labels in (
        ("multilabel", inputs, targets),
        ("classification", broken, targets),
        ("classification", inputs, targets * 0),
        ("classification", inputs[:0], targets[:0]),
        ("classification", inputs.astype(str), targets),
    ):
        assert linear_reference(kind, train, labels, inputs, targets, metric) is None


def test_a_label_never_trained_on_is_a_miss() -> None:
    inputs, targets = linear_problem("classification", 100, (12,))
    unseen = np.full(100, 9)
    found = linear_reference("classification", inputs, targets, inputs, unseen, METRICS["accuracy"])
    assert found is not None
    assert found["linear_validation"] == 0
