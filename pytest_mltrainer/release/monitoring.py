"""The rules of the monitor, calibrated on one half of validation so that chance seldom alarms.

Validation is cut in two at random. A rule's mean and scale are those of the calibration half; its
threshold is simulated there: 200 times reference and service are drawn anew with replacement, each
time 100 windows are taken from that service, and 99 % of the services must stay quiet in each of
them. So the uncertainty of a small half is part of the threshold. The other half proves it.
"""

import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.evaluation.predictions import Predictions
from pytest_mltrainer.evaluation.proportions import wilson
from pytest_mltrainer.export.layouts import layouts
from pytest_mltrainer.release import monitor
from pytest_mltrainer.release.inputs import Leaf, batch_of, leaves_of, nested
from pytest_mltrainer.training.data.samples import evenly
from pytest_mltrainer.training.run import TrainingRun

Array = np.ndarray[Any, Any]

FALSE_ALARM_LIMIT = 0.05
"""Share of sound windows in which any rule may alarm."""
LEAST_ROWS = 40
MOST_ROWS = 1_000
MOST_VALUES = 20_000_000
WINDOWS = (20, 100)
"""The smallest and the largest window that rules are calibrated for."""
SERVICES, SERVICE_WINDOWS, QUIET_SERVICES = 200, 100, 0.99
CALLS, WARM_UP = 200, 10
SLOW_FACTOR, SLOW_SHARE = 2.0, 0.05
"""Without a limit of its own a call is slow beyond twice the 95th percentile."""
RANKED = ("input_drift", "confidence", "label_shift")
"""Rules whose values count by their ranks; predicted classes are zeros and ones and do not."""
QUANTILES, FOLDS, LEAST_SCALE = 32, 5, 0.05
MEANINGS = {
    "input_drift": "the mean of each input",
    "input_spread": "how far requests lie from the reference inputs",
    "label_shift": "how often each class is predicted, or the mean of each output",
    "confidence": "the probability of what is predicted",
    "not_finite": "the share of requests with a value that is not finite",
    "latency": "the share of calls that are slow",
}


