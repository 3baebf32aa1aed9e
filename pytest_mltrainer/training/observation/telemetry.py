"""What is recorded while a model trains: fixed-width step records and one JSON line an epoch.

`steps.rec` is append-only; numpy reads it in one line: `np.fromfile(path, STEP)`. A torn last
record is dropped.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mltrainer.core import files
from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.core.evidence import EpochRecord
from pytest_mltrainer.training.observation.layer_records import LayerName, LayerRecords

STEP = np.dtype(
    [
        ("step", "<u4"),
        ("epoch", "<u4"),
        ("loss", "<f8"),
        ("gradient_norm", "<f8"),
        ("learning_rate", "<f8"),
        ("step_s", "<f4"),
        ("wait_s", "<f4"),
    ]
)
STEPS_FILE = "telemetry/steps.rec"
EPOCHS_FILE = "telemetry/epochs.jsonl"
BLOCK_STEPS = 256


class TelemetryWriter:
    """Appends to the telemetry of one training."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the phase's output; the files are made when first written."""
        self._steps = folder / STEPS_FILE
        self._epochs = folder / EPOCHS_FILE
        self._layers = LayerRecords(folder)
        self._steps.parent.mkdir(parents=True, exist_ok=True)

    def truncate(self, *, steps: int, epochs: int) -> None:
        """Forget what was recorded behind a checkpoint that training resumes from."""
        kept = read_steps(self._steps)[:steps] if self._steps.exists() else np.empty(0, STEP)
        files.write_bytes(self._steps, kept.tobytes())
        self._layers.truncate(steps=steps)
        lines = files.read_ledger(self._epochs)[:epochs]
        self._epochs.unlink(missing_ok=True)
        for line in lines:
            files.append_json(self._epochs, line)

    def append_steps(self, rows: "np.ndarray[Any, Any]") -> None:
        """Append step records (dtype STEP)."""
        try:
            with self._steps.open("ab") as stream:
                stream.write(rows.tobytes())
        except OSError as error:
            raise files.storage_error("append to", self._steps, error) from error

    def append_epoch(self, record: EpochRecord) -> None:
        """Append one epoch; values that are not finite are kept as text: JSON has no word."""
        stored = asdict(record)
        stored["memory_mb"] = _storable(record.memory_mb)
        for part in ("train", "validation"):
            stored[part] = {name: _storable(value) for name, value in stored[part].items()}
        files.append_json(self._epochs, stored)


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """The records of one training."""

    steps: "np.ndarray[Any, Any]"
    epochs: Sequence[EpochRecord]
    layers: "np.ndarray[Any, Any]"
    layer_names: Sequence[LayerName]

    @classmethod
    def read(cls, folder: Path) -> "Telemetry":
        """Read what a TelemetryWriter wrote below `folder`. Raises StorageError when damaged."""
        path = folder / EPOCHS_FILE
        epochs = []
        for line in files.read_ledger(path):
            try:
                for part in ("train", "validation"):
                    line[part] = {name: float(value) for name, value in line[part].items()}
                line["memory_mb"] = float(line.get("memory_mb", np.nan))
                epochs.append(EpochRecord(**line))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise StorageError(f"{path}: a line is not an epoch record ({error!r})") from error
        layers = LayerRecords(folder)
        return cls(
            steps=read_steps(folder / STEPS_FILE),
            epochs=epochs,
            layers=layers.read(),
            layer_names=layers.names(),
        )


def read_steps(path: Path) -> "np.ndarray[Any, Any]":
    """The step records of a file; none when it is missing."""
    try:
        whole = path.stat().st_size // STEP.itemsize
        return np.fromfile(path, STEP, count=whole)
    except FileNotFoundError:
        return np.empty(0, STEP)
    except OSError as error:
        raise files.storage_error("read", path, error) from error


def _storable(value: float) -> float | str:
    return float(value) if np.isfinite(value) else str(float(value))
