"""The exports of a final model as a gate reads them: from their files, each loaded anew."""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from pytest_mltrainer.core.digests import sha256_file
from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.core.hooks import offered, plugin_manager
from pytest_mltrainer.export.format import (
    Exported,
    Exporter,
    Quantising,
    exporter_named,
    exporters,
    load_export,
    precision_of,
    with_samples,
)
from pytest_mltrainer.export.layouts import layouts, signature_of
from pytest_mltrainer.export.parity import Predict
from pytest_mltrainer.export.precision import Precision
from pytest_mltrainer.export.signature import Metadata
from pytest_mltrainer.training.run import TrainingRun

FOLDER = "final_model"
"""The folder of the final model among the artifacts of finalization."""
WEIGHTS = "weights.safetensors"
MODEL_MANIFEST = "model.json"


class ExportedModel:
    """Every format that the configuration asks for."""

    def __init__(self, run: TrainingRun) -> None:
        """Nothing is loaded yet."""
        self._run = run
        self._known = exporters(offered(plugin_manager(run.project), "mltrainer_exporters"))
        self.formats = run.config.export.formats

    @property
    def error(self) -> str | None:
        """Why the model could not be exported, or None."""
        name = "export_error.json"
        return str(self._run.json(name)["error"]) if self._run.has(name) else None

    def loader(self, name: str) -> str:
        """`module:Class` that loads the format."""
        return exporter_named(name, self._known).loader

    def path(self, name: str) -> Path:
        """The file of a format."""
        exporter = exporter_named(name, self._known)
        path = self._run.folder.artifact(f"{FOLDER}/{exporter.file_name}")
        if not path.is_file():
            raise StorageError(f"{path}: the export is missing")
        return path

    def precision(self, name: str) -> Precision | None:
        """How coarse the numbers of a format are: its exporter says it, not the file."""
        return precision_of(exporter_named(name, self._known))

    @property
    def served(self) -> str:
        """The format that a deployment serves."""
        return served_format(self.formats, self._known)

    def metadata(self, name: str, exact: Metadata) -> Metadata:
        """What the file of a format must say, where an exact one must say `exact`."""
        task, training = self._run.task, self._run.splits.train
        exporter = exporter_named(name, self._known)
        if not isinstance(exporter, Quantising):
            return exact
        found = with_samples(exporter, task, training)
        return found.described(exact) if isinstance(found, Quantising) else exact

    def load(self, name: str) -> Exported:
        """The export of a format, in a fresh session."""
        return load_export(exporter_named(name, self._known), self.path(name))

    def damaged(self) -> list[str]:
        """Files whose bytes are not those that the manifest of the model names."""
        named: dict[str, str] = self._run.json(f"{FOLDER}/{MODEL_MANIFEST}")["files"]
        folder = self._run.folder
        return [
            name
            for name, digest in named.items()
            if sha256_file(folder.artifact(f"{FOLDER}/{name}")) != digest
        ]

    def weights(self) -> dict[str, torch.Tensor]:
        """The stored weights. Raises StorageError when the file cannot be read."""
        path = self._run.folder.artifact(f"{FOLDER}/{WEIGHTS}")
        try:
            return dict(load_file(path))
        except (OSError, ValueError, SafetensorError) as error:
            raise StorageError(f"{path}: not readable ({error})") from error


def served_format(formats: Sequence[str], known: dict[str, Exporter]) -> str:
    """The first format that ONNX Runtime serves, or the first of all: what `serve.py` loads."""
    return next(
        (name for name in formats if exporter_named(name, known).file_name.endswith(".onnx")),
        formats[0],
    )


def served_predictor(run: TrainingRun) -> tuple[Predict, Precision | None]:
    """Who gives the answers that a deployment must repeat, and how exactly it must.

    The best checkpoint, or the served file itself where its outputs have no elementwise tolerance.
    """
    exported = ExportedModel(run)
    precision = exported.precision(exported.served)
    if precision is None or precision.is_elementwise:
        return run.predictor(), precision
    return exported.load(exported.served), precision


def expected_metadata(run: TrainingRun) -> Metadata:
    """What the metadata of an exact export must say, by data, model and checkpoint as they are."""
    splits = run.splits
    every = layouts(run.task, (splits.train, splits.validation, splits.test))
    inputs, outputs = signature_of(run.predictor(), every)
    return Metadata(
        kind=run.task.kind,
        inputs=inputs,
        outputs=outputs,
        checkpoint=sha256_file(run.folder.artifact("checkpoints/best.pt")),
        weights=sha256_file(run.folder.artifact(f"{FOLDER}/{WEIGHTS}")),
    )
