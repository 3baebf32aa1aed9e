"""ONNX through torch.export, run by ONNX Runtime."""

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_mltrainer.core import files
from pytest_mltrainer.export.format import ExportError, PredictModule
from pytest_mltrainer.training.task import Task


class OnnxExporter:
    """Exports with dynamo; a data-dependent branch is refused, never traced."""

    file_name = "model.onnx"
    loader = "pytest_mltrainer.export.onnx_model:OnnxModel"

    def export(self, task: Task, model: nn.Module, inputs: Any, path: Path) -> None:
        """Write the model with a dynamic batch. `inputs` is a batch of at least 2 samples."""
        module = PredictModule(task, model.eval())
        noise = io.StringIO()
        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(noise), _quiet_logs():
                warnings.simplefilter("ignore")
                program = torch.onnx.export(
                    module,
                    (inputs,),
                    dynamo=True,
                    dynamic_shapes={"inputs": _dynamic_batch(inputs)},
                    verbose=False,
                )
                assert program is not None
                target = path.with_name(f"{files.TEMPORARY}{path.name}")
                program.save(str(target))
        except Exception as error:
            raise ExportError(f"the model cannot be exported to ONNX: {_reason(error)}") from error
        files.write_bytes(path, target.read_bytes())
        target.unlink()


EXPORTER = OnnxExporter()


def _dynamic_batch(inputs: Any) -> Any:
    """The first axis of every tensor is the batch."""
    if isinstance(inputs, torch.Tensor):
        return {0: torch.export.Dim.DYNAMIC} if inputs.ndim else None
    if isinstance(inputs, dict):
        return {key: _dynamic_batch(value) for key, value in inputs.items()}
    if isinstance(inputs, list | tuple):
        return type(inputs)(_dynamic_batch(value) for value in inputs)
    return None


def _reason(error: BaseException) -> str:
    """The innermost cause, in one line: the exporter wraps it in pages of advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:3])[:400]}"


@contextlib.contextmanager
def _quiet_logs() -> Any:
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
