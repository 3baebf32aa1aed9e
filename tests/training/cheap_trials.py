"""Trials that cost nothing: a worker that computes its score by a formula instead of training.

What runs them is real: processes, requests, events, files, signals.
"""

import errno
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_mltrainer.core import files
from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.digests import digest_value
from pytest_mltrainer.core.work import EVENTS, WorkRequest

EPOCHS = 6
SETTINGS: dict[str, Any] = {
    "seed": 3,
    "training": {"epochs": EPOCHS, "learning_rate": 0.001, "weight_decay": 0.0},
    "model": {"width": 2, "fault": "", "epoch_s": 0.0},
}


def cheap_config(**sections: Mapping[str, Any]) -> Config:
    """The configuration of cheap trials; sections replace or extend the usual ones."""
    merged = {
        **SETTINGS,
        **{name: {**SETTINGS.get(name, {}), **sections[name]} for name in sections},
    }
    return Config.from_json(merged)


def score(config: Config) -> float:
    """Best, 0.9 and more, for wide models and a learning rate of 0.01."""
    distance = abs(math.log10(config.training.learning_rate / 0.01))
    return (1 - 1 / (1 + config.model["width"])) * math.exp(-0.4 * distance)


def work(request: WorkRequest) -> dict[str, Any]:
    """Report epochs whose score rises to that of the formula; fail as `model.fault` says."""
    config = Config.from_json(request.config).for_phase(request.phase)
    starts = request.output / "starts.txt"
    starts.write_text(starts.read_text() + "x" if starts.exists() else "x")
    if config.model["fault"] == "raise":
        raise ValueError("no such layer")
    if config.model["fault"] == "disk":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if config.model["fault"] == "memory":
        raise MemoryError
    for epoch in range(1, config.training.epochs + 1):
        value = score(config) * (1 - 0.5**epoch)
        _report(request, epoch, value)
        if epoch == 3 and config.model["fault"] == "exit":
            os._exit(0)
        time.sleep(3600 if config.model["fault"] == "hang" else config.model["epoch_s"])
    if config.model["fault"] == "nan":
        return {"status": "broken", "reason": "loss not finite at step 3", "value": None}
    return {"status": "finished", "reason": "", "value": value, "memory": {"host_mb": 1.0}}


def identify(config: Config) -> str:
    """The settings that change a cheap training."""
    return digest_value(config.for_phase("optimization").to_json())


def _report(request: WorkRequest, epoch: int, value: float) -> None:
    record = {
        "epoch": epoch - 1,
        "steps": epoch,
        "learning_rate": 0.1,
        "duration_s": 0.01,
        "memory_mb": 1.0,
        "train": {},
        "validation": {"accuracy": value},
    }
    telemetry = request.output / "telemetry/epochs.jsonl"
    if epoch == 1:
        telemetry.unlink(missing_ok=True)
    files.append_json(telemetry, record)
    for name in ("best", "last", "epoch_0001"):
        files.write_text(request.output / f"checkpoints/{name}.pt", str(epoch))
    event = {"kind": "epoch", "epoch": epoch, "value": str(value)}
    with (request.folder / EVENTS).open("ab") as stream:
        stream.write(files.json_line(event).encode())


FOLDER = Path(__file__).parent
"""Where a worker finds this module."""
