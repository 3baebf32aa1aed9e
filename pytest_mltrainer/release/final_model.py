"""The folder of a finished model: safetensors weights, every export, and a manifest of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import nn

from pytest_mltrainer.core import files
from pytest_mltrainer.core.digests import sha256_file
from pytest_mltrainer.evaluation.metrics import Metric
from pytest_mltrainer.export.format import Exporter, exporter_named
from pytest_mltrainer.export.served import MODEL_MANIFEST, WEIGHTS
from pytest_mltrainer.export.signature import ONLY, OUTPUTS, Metadata, specs
from pytest_mltrainer.training.task import Task


def write_final_model(
    folder: Path,
    *,
    task: Task,
    model: nn.Module,
    inputs: Any,
    formats: tuple[str, ...],
    known: Mapping[str, Exporter],
    metric: Metric,
    checkpoint: str,
) -> None:
    """Write weights and every export, then the manifest that names them with digests and shapes.

    `checkpoint` is the sha256 of the checkpoint that `model` has its weights from. Raises
    ExportError.
    """
    weights = {
        name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    files.write_bytes(folder / WEIGHTS, save(_unshared(weights)))
    with torch.no_grad():
        outputs = task.predict(model, inputs)
    metadata = Metadata(
        kind=task.kind,
        inputs=specs(inputs, ONLY),
        outputs=specs(outputs, OUTPUTS),
        checkpoint=checkpoint,
        weights=sha256_file(folder / WEIGHTS),
    )
    names = [WEIGHTS]
    for name in formats:
        exporter = exporter_named(name, dict(known))
        names += exporter.export(task, model, inputs, folder / exporter.file_name, metadata)
    files.write_json(
        folder / MODEL_MANIFEST,
        {
            **metadata.to_json(),
            "metric": metric.name,
            "formats": list(formats),
            "files": {name: sha256_file(folder / name) for name in names},
        },
    )


def _unshared(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tied weights written out: safetensors refuses tensors that share memory."""
    seen: set[int] = set()
    separate = {}
    for name, value in weights.items():
        separate[name] = value.clone() if value.data_ptr() in seen else value
        seen.add(value.data_ptr())
    return separate
