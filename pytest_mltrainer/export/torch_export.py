"""PyTorch's own graph format (.pt2), without Python code."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_mltrainer.core import files
from pytest_mltrainer.export.graph import graph_of
from pytest_mltrainer.export.refusal import listening, refusal
from pytest_mltrainer.export.signature import METADATA, Metadata
from pytest_mltrainer.training.task import Task

NAME = "torch.export"


class TorchExportExporter:
    """Exports with torch.export; the weights are stored as plain bytes, never by pickle."""

    file_name = "model.pt2"
    loader = "pytest_mltrainer.export.torch_model:TorchExportModel"

    def export(
        self, task: Task, model: nn.Module, inputs: Any, path: Path, metadata: Metadata
    ) -> tuple[str, ...]:
        """Write `model.pt2`."""
        program = graph_of(NAME, task, model, inputs, metadata.inputs)
        temporary = path.with_name(f"{files.TEMPORARY}{path.name}")
        with listening() as log:
            try:
                torch.export.save(program, temporary, extra_files={METADATA: metadata.text()})
            except OSError as error:
                raise files.storage_error("write", path, error) from error
            except Exception as error:  # what cannot be serialised has no type of its own
                raise refusal(NAME, error, log, program) from error
        files.move(temporary, path)
        return (path.name,)


EXPORTER = TorchExportExporter()
