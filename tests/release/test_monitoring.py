"""The monitor and its calibration: values by kind, quiet by chance, loud at faults, any shape."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mltrainer.release import monitor, monitor_metrics
from pytest_mltrainer.release.inputs import Leaf, nested
from pytest_mltrainer.release.monitor import Alarm, Monitor
from pytest_mltrainer.release.monitoring import FALSE_ALARM_LIMIT, calibrated_rules
from pytest_mltrainer.release.monitoring_proof import FAULTS, prove
from pytest_mltrainer.release.prometheus import prometheus_rules

Array = np.ndarray[Any, Any]
LATENCIES = np.random.default_rng(5).gamma(4.0, 0.25, 200)


class Service:
    """Requests of a service that never changes, of any kind, in two halves."""

    one_by_one = False

    def __init__(self, kind: str, inputs: dict[str, Array], outputs: Array) -> None:
        self.kind, self.inputs, self.outputs = kind, inputs, outputs
        half = len(outputs) // 2
        self.rows = {"calibration": np.arange(half), "proof": np.arange(half, len(outputs))}

    def half(self, name: str) -> tuple[list[Leaf], Array]:
        rows = self.rows[name]
        leaves = [Leaf(name=key, values=part[rows]) for key, part in self.inputs.items()]
        return leaves, self.outputs[rows]


def service(kind: str, seed: int, n: int = 200) -> Service:
    """Skewed inputs with a column that is nearly always zero, one that is constant, and outputs."""
    generator = np.random.default_rng(seed)
    inputs = generator.lognormal(0, 1.5, (n, 6)).astype(np.float32)
    inputs[:, 4] = generator.random(n) < 0.02
    inputs[:, 5] = 3.0
    outputs = {
        "classification": lambda: generator.normal([2, 0, 0, -2], 2, (n, 4)),
        "multilabel": lambda: generator.normal(-1, 2, (n, 3)),
        "regression": lambda: generator.standard_t(3, n),
        "sequence": lambda: generator.normal(0, 2, (n, 5, 7)),
        "custom": lambda: generator.normal(0, 1, (n, 90)),
    }[kind]()
    return Service(kind, {"inputs": inputs}, outputs.astype(np.float32))


def monitor_of(given_service: Service, slow_ms: float | None = None) -> Monitor:
    rules = calibrated_rules(given_service, LATENCIES, slow_ms)  # type: ignore[arg-type]
    stored = json.loads(json.dumps(rules, allow_nan=False))
    return Monitor(
        rules=stored["rules"],
        window=stored["window"],
        kind=stored["kind"],
        slow_ms=stored["slow_ms"],
        one_by_one=stored["one_by_one"],
    )


def windows(source: Service, watch: Monitor, count: int) -> list[tuple[Any, Array, Array]]:
    generator = np.random.default_rng(3)
    leaves, outputs = source.half("proof")
    drawn = [generator.integers(0, len(outputs), watch.window) for _ in range(count)]
    return [
        (
            nested([Leaf(name=leaf.name, values=leaf.values[rows]) for leaf in leaves]),
            outputs[rows],
            generator.choice(LATENCIES[1::2], watch.window),
        )
        for rows in drawn
    ]


class Texts(Service):
    """Requests of different length: tokens beside a mask, each asked by itself."""

    one_by_one = True

    def __init__(self, seed: int, n: int = 200) -> None:
        generator = np.random.default_rng(seed)
        self.every = [
            {"tokens": generator.integers(0, 50, (1, length)), "mask": np.ones((1, length), bool)}
            for length in generator.integers(3, 30, n)
        ]
        outputs = generator.normal([1, 0, -1], 2, (n, 3)).astype(np.float32)
        super().__init__("classification", monitor.summaries(self.every), outputs)

    def requests(self, name: str) -> list[list[Leaf]]:
        chosen = [self.every[row] for row in self.rows[name]]
        return [[Leaf(name=key, values=part) for key, part in one.items()] for one in chosen]

    def window(self, seed: int) -> tuple[list[Any], Array, Array]:
        generator = np.random.default_rng(seed)
        rows = generator.choice(self.rows["proof"], 100)
        latencies = generator.choice(LATENCIES[1::2], 100)
        return [self.every[row] for row in rows], self.outputs[rows], latencies


def rules_of(alarms: list[Alarm]) -> set[str]:
    return {alarm.rule for alarm in alarms}


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression", "sequence"])
def test_an_unchanged_service_keeps_quiet(kind: str) -> None:
    loud = 0
    for seed in range(6):
        sound = service(kind, seed)
        watch = monitor_of(sound)
        alarmed = sum(bool(watch.check(*window)) for window in windows(sound, watch, 100))
        loud += alarmed > 100 * FALSE_ALARM_LIMIT
    assert loud == 0


@pytest.mark.parametrize("kind", ["classification", "multilabel", "regression", "custom"])
def test_each_fault_raises_the_alarm_of_its_rule(kind: str) -> None:
    sound = service(kind, 1)
    watch = monitor_of(sound)
    (inputs, outputs, latencies), *_ = windows(sound, watch, 1)
    # The skewed columns spread by about 9; a shift of that size is one deviation of them.
    assert "input_drift" in rules_of(watch.check(inputs + 9, outputs, latencies))
    assert "input_drift" in rules_of(watch.check(inputs / 255, outputs, latencies))
    assert "latency" in rules_of(watch.check(inputs, outputs, latencies * 10))
    broken = outputs.copy()
    broken.reshape(len(broken), -1)[7, 0] = np.inf
    assert rules_of(watch.check(inputs, broken, latencies)) == {"not_finite"}
    missing = inputs.copy()
    missing[3, 2] = np.nan
    assert rules_of(watch.check(missing, outputs, latencies)) == {"not_finite"}
    one_answer = np.repeat(outputs[:1], len(outputs), axis=0)
    assert "label_shift" in rules_of(watch.check(inputs, one_answer, latencies))


def test_a_constant_input_that_changes_is_named() -> None:
    sound = service("regression", 2)
    watch = monitor_of(sound)
    (inputs, outputs, latencies), *_ = windows(sound, watch, 1)
    inputs = inputs.copy()
    inputs[:, 5] = 3.5
    (alarm, *_) = watch.check(inputs, outputs, latencies)
    assert "input_drift: rank of inputs[5] is 1, not 0.5" in alarm.text()


def test_a_class_that_was_never_predicted_is_a_label_shift_when_it_takes_over() -> None:
    sound = service("classification", 3)
    sound.outputs[:, 3] = -50
    watch = monitor_of(sound)
    (inputs, outputs, latencies), *_ = windows(sound, watch, 1)
    outputs = outputs.copy()
    outputs[:, 3] = 50
    found = [alarm for alarm in watch.check(inputs, outputs, latencies) if "label" in alarm.rule]
    assert found[0].value == "answer 3"


def test_rules_that_a_kind_has_not_are_left_out() -> None:
    assert "confidence" not in monitor_of(service("regression", 0)).rules
    assert "confidence" in monitor_of(service("multilabel", 0)).rules
    text_only = Service("regression", {}, service("regression", 0).outputs)
    watch = monitor_of(text_only)
    assert watch.rules.keys() == {"label_shift", "not_finite", "latency"}
    assert watch.check({}, text_only.outputs[:100], LATENCIES[:100]) == []


def test_several_inputs_are_watched_by_name_and_wide_ones_by_blocks() -> None:
    generator = np.random.default_rng(0)
    inputs = {
        "image": generator.random((160, 3, 16, 16)).astype(np.float32),
        "age": generator.integers(20, 80, (160, 1)),
    }
    sound = Service("regression", inputs, generator.normal(size=160).astype(np.float32))
    watch = monitor_of(sound)
    assert len(watch.rules["input_drift"]["values"]) == monitor.MOST_COLUMNS + 1
    (given_inputs, outputs, latencies), *_ = windows(sound, watch, 1)
    assert watch.check(given_inputs, outputs, latencies) == []
    older = given_inputs | {"age": given_inputs["age"] + 40}
    (alarm, *_) = watch.check(older, outputs, latencies)
    assert alarm.value == "rank of age[0]"


def test_requests_of_different_length_are_watched_one_by_one() -> None:
    sound = Texts(0)
    watch = monitor_of(sound)
    assert watch.rules["input_drift"]["values"][:2] == ["size of tokens", "mean of tokens"]
    loud = sum(bool(watch.check(*sound.window(seed))) for seed in range(100))
    assert loud <= 100 * FALSE_ALARM_LIMIT
    requests, outputs, latencies = sound.window(0)
    longer = [{name: np.tile(part, 3) for name, part in one.items()} for one in requests]
    assert watch.check(longer, outputs, latencies)[0].value == "rank of size of tokens"
    others = [one | {"tokens": one["tokens"] + 40} for one in requests]
    assert "input_drift" in rules_of(watch.check(others, outputs, latencies))
    broken = [*requests[1:], requests[0] | {"tokens": np.full((1, 4), np.nan)}]
    assert "not_finite" in rules_of(watch.check(broken, outputs, latencies))


def test_a_request_is_summarised_by_size_mean_and_deviation() -> None:
    requests = [np.asarray([[1.0, 3.0]]), np.asarray([[2.0, np.nan, 2.0]]), np.asarray([[7]])]
    said = monitor.summaries(requests)
    assert said["size of inputs"].tolist() == [2, 3, 1]
    np.testing.assert_array_equal(said["mean of inputs"], [2, np.nan, 7])
    np.testing.assert_array_equal(said["deviation of inputs"], [1, np.nan, 0])


def test_the_released_monitor_is_proven_one_by_one(tmp_path: Path) -> None:
    sound = Texts(1)
    rules = calibrated_rules(sound, LATENCIES, None)  # type: ignore[arg-type]
    (tmp_path / "monitoring_rules.json").write_text(json.dumps(rules))
    (tmp_path / "prometheus_rules.yml").write_text(prometheus_rules(rules))
    for module in (monitor, monitor_metrics):
        shutil.copy(str(module.__file__), tmp_path)
    proof = prove(tmp_path, sound, LATENCIES, set(rules["rules"]))  # type: ignore[arg-type]
    assert proof.false_alarms <= FALSE_ALARM_LIMIT
    assert proof.detected.keys() == FAULTS.keys()
    assert min(proof.detected.values()) >= 0.95, proof.detected
    assert (proof.needs_torch, proof.parted) == (False, 0)


def test_a_window_too_small_or_of_another_shape_is_told() -> None:
    sound = service("regression", 0)
    watch = monitor_of(sound)
    (inputs, outputs, latencies), *_ = windows(sound, watch, 1)
    with pytest.raises(ValueError, match="a window of 10 requests, wanted at least 100"):
        watch.check(inputs[:10], outputs[:10], latencies[:10])
    found = watch.check(inputs[:, :4], outputs, latencies)
    assert any(alarm.value == "number of values" for alarm in found)


def test_the_limit_of_the_configuration_says_what_is_slow() -> None:
    assert monitor_of(service("regression", 0), slow_ms=30.0).slow_ms == 30.0
    measured = monitor_of(service("regression", 0)).slow_ms
    assert measured == pytest.approx(2 * np.percentile(LATENCIES[::2], 95))


def test_an_unknown_latency_counts_as_slow() -> None:
    assert monitor.slow_calls([1.0, float("nan"), 3.0], 2.0)[:, 0].tolist() == [0.0, 1.0, 1.0]


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=40),
    st.lists(st.floats(allow_nan=True, allow_infinity=False, width=32), min_size=1, max_size=40),
)
def test_ranks_lie_between_0_and_1_and_keep_the_order(
    reference: list[float], values: list[float]
) -> None:
    grid = np.sort(np.asarray([reference]), axis=1)
    column = np.asarray(values, dtype=np.float64)[:, None]
    ranks = monitor.ranks(column, grid)[:, 0]
    there = np.isfinite(column[:, 0])
    assert np.isnan(ranks[~there]).all()
    assert ((ranks[there] >= 0) & (ranks[there] <= 1)).all()
    order = np.argsort(column[there, 0], kind="stable")
    assert (np.diff(ranks[there][order]) >= 0).all()


def test_the_monitor_loads_from_its_folder(tmp_path: Path) -> None:
    rules = calibrated_rules(service("regression", 0), LATENCIES, None)  # type: ignore[arg-type]
    (tmp_path / "monitoring_rules.json").write_text(json.dumps(rules))
    assert Monitor.load(tmp_path).rules == json.loads(json.dumps(rules))["rules"]


def test_calibration_is_the_same_every_time() -> None:
    one, other = (
        calibrated_rules(service("classification", 4), LATENCIES, None)  # type: ignore[arg-type]
        for _ in range(2)
    )
    assert json.dumps(one) == json.dumps(other)
