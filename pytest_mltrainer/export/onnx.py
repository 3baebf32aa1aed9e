"""ONNX through torch.export, run by ONNX Runtime."""

import contextlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pytest_mltrainer.core import files
from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.export.format import Array, ExportError, PredictModule
from pytest_mltrainer.training.task import Task


class OnnxExporter:
    """Exports with dynamo; a data-dependent branch is refused, never traced."""

    file_name = "model.onnx"

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

    def load(self, path: Path) -> "OnnxModel":
        """Load the file on the CPU."""
        return OnnxModel(path)


class OnnxModel:
    """An ONNX file in a session of ONNX Runtime."""

    def __init__(self, path: Path) -> None:
        """Raises StorageError when the file is missing, damaged, or points out of its folder."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                path.read_bytes(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            reason = str(error).partition("\n")[0][:300]
            raise StorageError(f"{path}: not loadable by ONNX Runtime ({reason})") from error
        self._inputs = self._session.get_inputs()

    def __call__(self, inputs: Any) -> Array:
        """Outputs for a batch; tensors and arrays in the order of the export's inputs."""
        values = [_array(leaf) for leaf in _leaves(inputs)]
        names = [given.name for given in self._inputs]
        (outputs,) = self._session.run(None, dict(zip(names, values, strict=True)))
        return np.asarray(outputs)


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


def _leaves(inputs: Any) -> list[Any]:
    if isinstance(inputs, dict):
        return [leaf for value in inputs.values() for leaf in _leaves(value)]
    if isinstance(inputs, list | tuple):
        return [leaf for value in inputs for leaf in _leaves(value)]
    return [inputs]


def _array(leaf: Any) -> Array:
    return leaf.detach().cpu().numpy() if isinstance(leaf, torch.Tensor) else np.asarray(leaf)


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
