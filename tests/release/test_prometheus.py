"""What Prometheus is told: readable by its own parser, and alarming exactly where the monitor does.

Alerts are read by parsers of others (prometheus_client for the text, promql_parser for the
expressions) and evaluated here over the numbers that the service exposes.
"""

import json
import math
from functools import cache
from typing import Any

import numpy as np
import promql_parser
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from test_monitoring import LATENCIES, rules_of, service, windows

from pytest_mltrainer.release.advice import ADVICE
from pytest_mltrainer.release.monitor import SLACK, Monitor
from pytest_mltrainer.release.monitor_metrics import CONTENT_TYPE, Metrics
from pytest_mltrainer.release.monitoring import MEANINGS, calibrated_rules
from pytest_mltrainer.release.prometheus import prometheus_rules

Array = np.ndarray[Any, Any]
Window = tuple[Any, Array, Array]
Samples = list[tuple[str, dict[str, str], float]]

MODEL = "0123456789ab"


def exposed(text: str) -> Samples:
    """The samples of an exposition, as a scrape reads them."""
    return [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


def value_of(samples: Samples, name: str, **labels: str) -> float:
    (found,) = (
        value for key, said, value in samples if key == name and said.items() >= labels.items()
    )
    return found


def alerts_of(rules: str) -> dict[str, Any]:
    """The alerts by the rule that their expression selects."""
    (group,) = yaml.safe_load(rules)["groups"]
    return {selected(alert["expr"])["rule"]: alert for alert in group["rules"]}


def selected(expr: str) -> dict[str, str]:
    matchers = promql_parser.parse(expr).lhs.expr.matchers.matchers
    assert all(matcher.op == promql_parser.MatchOp.Equal for matcher in matchers)
    return {matcher.name: matcher.value for matcher in matchers}


def fires(expr: str, samples: Samples) -> bool:
    """Whether an alert fires: `max without (value) (selector) > number`, over the samples."""
    parsed = promql_parser.parse(expr)
    assert (str(parsed.op), str(parsed.lhs.op)) == (">", "max")
    assert parsed.lhs.modifier.labels == ["value"]
    wanted, name = selected(expr), parsed.lhs.expr.name
    values = [
        value for key, labels, value in samples if key == name and labels.items() >= wanted.items()
    ]
    return bool(values) and max(values) > parsed.rhs.val


def firing(rules: str, text: str) -> set[str]:
    samples = exposed(text)
    return {rule for rule, alert in alerts_of(rules).items() if fires(alert["expr"], samples)}


@cache
def stored_rules(kind: str) -> dict[str, Any]:
    """The rules of a service of a kind as they lie in a folder; calibrating takes a second."""
    rules = calibrated_rules(service(kind, 1), LATENCIES, None, MODEL)  # type: ignore[arg-type]
    return dict(json.loads(json.dumps(rules, allow_nan=False)))


def monitor_for(stored: dict[str, Any]) -> Monitor:
    keys = ("rules", "window", "kind", "slow_ms", "one_by_one", "model")
    return Monitor(**{key: stored[key] for key in keys})


def faulty(window: Window) -> dict[str, Window]:
    """The window, and the same with each of the faults that the gate plants, by its rule."""
    inputs, outputs, latencies = window
    mean = inputs.mean(axis=0)
    broken = outputs.copy()
    broken.reshape(len(broken), -1)[7, 0] = np.nan
    return {
        "": window,
        "input_drift": (inputs + 9, outputs, latencies),
        "input_spread": (mean + 10 * (inputs - mean), outputs, latencies),
        "label_shift": (inputs, np.repeat(outputs[:1], len(outputs), axis=0), latencies),
        "confidence": (inputs, outputs * 0.1, latencies),
        "not_finite": (inputs, broken, latencies),
        "latency": (inputs, outputs, latencies * 10),
        "number of values": (inputs[:, :4], outputs, latencies),
    }  # fmt: skip


@pytest.mark.parametrize(
    "kind", ["classification", "multilabel", "regression", "sequence", "custom"]
)
def test_alerts_fire_exactly_where_the_monitor_alarms(kind: str) -> None:
    stored = stored_rules(kind)
    watch, rules = monitor_for(stored), prometheus_rules(stored)
    metrics = Metrics(watch)
    loud: set[str] = set()
    for window in windows(service(kind, 1), watch, 5):
        for fault, given_window in faulty(window).items():
            alarmed = rules_of(watch.check(*given_window))
            assert rules_of(metrics.check(*given_window)) == alarmed
            assert firing(rules, metrics.text()) == alarmed, fault
            loud |= alarmed
    assert loud >= set(stored["rules"]) - {"confidence", "input_spread"}


@given(distance=st.floats(0, 1e6), steps=st.integers(-3, 3))
def test_not_even_rounding_parts_them_at_the_threshold(distance: float, steps: int) -> None:
    threshold = distance - SLACK
    for _ in range(abs(steps)):
        threshold = math.nextafter(threshold, math.inf if steps > 0 else -math.inf)
    rule = {"mean": [0.0], "scale": [1.0], "values": ["share"], "meaning": MEANINGS["latency"]}
    rules = {
        "latency": rule | {"threshold": threshold, "scale": [1 / distance if distance else 1.0]}
    }
    watch = Monitor(rules=rules, window=2, kind="regression", slow_ms=1.0, model=MODEL)
    metrics = Metrics(watch)
    alarmed = metrics.check({}, np.zeros((2, 1)), [3.0, 3.0])
    written = prometheus_rules({"rules": rules, "model": MODEL})
    assert firing(written, metrics.text()) == rules_of(alarmed)


def test_counters_thresholds_and_distances_are_told() -> None:
    stored = stored_rules("classification")
    metrics = Metrics(monitor_for(stored))
    before = exposed(metrics.text())
    assert value_of(before, "mltrainer_monitor_windows_total", model=MODEL) == 0
    assert not [name for name, _, _ in before if name == "mltrainer_monitor_distance"]
    sound, *_ = windows(service("classification", 1), monitor_for(stored), 1)
    metrics.check(*sound)
    metrics.check(*faulty(sound)["latency"])
    with pytest.raises(ValueError, match="a window of 3 requests"):
        metrics.check(sound[0][:3], sound[1][:3], sound[2][:3])
    samples = exposed(metrics.text())
    assert value_of(samples, "mltrainer_monitor_windows_total", model=MODEL) == 2
    assert value_of(samples, "mltrainer_monitor_alarms_total", rule="latency") == 1
    assert value_of(samples, "mltrainer_monitor_alarms_total", rule="not_finite") == 0
    threshold = value_of(samples, "mltrainer_monitor_threshold", rule="latency")
    assert threshold == stored["rules"]["latency"]["threshold"]
    told = value_of(samples, "mltrainer_monitor_distance", rule="latency")
    assert told > threshold
    values = [
        labels["value"]
        for name, labels, _ in samples
        if labels.get("rule") == "input_drift" and "value" in labels
    ]
    assert values == [f"rank of {name}" for name in stored["rules"]["input_drift"]["values"]]
    assert "version=0.0.4" in CONTENT_TYPE


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_any_name_of_an_input_is_read_back(name: str) -> None:
    rules = {"latency": {"mean": [0.0], "scale": [1.0], "values": [name], "threshold": 1.0}}
    watch = Monitor(rules=rules, window=1, kind="regression", slow_ms=1.0, model=MODEL)
    metrics = Metrics(watch)
    metrics.check({}, np.zeros((1, 1)), [3.0])
    lines = metrics.text().split("\n")
    assert len(lines) == 12 + 1, "a name that breaks its line"
    (told,) = (labels for key, labels, _ in exposed(metrics.text()) if "distance" in key)
    assert told == {"model": MODEL, "rule": "latency", "value": name}


def test_another_model_does_not_set_off_the_alerts() -> None:
    stored = stored_rules("regression")
    metrics = Metrics(monitor_for(stored | {"model": "another"}))
    source = service("regression", 1)
    (inputs, outputs, latencies), *_ = windows(source, monitor_for(stored), 1)
    assert rules_of(metrics.check(inputs, outputs, latencies * 10)) == {"latency"}
    assert firing(prometheus_rules(stored), metrics.text()) == set()
    assert firing(prometheus_rules(stored | {"model": "another"}), metrics.text()) == {"latency"}


def test_every_rule_has_one_alert_as_prometheus_wants_it() -> None:
    stored = stored_rules("classification")
    text = prometheus_rules(stored)
    alerts = alerts_of(text)
    assert alerts.keys() == stored["rules"].keys()
    assert len({alert["alert"] for alert in alerts.values()}) == len(alerts)
    for rule, alert in alerts.items():
        assert alert.keys() == {"alert", "expr", "for", "labels", "annotations"}
        assert alert["alert"].isidentifier()
        assert alert["annotations"]["description"] == ADVICE[rule]
        assert "{{ $labels.instance }}" in alert["annotations"]["summary"]
    assert alerts["not_finite"]["labels"] == {"severity": "critical"}
    assert ADVICE.keys() == MEANINGS.keys()
    assert text == prometheus_rules(json.loads(json.dumps(stored)))
