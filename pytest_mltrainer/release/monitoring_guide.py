"""`monitoring_guide.md`: what the rules watch, how quiet they are, what each fault does."""

from typing import Any

import numpy as np

from pytest_mltrainer.core.measurement import number
from pytest_mltrainer.documents.markdown import Document, code
from pytest_mltrainer.documents.words import Words
from pytest_mltrainer.export.served import FOLDER
from pytest_mltrainer.release.advice import ADVICE
from pytest_mltrainer.release.monitor_metrics import ALARMS, DISTANCE, THRESHOLD, WINDOWS
from pytest_mltrainer.release.monitoring import Reference
from pytest_mltrainer.release.monitoring_proof import FAULTS, Proof, prove
from pytest_mltrainer.release.service import ALERTS, LATENCIES, RULES
from pytest_mltrainer.training.run import TrainingRun

SECTIONS = ("Rules", "Use", "Prometheus", "False alarms", "Planted faults", "At an alarm")
USE = """
from monitor import Monitor

monitor = Monitor.load("final_model")
for alarm in monitor.check(inputs, outputs, latencies_ms):
    print(alarm.text())
"""
EXPOSED = """
from monitor_metrics import CONTENT_TYPE, Metrics

metrics = Metrics(monitor)
alarms = metrics.check(inputs, outputs, latencies_ms)
body = metrics.text()  # what GET /metrics answers, with the header Content-Type: CONTENT_TYPE
"""


def proof_of(run: TrainingRun) -> Proof:
    """The monitor of the run's final model at work, on the half that proves. Costs a second."""
    return prove(
        run.folder.artifact(FOLDER),
        Reference(run),
        np.asarray(run.json(LATENCIES)),
        set(run.json(RULES)["rules"]),
    )


def monitoring_guide(run: TrainingRun, words: Words, proof: Proof) -> str:
    """The guide of the rules that lie in the final model's folder."""
    stored = run.json(RULES)
    document = Document("Monitoring guide").section("Rules")
    document.paragraph(
        "Machine-readable in ", code(RULES), "; ", code(f"{FOLDER}/monitor.py"),
        " executes them and needs NumPy only. Each rule looks at the mean of its values over a "
        "window of requests and alarms when one lies further from the reference than the "
        "threshold, in scales (standard deviations of the reference). Inputs, confidences and "
        "numbers count by their ranks among the reference.",
    )  # fmt: skip
    document.table(
        ["rule", "watches", "values", "threshold"],
        [
            [code(name), rule["meaning"], len(rule["values"]), float(rule["threshold"])]
            for name, rule in sorted(stored["rules"].items())
        ],
    )
    document.paragraph(f"A call is slow beyond {number(float(stored['slow_ms']))} ms.")
    document.section("Use").paragraph(
        f"A window has at least {stored['window']} requests: inputs as the model takes them, "
        "outputs as it gives them, one latency in milliseconds each."
    )
    if stored["one_by_one"]:
        document.paragraph(
            "Requests differ in shape: give inputs as a list with one batch of a single request "
            "each, as the model was asked. Watched are size, mean and standard deviation."
        )
    document.code_block(USE, "python")
    _prometheus(document, stored)
    _false_alarms(document, stored, proof)
    document.section("Planted faults").table(
        ["fault", "what was done", "rule", "windows with its alarm"],
        [
            [fault, FAULTS[fault][1], code(FAULTS[fault][0]), f"{share:.0%}"]
            for fault, share in proof.detected.items()
        ],
    )
    document.section("At an alarm").bullets(
        f"{name}: {ADVICE[name]}" for name in sorted(stored["rules"])
    )
    document.quote(words.quote("contacts"))
    return document.text()


def _prometheus(document: Document, stored: dict[str, Any]) -> None:
    document.section("Prometheus").paragraph(
        "The same alarms from Prometheus: load ", code(ALERTS), " there as rules (",
        code("rule_files"), "), and let the service expose what they compare.",
    )  # fmt: skip
    document.code_block(EXPOSED, "python")
    document.table(
        ["metric", "labels", "says"],
        [
            [code(DISTANCE), "model, rule, value", "the last window, in scales"],
            [code(THRESHOLD), "model, rule", "beyond which the rule alarms"],
            [code(WINDOWS), "model", "windows checked so far"],
            [code(ALARMS), "model, rule", "windows with an alarm so far"],
        ],
    )
    document.paragraph(
        "Its alerts look at distances of the model ", code(stored["model"]), " alone and fire at "
        "once where the monitor alarms. Check no more than one window between two scrapes: of "
        "others only the counters tell.",
    )  # fmt: skip


def _false_alarms(document: Document, stored: dict[str, Any], proof: Proof) -> None:
    halves = stored["reference"]
    document.section("False alarms").paragraph(
        f"Calibrated on {halves['calibration']} samples of {halves['split']}, proven on "
        f"{halves['proof']} others: of {proof.windows} sound windows, drawn with replacement, "
        f"{proof.false_alarms:.1%} had an alarm of any rule; at most "
        f"{stored['false_alarm_limit']:.0%} may. Samples are taken for independent: where requests "
        "of a service come in runs of alike ones, more windows will alarm."
    )
    document.table(
        ["rule", "sound windows with an alarm"],
        [[code(name), f"{share:.1%}"] for name, share in proof.false_by_rule.items()],
    )
