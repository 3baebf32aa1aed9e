"""The released monitor at work: quiet on sound windows, alarmed by each planted fault.

A fresh process that has only NumPy to go by imports `monitor.py` from a copy of the final model's
folder, as a service would, and checks windows of the half that calibrated nothing. The alerts for
Prometheus are compared with its alarms, by the numbers that it exposes.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.release.monitoring import Reference, latency_halves

SOUND_WINDOWS, FAULT_WINDOWS = 1_000, 50
EXPOSED = 10
"""Every such sound window is also judged as Prometheus would, and every one with a fault."""
TIMEOUT_S = 300.0
RELEASED = ("monitor.py", "monitor_metrics.py", "monitoring_rules.json", "prometheus_rules.yml")
"""What of the final model's folder is at work."""
FAULTS = {
    "shift": ("input_drift", "each input moved by 3 of its standard deviations"),
    "spread": ("input_spread", "each input ten times as far from its mean"),
    "label shift": (
        "label_shift",
        "only requests with the rarest answer, or the largest twentieth",
    ),
    "confidence": ("confidence", "outputs a tenth as large, or ten times where they are small"),
    "NaN burst": ("not_finite", "one request of a window answered by NaN"),
    "latency": ("latency", "each call takes ten times as long"),
}
"""By name: the rule that must alarm, and what is done to the windows."""

_PROGRAM = """
import json, re, sys
import numpy as np
from pathlib import Path
import monitor, monitor_metrics

data = dict(np.load("proof.npz"))
order = json.loads(Path("order.json").read_text())
names, sound, faulty = order["names"], order["sound"], order["faulty"]
watch = monitor.Monitor.load(".")
metrics = monitor_metrics.Metrics(watch)
alerts = Path("prometheus_rules.yml").read_text()
limits = {rule: float(limit) for rule, limit in re.findall(r'rule="(\\w+)"}\\) > (\\S+)', alerts)}
distance = re.compile(rf'^{monitor_metrics.DISTANCE}{{.*?rule="(\\w+)",.* (\\S+)$', re.MULTILINE)
parted = []
generator = np.random.default_rng(1)
outputs, latencies = data["outputs"], data["latencies"]
if watch.one_by_one:
    inputs = {name: [data[f"input:{name}:{row}"] for row in range(len(outputs))] for name in names}
else:
    inputs = {name: data[f"input:{name}"] for name in names}


def asked(parts, rows):
    if watch.one_by_one:
        return [nested({name: part[row] for name, part in parts.items()}) for row in rows]
    return nested({name: part[rows] for name, part in parts.items()})


def nested(parts):
    return parts["inputs"] if list(parts) == ["inputs"] else parts


def moved(part, change):
    if part[0].dtype.kind not in "iuf":
        return part
    if watch.one_by_one:
        whole = np.concatenate([array.ravel() for array in part]).astype(np.float64)
        return [change(array, whole.mean(), whole.std() or 1) for array in part]
    deviation = part.std(axis=0, dtype=np.float64)
    return change(part, part.mean(axis=0, dtype=np.float64), np.where(deviation > 0, deviation, 1))


def rarest():
    values = monitor.answer_values(watch.kind, outputs.astype(np.float64))
    if set(np.unique(values)) <= {0.0, 1.0}:
        means = values.mean(axis=0)
        present = np.flatnonzero((means > 0) & (means < 1))
        if not len(present):
            return None
        return np.flatnonzero(values[:, present[means[present].argmin()]] == 1)
    column = values[:, values.std(axis=0).argmax()]
    return np.argsort(column, kind="stable")[-max(len(column) // 20, 1):]


def fired():
    told = distance.findall(metrics.text())
    return {rule for rule, found in told if float(found) > limits.get(rule, float("inf"))}


def alarms(fault, count):
    found = []
    rows = np.arange(len(outputs))
    parts, answers, times = dict(inputs), outputs, latencies
    if fault == "shift":
        change = lambda x, mean, deviation: x + 3 * deviation
        parts = {name: moved(part, change) for name, part in parts.items()}
    if fault == "spread":
        change = lambda x, mean, deviation: mean + 10 * (x - mean)
        parts = {name: moved(part, change) for name, part in parts.items()}
    if fault == "confidence":
        sure = monitor.confidence(watch.kind, answers.astype(np.float64)).mean()
        least = 0.5 if watch.kind == "multilabel" else 1 / answers.shape[-1]
        answers = answers * (0.1 if sure > (1 + least) / 2 else 10)
    if fault == "latency":
        times = times * 10
    if fault == "label shift":
        rows = rarest()
        if rows is None:
            answers, rows = answers[..., ::-1], np.arange(len(outputs))
    for number in range(count):
        drawn = generator.choice(rows, watch.window)
        given, said = asked(parts, drawn), answers[drawn]
        if fault == "NaN burst":
            said = said.astype(np.float64)
            said[0] = np.nan
        taken = generator.choice(times, watch.window)
        found.append([alarm.rule for alarm in watch.check(given, said, taken)])
        if not fault and number % order["exposed"]:
            continue
        metrics.check(given, said, taken)
        if fired() != set(found[-1]):
            parted.append(found[-1])
    return found


print(json.dumps({
    "torch": "torch" in sys.modules,
    "sound": alarms("", sound),
    "faults": {fault: alarms(fault, faulty) for fault in order["faults"]},
    "parted": len(parted),
}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the monitor said: shares of windows with an alarm.

    `parted` counts the windows, of those judged both ways, in which the alerts for Prometheus say
    otherwise than the monitor.
    """

    false_alarms: float
    false_by_rule: Mapping[str, float]
    windows: int
    detected: Mapping[str, float]
    needs_torch: bool
    parted: int


