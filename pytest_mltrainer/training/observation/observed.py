"""The folder of an observed run: telemetry, and the facts beside it that a diagnosis needs."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mltrainer.core import files
from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.core.evidence import Evidence
from pytest_mltrainer.training.observation.digests import DIGESTS_FILE
from pytest_mltrainer.training.observation.layer_records import LAYER_NAMES_FILE, LAYERS_FILE
from pytest_mltrainer.training.observation.telemetry import EPOCHS_FILE, STEPS_FILE, Telemetry

FACTS_FILE = "observed.json"
FILES = (FACTS_FILE, STEPS_FILE, EPOCHS_FILE, DIGESTS_FILE, LAYERS_FILE, LAYER_NAMES_FILE)
UNKNOWN: Mapping[str, Any] = {"profile": None, "references": {}, "trained": None}


def begin_folder(folder: Path) -> None:
    """Forget what an earlier run left there; other files are left alone. Raises StorageError."""
    for name in FILES:
        path = folder / name
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise files.storage_error("remove", path, error) from error


def write_facts(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write what the telemetry does not hold; what the data told before stays."""
    path = folder / FACTS_FILE
    before = files.read_json(path) if path.exists() else {}
    files.write_json(path, {**UNKNOWN, **before, **facts})


def plain(value: Any) -> Any:
    """A user's value as JSON can hold it: what is no finite number or container becomes text."""
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def is_observed(folder: Path) -> bool:
    """Whether the folder holds an observed run."""
    return (folder / FACTS_FILE).is_file()


def observed_numerics(folder: Path) -> dict[str, str]:
    """What computed in an observed run. Raises StorageError when the folder is damaged."""
    path = folder / FACTS_FILE
    facts = files.read_json(path)
    try:
        return dict(facts["numerics"])
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError(f"{path}: not an observed run ({error!r}): observe it anew") from error


def observed_evidence(folder: Path) -> Evidence:
    """The evidence of an observed run. Raises StorageError when it is missing or damaged."""
    path = folder / FACTS_FILE
    facts = files.read_json(path)
    telemetry = Telemetry.read(folder)
    try:
        return Evidence(
            kind=facts["kind"],
            metric=facts["metric"],
            maximize=facts["maximize"],
            target=facts["target"],
            config=facts["config"],
            config_reads=tuple(facts["config_reads"]),
            epochs=telemetry.epochs,
            planned_epochs=len(telemetry.epochs),
            steps=_with_known_losses(telemetry.steps, facts["fault"]),
            layers=telemetry.layers if telemetry.layers.size else None,
            layer_names=tuple(entry.name for entry in telemetry.layer_names),
            layer_types=tuple(entry.type for entry in telemetry.layer_names),
            profile=facts["profile"],
            trained=facts["trained"],
            fault=_with_history(facts["fault"], telemetry.steps),
            references=facts["references"],
        )
    except (KeyError, TypeError) as error:
        raise StorageError(f"{path}: not an observed run ({error!r}): observe it anew") from error


def _with_known_losses(
    steps: "np.ndarray[Any, Any]", fault: Mapping[str, Any] | None
) -> "np.ndarray[Any, Any]":
    """The steps whose loss is known: NaN stands for a loss that no `backward` started from.

    In a run with a fault NaN is evidence and stays.
    """
    return steps if fault else steps[~np.isnan(steps["loss"])]


def _with_history(
    fault: Mapping[str, Any] | None, steps: "np.ndarray[Any, Any]"
) -> dict[str, Any] | None:
    """The fault beside the rate of its step and the last finite loss and norm before it."""
    if fault is None:
        return None
    before = steps[steps["step"] < fault["step"]]
    last = {
        name: float(known[-1])
        for name in ("loss", "gradient_norm")
        if (known := before[name][np.isfinite(before[name])]).size
    }
    rates = steps["learning_rate"][steps["step"] <= fault["step"]]
    rate = {"learning_rate": float(rates[-1])} if rates.size else {}
    return {**fault, "last_finite": last, **rate}
