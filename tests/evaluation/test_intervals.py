"""Intervals cover what they promise, and say nothing where they cannot."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.evaluation.intervals import (
    change,
    difference,
    measure,
    paired_difference,
    smallest_detectable,
)
from pytest_mltrainer.evaluation.metrics import METRICS, Metric
from pytest_mltrainer.evaluation.predictions import Predictions
from pytest_mltrainer.evaluation.proportions import newcombe, newcombe_paired, wilson

ACCURACY, MAE, R2 = METRICS["accuracy"], METRICS["mae"], METRICS["r2"]


def classified(right: np.ndarray) -> Predictions:
    """Predictions of two classes, right where `right` says so."""
    return Predictions(np.eye(2)[np.where(right, 0, 1)], np.zeros(len(right), dtype=int))


def regressed(generator: np.random.Generator, n: int, noise: float = 1.0) -> Predictions:
    targets = generator.normal(size=n)
    return Predictions(targets + generator.normal(scale=noise, size=n), targets)


@given(n=st.integers(1, 500), data=st.data())
def test_wilson_equals_scipy(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    wanted = binomtest(k, n).proportion_ci(0.9, method="wilson")
    low, high = wilson(k / n, n, 0.9)
    assert (low, high) == pytest.approx(tuple(wanted), abs=1e-12)
    assert low <= k / n <= high


def test_newcombe_equals_his_published_examples() -> None:
    assert newcombe(56 / 70, 70, 48 / 80, 80) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert newcombe(9 / 10, 10, 3 / 10, 10) == pytest.approx((0.1705, 0.8090), abs=5e-5)
    assert newcombe_paired(36, 12, 2, 0) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_accuracy_has_wilsons_interval() -> None:
    found = measure(ACCURACY, classified(np.arange(360) < 337))
    assert (found.value, found.n) == (pytest.approx(337 / 360), 360)
    assert (found.low, found.high) == pytest.approx(wilson(337 / 360, 360))


@pytest.mark.parametrize("name", ["mae", "rmse", "r2"])
def test_bootstrap_covers_the_truth(name: str) -> None:
    generator = np.random.default_rng(5)
    metric = METRICS[name]
    big = regressed(generator, 400_000)
    truth = metric.score(big.outputs, big.targets)
    found = [measure(metric, regressed(generator, 60)) for _ in range(150)]
    assert np.mean([one.low <= truth <= one.high for one in found]) > 0.88


def test_tokens_of_one_sequence_are_not_independent() -> None:
    right = np.repeat(np.random.default_rng(0).random(50) < 0.7, 20).reshape(50, 20)
    outputs = np.eye(2)[np.where(right, 0, 1)]
    found = measure(METRICS["token_accuracy"], Predictions(outputs, np.zeros((50, 20), dtype=int)))
    low, high = wilson(float(right.mean()), 50)
    assert found.n == 50
    assert found.high - found.low == pytest.approx(high - low, rel=0.15)


def test_perfect_shares_do_not_prove_perfection() -> None:
    targets = np.eye(3, dtype=int)[np.arange(30) % 3]
    found = measure(METRICS["micro_f1"], Predictions(targets * 2.0 - 1, targets))
    assert (found.low, found.high) == pytest.approx(wilson(1.0, 30))


def test_large_samples_are_grouped_without_narrowing_the_interval() -> None:
    found = measure(MAE, regressed(np.random.default_rng(1), 100_000))
    error = math.sqrt((1 - 2 / math.pi) / 100_000)  # of the mean of |N(0, 1)|
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.12)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS.keys())
def test_same_predictions_give_the_same_interval_around_the_value(
    made: Callable[..., tuple[np.ndarray, np.ndarray]], metric: Metric
) -> None:
    predictions = Predictions(*made(metric.kinds[0], n=80))
    one, other = measure(metric, predictions), measure(metric, predictions)
    assert one == other
    assert one.low < one.value < one.high


def test_nothing_finite_or_too_little_has_no_interval() -> None:
    broken = Predictions(np.full((20, 2), np.nan), np.zeros(20, dtype=int))
    assert math.isnan(measure(ACCURACY, broken).value)
    assert measure(ACCURACY, broken).low is None
    assert difference(ACCURACY, broken, broken).low is None
    assert measure(R2, regressed(np.random.default_rng(0), 9)).low is None
    assert measure(R2, regressed(np.random.default_rng(0), 10)).low is not None


def test_difference_of_independent_samples() -> None:
    found = difference(ACCURACY, classified(np.arange(70) < 56), classified(np.arange(80) < 48))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    assert found.n == 70
    generator = np.random.default_rng(2)
    worse = difference(MAE, regressed(generator, 100, 2.0), regressed(generator, 300))
    assert worse.low is not None
    assert worse.low > 0


def test_pairing_sees_what_independent_samples_hide() -> None:
    generator = np.random.default_rng(3)
    a = regressed(generator, 200)
    b = Predictions(a.outputs + 0.05 * np.sign(a.outputs - a.targets), a.targets)
    assert paired_difference(MAE, b, a).low == pytest.approx(0.05)
    assert difference(MAE, b, a).low < 0


def test_paired_proportions() -> None:
    a, b = np.zeros((2, 50), dtype=bool)
    a[:48], b[:36], b[48:] = True, True, True
    found = paired_difference(ACCURACY, classified(a), classified(b))
    assert (found.low, found.high) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_no_disagreement_on_few_samples_proves_little() -> None:
    same = classified(np.arange(12) < 11)
    found = paired_difference(ACCURACY, same, same)
    assert found.value == 0
    assert found.low < -0.05
    assert found.high > 0.05


def test_other_samples_are_no_pair() -> None:
    generator = np.random.default_rng(0)
    with pytest.raises(UserError, match="same samples"):
        paired_difference(MAE, regressed(generator, 20), regressed(generator, 20))


class TestChange:
    def test_finds_an_early_fall_under_spikes(self) -> None:
        generator = np.random.default_rng(0)
        curve = np.maximum(2 - 0.01 * np.arange(1_000), 1) + generator.normal(scale=0.3, size=1_000)
        curve[::37] = 1e6
        found = change(curve)
        assert found.value == pytest.approx(-0.5, rel=0.4)
        assert found.high < 0

    def test_enormous_first_losses_hide_no_fall(self) -> None:
        assert change(np.append(10.0 ** np.arange(9, -1, -1), np.linspace(0.9, 0.1, 130))).high < 0

    def test_noise_is_not_a_trend(self) -> None:
        generator = np.random.default_rng(1)
        found = [change(generator.normal(size=600)) for _ in range(400)]
        assert sum(not each.low <= 0 <= each.high for each in found) <= 0.09 * 400

    def test_ten_falling_values_decide_and_nine_do_not(self) -> None:
        assert change(np.repeat([1.0, 0.0], 5)).high == -1
        assert change(np.repeat([1.0, 0.0], 5)[1:]).value == -1
        assert change(np.repeat([1.0, 0.0], 5)[1:]).high is None

    @pytest.mark.parametrize("curve", [[], [1.0], [1.0] * 20 + [math.nan]])
    def test_nothing_to_judge(self, curve: list[float]) -> None:
        assert math.isnan(change(np.array(curve)).value)
        assert change(np.array(curve)).low is None

    def test_a_constant_curve_has_not_changed(self) -> None:
        found = change(np.ones(50))
        assert (found.value, found.low, found.high) == (0, 0, 0)


def test_smallest_detectable_shrinks_with_n() -> None:
    assert smallest_detectable(360, 0.9) == pytest.approx(0.0353, abs=5e-4)
    assert smallest_detectable(36_000, 0.9) < smallest_detectable(360, 0.9) / 9
    assert math.isnan(smallest_detectable(0, 0.9))
    assert math.isnan(smallest_detectable(10, math.nan))
