"""Metrics agree with scikit-learn, and nothing that is broken scores well."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.evaluation.metrics import (
    DEFAULTS,
    METRICS,
    Metric,
    all_metrics,
    default_metric,
    metric_named,
)

Made = Callable[..., tuple[np.ndarray, np.ndarray]]
SEEDS = st.integers(0, 2**32 - 1)


@given(seed=SEEDS, n=st.integers(2, 30))
def test_classification_equals_sklearn(made: Made, seed: int, n: int) -> None:
    outputs, targets = made("classification", seed, n)
    found = outputs.argmax(1)
    assume(len(set(targets)) > 1 and set(found) <= set(targets))  # else sklearn warns
    assert all_metrics("classification", outputs, targets) == pytest.approx(
        {
            "accuracy": sk.accuracy_score(targets, found),
            "balanced_accuracy": sk.balanced_accuracy_score(targets, found),
            "macro_f1": sk.f1_score(targets, found, average="macro"),
        }
    )


def test_macro_f1_counts_classes_that_are_only_predicted() -> None:
    outputs, targets = np.eye(3)[[0, 1, 2, 2]], np.array([0, 1, 1, 0])
    wanted = sk.f1_score(targets, outputs.argmax(1), average="macro", zero_division=0)
    assert METRICS["macro_f1"].score(outputs, targets) == pytest.approx(wanted)


@given(seed=SEEDS, n=st.integers(2, 30))
def test_multilabel_equals_sklearn(made: Made, seed: int, n: int) -> None:
    outputs, targets = made("multilabel", seed, n)
    found = (outputs > 0).astype(int)
    assume(found.any() and targets.any())
    assert all_metrics("multilabel", outputs, targets) == pytest.approx(
        {
            "micro_f1": sk.f1_score(targets, found, average="micro"),
            "label_accuracy": (found == targets).mean(),
            "subset_accuracy": sk.accuracy_score(targets, found),
        }
    )


@given(seed=SEEDS, n=st.integers(3, 30))
def test_regression_equals_sklearn(made: Made, seed: int, n: int) -> None:
    outputs, targets = made("regression", seed, n)
    assert all_metrics("regression", outputs, targets) == pytest.approx(
        {
            "r2": sk.r2_score(targets, outputs),
            "mae": sk.mean_absolute_error(targets, outputs),
            "rmse": sk.root_mean_squared_error(targets, outputs),
        }
    )


def test_token_accuracy_runs_over_tokens_that_count(made: Made) -> None:
    outputs, targets = made("sequence")
    outputs[targets == -100] = np.nan  # padding may hold anything
    counted = targets != -100
    wanted = (outputs.argmax(2) == targets)[counted].mean()
    assert METRICS["token_accuracy"].score(outputs, targets) == pytest.approx(wanted)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS.keys())
class TestEveryMetric:
    def test_per_sample_values_average_to_the_score(self, made: Made, metric: Metric) -> None:
        outputs, targets = made(metric.kinds[0])
        values = metric.per_sample(outputs, targets)
        if values is None:
            assert metric.name in {
                "balanced_accuracy",
                "macro_f1",
                "micro_f1",
                "r2",
                "rmse",
                "token_accuracy",
            }
        else:
            assert values.shape == (len(targets),)
            assert values.mean() == pytest.approx(metric.score(outputs, targets))

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_one_output_that_is_not_finite_makes_nan(
        self, made: Made, metric: Metric, bad: float
    ) -> None:
        outputs, targets = made(metric.kinds[0])
        targets = np.where(targets == -100, 0, targets)
        outputs.reshape(-1)[7] = bad
        assert math.isnan(metric.score(outputs, targets))

    def test_no_samples_make_nan(self, made: Made, metric: Metric) -> None:
        outputs, targets = made(metric.kinds[0])
        assert math.isnan(metric.score(outputs[:0], targets[:0]))
        assert math.isnan(metric.score(np.empty(0), np.empty(0)))

    def test_wrong_shapes_are_a_user_error(self, made: Made, metric: Metric) -> None:
        outputs, targets = made(metric.kinds[0])
        with pytest.raises(UserError, match=metric.kinds[0]):
            metric.score(outputs[:, :1], targets)

    def test_perfect_outputs_score_best(self, made: Made, metric: Metric) -> None:
        _, targets = made(metric.kinds[0])
        perfect = {
            "classification": lambda: np.eye(4)[targets],
            "multilabel": lambda: targets * 2.0 - 1,
            "regression": lambda: targets,
            "sequence": lambda: np.eye(3)[np.maximum(targets, 0)],
        }[metric.kinds[0]]()
        assert metric.score(perfect, targets) == (1.0 if metric.maximize else 0.0)


def test_a_column_does_not_broadcast_against_a_row() -> None:
    targets = np.arange(5.0)
    assert METRICS["mae"].score(targets[:, None], targets) == 0.0


@pytest.mark.parametrize("value", [0.1, 0.0, 1e300])
def test_r2_of_constant_targets_is_undefined(value: float) -> None:
    assert math.isnan(METRICS["r2"].score(np.arange(9.0), np.full(9, value)))


@given(seed=SEEDS, n=st.integers(3, 30), place=st.integers(0, 3), value=st.floats(-9, 9))
def test_a_constant_target_among_others_leaves_r2_to_them(
    made: Made, seed: int, n: int, place: int, value: float
) -> None:
    draw = np.random.default_rng(seed)
    outputs, targets = draw.normal(size=(n, 3)), draw.normal(size=(n, 3))
    alone = METRICS["r2"].score(outputs, targets)
    more = np.insert(outputs, place, draw.normal(size=n), axis=1)
    assert METRICS["r2"].score(more, np.insert(targets, place, value, axis=1)) == pytest.approx(
        alone
    )
    more[0, place] = np.nan
    assert math.isnan(METRICS["r2"].score(more, np.insert(targets, place, value, axis=1)))


def test_nothing_to_find_and_nothing_found_is_undefined() -> None:
    assert math.isnan(METRICS["micro_f1"].score(np.full((9, 2), -1.0), np.zeros((9, 2))))


def test_every_kind_has_its_default_among_its_metrics() -> None:
    for kind in DEFAULTS:
        assert metric_named(default_metric(kind).name, kind) is default_metric(kind)


def test_a_miss_lists_what_there_is() -> None:
    with pytest.raises(UserError, match=r"'accurcy'.*macro_f1\. Did you mean 'accuracy'"):
        metric_named("accurcy", "classification")
    with pytest.raises(UserError, match=r"'r2' is for regression; for sequence .* token_accuracy"):
        metric_named("r2", "sequence")
    with pytest.raises(UserError, match="for custom there is none"):
        metric_named("accuracy", "custom")
    with pytest.raises(UserError, match="Did you mean 'regression'"):
        default_metric("regresion")
