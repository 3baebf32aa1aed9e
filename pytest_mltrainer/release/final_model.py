"""The folder of a finished model: safetensors weights, exports, golden requests, and a manifest."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from pytest_mltrainer.core import files
from pytest_mltrainer.core.digests import sha256_file
from pytest_mltrainer.evaluation.metrics import Metric
from pytest_mltrainer.export.format import Exporter, exporter_named
from pytest_mltrainer.export.served import MODEL_MANIFEST, WEIGHTS
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
) -> None:
    """Write weights and every export, then the manifest that names them with digests and shapes."""
    weights = {
        name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    files.write_bytes(folder / WEIGHTS, save(_unshared(weights)))
    names = [WEIGHTS]
    for name in formats:
        exporter = exporter_named(name, dict(known))
        exporter.export(task, model, inputs, folder / exporter.file_name)
        names.append(exporter.file_name)
    with torch.no_grad():
        outputs = task.predict(model, inputs)
    files.write_json(
        folder / MODEL_MANIFEST,
        {
            "kind": task.kind,
            "metric": metric.name,
            "formats": list(formats),
            "inputs": describe(inputs),
            "outputs": describe(outputs),
            "files": {name: sha256_file(folder / name) for name in names},
        },
    )


def describe(value: Any) -> Any:
    """Shape (batch as -1) and dtype of each tensor of a nesting."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return {"shape": [-1, *value.shape[1:]], "dtype": str(value.dtype).removeprefix("torch.")}
    if isinstance(value, dict):
        return {key: describe(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [describe(part) for part in value]
    return type(value).__name__


def _unshared(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tied weights written out: safetensors refuses tensors that share memory."""
    seen: set[int] = set()
    separate = {}
    for name, value in weights.items():
        separate[name] = value.clone() if value.data_ptr() in seen else value
        seen.add(value.data_ptr())
    return separate
