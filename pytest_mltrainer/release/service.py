"""What a deployment needs beside the weights: serving, golden requests, monitor, contract, lock."""

from pathlib import Path
from typing import Any

import numpy as np

from pytest_mltrainer.core import files
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.export.served import FOLDER, ExportedModel
from pytest_mltrainer.release.final_model import short_name
from pytest_mltrainer.release.golden import golden_requests
from pytest_mltrainer.release.lock import deployment_lock
from pytest_mltrainer.release.monitoring import Reference, calibrated_rules, measured_latencies
from pytest_mltrainer.release.preprocessing import preprocessing_contract
from pytest_mltrainer.release.prometheus import prometheus_rules
from pytest_mltrainer.release.sbom import SBOM, bill_of_materials
from pytest_mltrainer.training.run import TrainingRun

MODULES = ("serve.py", "monitor.py", "monitor_metrics.py")
"""Modules of ours that import nothing of ours, copied as they are."""
GOLDEN, LOCK, PREPROCESSING, RULES = (
    f"{FOLDER}/golden_requests.json",
    f"{FOLDER}/requirements.lock.txt",
    f"{FOLDER}/preprocessing.json",
    f"{FOLDER}/monitoring_rules.json",
)
EXAMPLE = f"{FOLDER}/example_request.json"
BILL = f"{FOLDER}/{SBOM}"
ALERTS = f"{FOLDER}/prometheus_rules.yml"
LATENCIES = "monitoring/latencies_ms.json"
"""Raw times of calls, which the latency rule is calibrated on."""
NOT_CALIBRATED = "monitoring/error.json"
SERVICE_FILES = (
    *(f"{FOLDER}/{name}" for name in MODULES),
    GOLDEN, EXAMPLE, LOCK, BILL, PREPROCESSING, RULES, ALERTS,
)  # fmt: skip


def write_service(run: TrainingRun, output: Path) -> None:
    """Write the files of `SERVICE_FILES`; where monitoring cannot be calibrated, why."""
    for name in MODULES:
        source = Path(__file__).with_name(name).read_bytes()
        files.write_bytes(output / FOLDER / name, source)
    golden = golden_requests(run)
    files.write_json(output / GOLDEN, golden)
    example = golden["requests"][0]["inputs"] if golden["requests"] else []
    files.write_json(output / EXAMPLE, {"inputs": example})
    files.write_text(output / LOCK, deployment_lock(run.config.export.formats))
    files.write_json(output / BILL, bill_of_materials(run))
    files.write_json(output / PREPROCESSING, preprocessing_contract(run))
    exported = ExportedModel(run)
    latencies = measured_latencies(exported.load(exported.served), run)
    files.write_json(output / LATENCIES, latencies.tolist())
    try:
        rules = calibrated(run)
    except UserError as error:
        files.write_json(output / NOT_CALIBRATED, {"error": str(error)})
    else:
        files.write_json(output / RULES, rules)
        files.write_text(output / ALERTS, prometheus_rules(run.json(RULES)))


def calibrated(run: TrainingRun) -> dict[str, Any]:
    """The monitor's rules by the stored predictions and latencies.

    Raises UserError when validation is too small.
    """
    latencies = np.asarray(run.json(LATENCIES))
    model = short_name(run.folder.artifact(FOLDER))
    return calibrated_rules(Reference(run), latencies, run.config.limits.latency_p95_ms, model)
