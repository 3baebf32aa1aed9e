"""The monitor's numbers for Prometheus, in its text format (version 0.0.4).

This file is copied into the folder of the final model and needs what `monitor.py` needs. A service
asks `Metrics` in the place of the monitor, and answers `GET /metrics` with its text:

    from monitor import Monitor
    from monitor_metrics import CONTENT_TYPE, Metrics
    metrics = Metrics(Monitor.load(folder))
    alarms = metrics.check(inputs, outputs, latencies_ms)
    body = metrics.text()

`prometheus_rules.yml` compares the distances of the last window with the thresholds.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pytest_mltrainer.release.monitor import Alarm, Monitor, Reading

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DISTANCE = "mltrainer_monitor_distance"
THRESHOLD = "mltrainer_monitor_threshold"
WINDOWS = "mltrainer_monitor_windows_total"
ALARMS = "mltrainer_monitor_alarms_total"
_HELP = {
    DISTANCE: ("gauge", "How far the mean of a value in the last window is off, in scales."),
    THRESHOLD: ("gauge", "The distance beyond which a rule alarms."),
    WINDOWS: ("counter", "Windows of requests that were checked."),
    ALARMS: ("counter", "Windows in which a rule alarmed."),
}
Sample = tuple[str, dict[str, str], float]


class Metrics:
    """Checks windows as the monitor does, and remembers what Prometheus asks for."""

    def __init__(self, monitor: "Monitor") -> None:
        """No window is checked yet: thresholds, and counters at zero."""
        self._monitor = monitor
        self._windows = 0
        self._alarms = dict.fromkeys(monitor.rules, 0)
        self._text = self._written([])

    def check(self, inputs: Any, outputs: Any, latencies_ms: Sequence[float]) -> "list[Alarm]":
        """The alarms of a window, as `Monitor.check` gives them, with its errors."""
        readings = self._monitor.read(inputs, outputs, latencies_ms)
        alarms = [alarm for reading in readings if (alarm := reading.alarm()) is not None]
        self._windows += 1
        for alarm in alarms:
            self._alarms[alarm.rule] += 1
        # Written here and not when it is asked for, which another thread may do meanwhile.
        self._text = self._written(readings)
        return alarms

    def text(self) -> str:
        """What `GET /metrics` answers, with `CONTENT_TYPE`: the last window, and the counters."""
        return self._text

    def _written(self, readings: "list[Reading]") -> str:
        model = {"model": self._monitor.model}
        rules = self._monitor.rules.items()
        samples: list[Sample] = [
            (DISTANCE, {**model, "rule": reading.rule, "value": value}, float(distance))
            for reading in readings
            for value, distance in zip(reading.values, reading.distances, strict=True)
        ]
        samples += [
            (THRESHOLD, {**model, "rule": name}, float(rule["threshold"])) for name, rule in rules
        ]
        samples.append((WINDOWS, model, self._windows))
        samples += [(ALARMS, {**model, "rule": n}, count) for n, count in self._alarms.items()]
        return "".join(_family(name, samples) for name in _HELP)


def _family(name: str, samples: Iterable[Sample]) -> str:
    kind, meaning = _HELP[name]
    lines = [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
    for family, labels, value in samples:
        if family == name:
            shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
            lines.append(f"{name}{{{shown}}} {_number(value)}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    return "+Inf" if value == float("inf") else repr(value)