class MonitorFailed(UserError):
    """The released monitor could not be imported or ended with an error."""


def prove(
    folder: Path, reference: Reference, latencies_ms: "np.ndarray[Any, Any]", rules: set[str]
) -> Proof:
    """Run the monitor of a final model's folder. Raises MonitorFailed with its error."""
    (names, arrays), outputs = _arrays(reference), reference.half("proof")[1]
    faults = [fault for fault, (rule, _) in FAULTS.items() if rule in rules]
    _, latencies = latency_halves(latencies_ms)
    with tempfile.TemporaryDirectory(prefix="mltrainer-monitor-") as copy:
        _copy_released(folder, Path(copy))
        np.savez(
            Path(copy) / "proof.npz",
            allow_pickle=False,
            outputs=outputs,
            latencies=latencies,
            **arrays,
        )
        order = {
            "names": names,
            "sound": SOUND_WINDOWS,
            "faulty": FAULT_WINDOWS,
            "exposed": EXPOSED,
            "faults": faults,
        }
        (Path(copy) / "order.json").write_text(json.dumps(order), encoding="utf-8")
        said = _run(Path(copy))
    by_rule = {
        rule: sum(rule in window for window in said["sound"]) / SOUND_WINDOWS
        for rule in sorted(rules)
    }
    return Proof(
        false_alarms=sum(bool(window) for window in said["sound"]) / SOUND_WINDOWS,
        false_by_rule=by_rule,
        windows=len(said["sound"]),
        detected={
            fault: sum(FAULTS[fault][0] in window for window in said["faults"][fault])
            / FAULT_WINDOWS
            for fault in faults
        },
        needs_torch=said["torch"],
        parted=said["parted"],
    )


def _copy_released(folder: Path, copy: Path) -> None:
    for name in RELEASED:
        try:
            shutil.copy(folder / name, copy)
        except OSError as error:
            raise MonitorFailed(f"{folder / name}: not readable ({error.strerror})") from error


def _arrays(reference: Reference) -> tuple[list[str], dict[str, Any]]:
    """Names of the inputs, and the arrays of the half that proves: by row where shapes differ."""
    if not reference.one_by_one:
        leaves, _ = reference.half("proof")
        return [leaf.name for leaf in leaves], {
            f"input:{leaf.name}": leaf.values for leaf in leaves
        }
    requests = reference.requests("proof")
    rows = {
        f"input:{leaf.name}:{row}": leaf.values
        for row, request in enumerate(requests)
        for leaf in request
    }
    return [leaf.name for leaf in requests[0]], rows


def _run(folder: Path) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise MonitorFailed(f"the monitor ended with an error: {lines[-1]}")
    return json.loads(done.stdout)