class Reference:
    """Validation requests with their answers, in two halves: to calibrate, and to prove."""

    def __init__(self, run: TrainingRun) -> None:
        """Raises UserError when there are fewer than 40 samples."""
        stored = Predictions.load(run.folder.artifact("predictions/validation.npz"))
        rows = evenly(len(stored), MOST_ROWS)
        if len(rows) < LEAST_ROWS:
            raise UserError(
                f"monitoring is calibrated on validation, which has {len(rows)} samples; wanted at "
                f"least {LEAST_ROWS}: give the validation split more"
            )
        dataset: Any = run.splits.validation
        width = sum(leaf.values.size for leaf in leaves_of(batch_of(run.task, dataset, rows[:1])))
        rows = evenly(len(stored), max(min(MOST_ROWS, MOST_VALUES // max(width, 1)), LEAST_ROWS))
        order = np.random.default_rng(0).permutation(rows)
        half = len(rows) // 2
        self.kind = run.task.kind
        self.one_by_one = len(layouts(run.task, [dataset])) > 1
        self._task, self._dataset, self._outputs = run.task, dataset, stored.outputs
        self.rows = {"calibration": np.sort(order[:half]), "proof": np.sort(order[half:])}

    def half(self, name: str) -> tuple[list[Leaf], Array]:
        """Inputs and outputs of a half; inputs that differ in shape by what is watched of them."""
        rows = self.rows[name]
        if self.one_by_one:
            watched = monitor.summaries([nested(request) for request in self.requests(name)])
            leaves = [Leaf(name=part, values=values) for part, values in watched.items()]
            return leaves, self._outputs[rows]
        inputs = batch_of(self._task, self._dataset, [int(row) for row in rows])
        return leaves_of(inputs), self._outputs[rows]

    def requests(self, name: str) -> list[list[Leaf]]:
        """Each request of a half as a batch by itself."""
        singles = ([int(row)] for row in self.rows[name])
        return [leaves_of(batch_of(self._task, self._dataset, row)) for row in singles]


def calibrated_rules(
    reference: Reference, latencies_ms: Array, slow_ms: float | None, model: str = ""
) -> dict[str, Any]:
    """`monitoring_rules.json`. `slow_ms`: the limit of the configuration, if there is one.

    `model` names the model that the rules are for.
    """
    leaves, outputs = reference.half("calibration")
    halves = {name: len(rows) for name, rows in reference.rows.items()}
    window = int(np.clip(halves["calibration"], *WINDOWS))
    known, _ = latency_halves(latencies_ms)
    slow = slow_ms or SLOW_FACTOR * float(np.percentile(known, 95))
    values = _calibration_values(reference.kind, leaves, outputs)
    rules = {name: _rule(name, names_of(name, leaves, part), part) for name, part in values.items()}
    tables = {name: _ranked(name, part) for name, part in values.items()}
    if "input_drift" in rules:
        tables["input_spread"] = monitor.spread(_ranked_by_others(values["input_drift"]))
        rules["input_spread"] = _reference("input_spread", ["distance"], tables["input_spread"])
    for name, threshold in _simulated(rules, tables, window, halves["proof"]).items():
        rules[name]["threshold"] = threshold
    # Planning lets no data through that is not finite: the first such request is news.
    rules["not_finite"]["threshold"] = 0.0
    rules["latency"] = _latency_rule(monitor.slow_calls(list(known), slow), window, len(rules) + 1)
    return {
        "model": model,
        "kind": reference.kind,
        "window": window,
        "slow_ms": slow,
        "one_by_one": reference.one_by_one,
        "false_alarm_limit": FALSE_ALARM_LIMIT,
        "reference": {"split": "validation", **halves},
        "rules": rules,
    }


def latency_halves(latencies_ms: Array) -> tuple[Array, Array]:
    """Every second call calibrates, the others prove."""
    return latencies_ms[::2], latencies_ms[1::2]


def measured_latencies(predict: Any, run: TrainingRun) -> Array:
    """Milliseconds of single calls of the export, one request each."""
    dataset: Any = run.splits.validation
    requests = [batch_of(run.task, dataset, [row]) for row in evenly(len(dataset), 20)]
    for _ in range(WARM_UP):
        predict(requests[0])
    times = []
    for call in range(CALLS):
        start = time.perf_counter()
        predict(requests[call % len(requests)])
        times.append((time.perf_counter() - start) * 1e3)
    return np.asarray(times)


def names_of(rule: str, leaves: list[Leaf], values: Array) -> list[str]:
    """What each watched value is called in alarms."""
    width = values.shape[1]
    if rule == "input_drift":
        return [name for leaf in leaves for name in _input_names(leaf)]
    if rule == "label_shift":
        return [f"answer {index}" for index in range(width)]
    return [rule]


def _input_names(leaf: Leaf) -> list[str]:
    if leaf.values.ndim == 1:
        return [leaf.name]
    width = int(np.prod(leaf.values.shape[1:]))
    if width <= monitor.MOST_COLUMNS:
        return [f"{leaf.name}[{index}]" for index in range(width)]
    return [f"{leaf.name} block {index}" for index in range(monitor.MOST_COLUMNS)]


def _calibration_values(kind: str, leaves: list[Leaf], outputs: Array) -> dict[str, Array]:
    """What the monitor watches of each request, without rules that have nothing to watch."""
    values = monitor.request_values(kind, nested(leaves), outputs)
    return {name: part for name, part in values.items() if part.shape[1]}


def _rule(name: str, names: list[str], values: Array) -> dict[str, Any]:
    """Mean and scale of each value, and the quantiles of values that count by their ranks."""
    rule = _reference(name, names, _ranked(name, values))
    return rule | {"grid": _grid(values).tolist()} if _by_rank(name, values) else rule


def _reference(name: str, names: list[str], table: Array) -> dict[str, Any]:
    """Means and scales. The scale is the standard deviation, never less than `LEAST_SCALE`.

    Of zeros and ones it is that of (count + 1) / (n + 2), so that a class which the half lacks
    has one.
    """
    mean = np.nan_to_num(monitor.window_means(table))
    if _is_share(table):
        smooth = (mean * len(table) + 1) / (len(table) + 2)
        scale = np.sqrt(smooth * (1 - smooth))
    else:
        scale = np.maximum(np.nan_to_num(np.nanstd(table, axis=0)), LEAST_SCALE)
    return {
        "meaning": MEANINGS[name],
        "values": names,
        "mean": mean.tolist(),
        "scale": scale.tolist(),
    }


def _is_share(values: Array) -> bool:
    return set(np.unique(values)) <= {0.0, 1.0}


def _by_rank(name: str, values: Array) -> bool:
    return name in RANKED and not (name == "label_shift" and _is_share(values))


def _grid(values: Array) -> Array:
    """Quantiles of each column; zeros where it has no finite value."""
    places = (np.arange(QUANTILES) + 0.5) / QUANTILES
    filled = np.where(np.isfinite(values).any(axis=0), values, 0.0)
    return np.asarray(np.nanquantile(filled, places, axis=0).T)


def _ranked(name: str, values: Array) -> Array:
    return monitor.ranks(values, _grid(values)) if _by_rank(name, values) else values


def _ranked_by_others(values: Array) -> Array:
    """Ranks among the other fifths: among themselves values look less extreme than new ones."""
    ranked = np.empty_like(values)
    for fold in range(FOLDS):
        own = np.arange(len(values)) % FOLDS == fold
        ranked[own] = monitor.ranks(values[own], _grid(values[~own]))
    return ranked


def _simulated(
    rules: Mapping[str, Mapping[str, Any]], values: Mapping[str, Array], window: int, proof: int
) -> dict[str, float]:
    """The largest departure that chance makes, by rule, as the module says."""
    generator = np.random.default_rng(0)
    tables = {
        name: np.nan_to_num((values[name] - rule["mean"]) / rule["scale"])
        for name, rule in rules.items()
    }
    rows = len(next(iter(tables.values())))
    even = np.full(rows, 1 / rows)
    largest: dict[str, list[float]] = {name: [] for name in rules}
    for _ in range(SERVICES):
        reference = generator.multinomial(rows, even) / rows
        service = generator.multinomial(proof, even) / proof
        windows = generator.multinomial(window, service, size=SERVICE_WINDOWS) / window
        for name, table in tables.items():
            apart = np.abs((windows - reference) @ table)
            largest[name].append(float(apart.max()))
    return {name: float(np.quantile(found, QUIET_SERVICES)) for name, found in largest.items()}


def _latency_rule(slow: Array, window: int, rules: int) -> dict[str, Any]:
    """Alarms when more calls of a window are slow than chance explains.

    The share that is expected is the upper bound of the measured one, at least 5 %; the threshold
    is the binomial quantile that leaves each of the rules its part of half the limit.
    """
    from scipy.stats import binom

    upper = max(SLOW_SHARE, wilson(float(slow.mean()), len(slow), 0.99)[1])
    most = float(binom.ppf(1 - FALSE_ALARM_LIMIT / 2 / rules, window, upper))
    return {
        "meaning": MEANINGS["latency"],
        "values": ["share of slow calls"],
        "mean": [0.0],
        "scale": [1.0],
        "threshold": most / window,
    }
