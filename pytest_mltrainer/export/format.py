"""What an export format is, and how formats are found by name."""

from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from pytest_mltrainer.core.errors import UserError, did_you_mean
from pytest_mltrainer.export.calibration import Calibration, calibration_of
from pytest_mltrainer.export.precision import Precision
from pytest_mltrainer.export.signature import Array, Metadata
from pytest_mltrainer.training.task import Task

__all__ = ["Array", "ExportError", "Exported", "Exporter", "PredictModule", "Quantising"]


class ExportError(UserError):
    """A model cannot be exported; the text names the format and the exporter's reason."""


class Exported(Protocol):
    """An exported model, loaded from its file."""

    metadata: Metadata

    def __call__(self, inputs: Any) -> Array:
        """Outputs for a batch."""
        ...


class Exporter(Protocol):
    """One format: one module, with an instance named `EXPORTER`."""

    file_name: str
    loader: str
    """`module:Class`, called with the file's path; needs nothing of the user's code."""

    def export(
        self, task: Task, model: nn.Module, inputs: Any, path: Path, metadata: Metadata
    ) -> tuple[str, ...]:
        """Write the model, in evaluation mode, with a dynamic batch, and the metadata in it.

        Returns the names of the files that were written into the folder of `path`. Raises
        ExportError for a model that the format cannot hold.
        """
        ...


@runtime_checkable
class Quantising(Protocol):
    """What an exporter has besides where its numbers are coarser than the model's."""

    precision: Precision

    def described(self, metadata: Metadata) -> Metadata:
        """The metadata of its file: those of an exact one, and how the numbers were rounded."""
        ...


@runtime_checkable
class Calibrating(Protocol):
    """What an exporter has besides where it looks at training samples before it exports."""

    def calibrated(self, calibration: Calibration) -> Exporter:
        """The exporter that goes by these samples."""
        ...


class PredictModule(nn.Module):
    """`task.predict` as a module of its own, so that what is exported is what is evaluated."""

    def __init__(self, task: Task, model: nn.Module) -> None:
        """`model` must be in evaluation mode."""
        super().__init__()
        self.task = task
        self.model = model

    def forward(self, inputs: Any) -> torch.Tensor:
        """Outputs for a batch of inputs."""
        return self.task.predict(self.model, inputs)


def exporters(offered: dict[str, Exporter]) -> dict[str, Exporter]:
    """The built-in formats, each a module here that defines `EXPORTER`, and those of plugins."""
    built_in = {
        path.stem: import_module(f"{__package__}.{path.stem}").EXPORTER
        for path in sorted(Path(__file__).parent.glob("*.py"))
        if "\nEXPORTER = " in path.read_text(encoding="utf-8")
    }
    return {**built_in, **offered}


def with_samples(exporter: Exporter, task: Task, training: Any) -> Exporter:
    """The exporter, calibrated on the training split where it asks for that."""
    if isinstance(exporter, Calibrating):
        return exporter.calibrated(calibration_of(task, training))
    return exporter


def precision_of(exporter: Exporter) -> Precision | None:
    """How coarse the numbers of a format are; None for those of the model itself."""
    return exporter.precision if isinstance(exporter, Quantising) else None


def load_export(exporter: Exporter, path: Path) -> Exported:
    """Load an exported file in a fresh session. Raises StorageError when it cannot be loaded."""
    module, _, name = exporter.loader.partition(":")
    loaded: Exported = getattr(import_module(module), name)(path)
    return loaded


def exporter_named(name: str, known: dict[str, Exporter]) -> Exporter:
    """The exporter of a format. Raises UserError that lists what there is."""
    if name not in known:
        raise UserError(
            f"training_config.yaml export.formats: no exporter '{name}'; there are "
            f"{', '.join(sorted(known))}.{did_you_mean(name, known)}"
        )
    return known[name]
