"""The folder of a finished model: safetensors weights, every export, and a manifest of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from pytest_mltrainer.core import files
from pytest_mltrainer.core.digests import sha256_file
from pytest_mltrainer.evaluation.metrics import Metric
from pytest_mltrainer.export.format import Exporter, exporter_named, with_samples
from pytest_mltrainer.export.layouts import layouts, signature_of
from pytest_mltrainer.export.served import MODEL_MANIFEST, WEIGHTS, served_format
from pytest_mltrainer.export.signature import Metadata
from pytest_mltrainer.training.task import Task


def write_final_model(
    folder: Path,
    *,
    task: Task,
    model: nn.Module,
    inputs: Any,
    datasets: Sequence[Any],
    formats: tuple[str, ...],
    known: Mapping[str, Exporter],
    metric: Metric,
    checkpoint: str,
) -> None:
    """Write weights and every export, then the manifest that names them with digests and shapes.

    `inputs` are those that the model is exported with; an axis whose size differs between them and
    samples of `datasets` is dynamic; the first of them is the training split. `checkpoint` is the
    sha256 of the checkpoint that `model` has its weights from. Raises ExportError, and
    InputError for samples of different kinds.
    """
    weights = {
        name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    _write_weights(_unshared(weights), folder / WEIGHTS)
    with torch.no_grad():
        taken, given = signature_of(
            lambda batch: task.predict(model, batch), layouts(task, datasets, inputs)
        )
    metadata = Metadata(
        kind=task.kind,
        inputs=taken,
        outputs=given,
        checkpoint=checkpoint,
        weights=sha256_file(folder / WEIGHTS),
    )
    names = [WEIGHTS]
    for name in formats:
        training = datasets[0] if datasets else ()
        exporter = with_samples(exporter_named(name, dict(known)), task, training)
        names += exporter.export(task, model, inputs, folder / exporter.file_name, metadata)
    files.write_json(
        folder / MODEL_MANIFEST,
        {
            **metadata.to_json(),
            "metric": metric.name,
            "formats": list(formats),
            "served": exporter_named(served_format(formats, dict(known)), dict(known)).file_name,
            "files": {name: sha256_file(folder / name) for name in names},
        },
    )


def short_name(folder: Path) -> str:
    """A final model by the digest of its `model.json`, as `pytest-mltrainer releases` names it."""
    return sha256_file(folder / MODEL_MANIFEST)[:12]


def _write_weights(weights: dict[str, torch.Tensor], path: Path) -> None:
    """Not as bytes in memory first: weights may fill half of it."""
    temporary = path.with_name(f"{files.TEMPORARY}{path.name}")
    try:
        save_file(weights, temporary)
    except (OSError, SafetensorError) as error:
        temporary.unlink(missing_ok=True)
        reason = error if isinstance(error, OSError) else OSError(str(error))
        raise files.storage_error("write", path, reason) from error
    files.move(temporary, path)


def _unshared(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tied weights written out: safetensors refuses tensors that share memory."""
    seen: set[int] = set()
    separate = {}
    for name, value in weights.items():
        separate[name] = value.clone() if value.data_ptr() in seen else value
        seen.add(value.data_ptr())
    return separate
