"""ONNX through torch.export, run by ONNX Runtime."""

import contextlib
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from pytest_mltrainer.core import files
from pytest_mltrainer.export.graph import graph_of
from pytest_mltrainer.export.refusal import listening, refusal
from pytest_mltrainer.export.signature import METADATA, OUTPUTS, Metadata, named_leaves
from pytest_mltrainer.training.task import Task

NAME = "ONNX"
LIMIT_INLINE_BYTES = 2**31 - 2**26
"""Protocol buffers end at 2 GiB; the graph itself needs some room."""
SWALLOWS_NAN = (nn.LSTM, nn.GRU)
"""What ONNX Runtime calculates by saturating functions that turn NaN into a number."""


class OnnxExporter:
    """Exports with dynamo; large weights go into a file beside the model."""

    file_name = "model.onnx"
    loader = "pytest_mltrainer.export.onnx_model:OnnxModel"

    def __init__(self, *, limit_inline_bytes: int = LIMIT_INLINE_BYTES) -> None:
        """Weights of more than `limit_inline_bytes` are external data."""
        self._limit_inline_bytes = limit_inline_bytes

    def export(
        self, task: Task, model: nn.Module, inputs: Any, path: Path, metadata: Metadata
    ) -> tuple[str, ...]:
        """Write `model.onnx`, and `model.onnx.data` beside it where the weights are large."""
        program = graph_of(NAME, task, model, inputs, metadata.inputs, swallows_nan=SWALLOWS_NAN)
        with listening() as log, contextlib.redirect_stdout(io.StringIO()):
            try:
                made = torch.onnx.export(
                    program,
                    dynamo=True,
                    input_names=list(named_leaves(inputs)),
                    output_names=[OUTPUTS],
                    verbose=False,
                )
            except Exception as error:  # the converter has exceptions of its own, not public ones
                raise refusal(NAME, error, log, program) from error
        assert made is not None
        _forget_the_source(made.model)
        made.model.metadata_props[METADATA] = metadata.text()
        return self._save(made, path)

    def _save(self, made: Any, path: Path) -> tuple[str, ...]:
        """Save beside the target, then move: the data first, so that no model lacks its own."""
        weights = (value.const_value for value in made.model.graph.initializers.values())
        is_large = sum(weight.nbytes for weight in weights if weight) > self._limit_inline_bytes
        folder = Path(tempfile.mkdtemp(prefix=files.TEMPORARY, dir=path.parent))
        try:
            made.save(str(folder / path.name), external_data=is_large)
            written = sorted(folder.iterdir(), reverse=True)
            for file in written:
                files.move(file, path.parent / file.name)
        except OSError as error:
            raise files.storage_error("write", path, error) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return tuple(file.name for file in written)


EXPORTER = OnnxExporter()


def _forget_the_source(model: Any) -> None:
    """Drop what torch notes at each operator: paths and lines of this machine's code.

    They belong to nobody who gets the file, make its digest depend on the folder of the project,
    and are two thirds of a small model.
    """
    for graph in (model.graph, *model.functions.values()):
        graph.metadata_props.clear()
        for node in graph.all_nodes():
            node.metadata_props.clear()
            for value in node.outputs:
                value.metadata_props.clear()
