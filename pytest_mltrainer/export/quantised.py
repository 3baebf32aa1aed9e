"""ONNX with coarser numbers: made from the exact file, asked and served in the same way."""

import logging
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from pytest_mltrainer.core import files
from pytest_mltrainer.export.format import ExportError
from pytest_mltrainer.export.onnx import LIMIT_INLINE_BYTES, OnnxExporter
from pytest_mltrainer.export.onnx_graph import stored_bytes
from pytest_mltrainer.export.precision import Precision
from pytest_mltrainer.export.signature import METADATA, Metadata
from pytest_mltrainer.training.task import Task


class QuantisedOnnx:
    """Exports to ONNX, then converts; inputs and outputs keep the dtypes of the model."""

    file_name: ClassVar[str]
    loader = "pytest_mltrainer.export.onnx_model:OnnxModel"
    precision: ClassVar[Precision]

    def __init__(self, *, limit_bytes: int = LIMIT_INLINE_BYTES) -> None:
        """Models with weights of more than `limit_bytes` are refused."""
        self._limit_bytes = limit_bytes

    def convert(self, source: Path) -> Any:
        """The converted graph of an exact file."""
        raise NotImplementedError

    def refuse(self, model: nn.Module) -> None:
        """Raise ExportError for a model that cannot be converted, before it takes any time."""
        size = sum(tensor.nbytes for tensor in model.state_dict().values())
        if size > self._limit_bytes:
            raise ExportError(
                f"the model cannot be exported to {self.precision.name}: its weights have "
                f"{size / 2**30:.2f} GiB, and conversion holds them in one file of at most "
                f"{self._limit_bytes / 2**30:.2f} GiB: take the format onnx"
            )

    def described(self, metadata: Metadata) -> Metadata:
        """The metadata that this file has: those of the exact one, and how it was converted."""
        return replace(metadata, quantised=self.precision.name)

    def export(
        self, task: Task, model: nn.Module, inputs: Any, path: Path, metadata: Metadata
    ) -> tuple[str, ...]:
        """Write the file. Raises ExportError where nothing of the model can be converted."""
        self.refuse(model)
        described = self.described(metadata)
        with tempfile.TemporaryDirectory(prefix=files.TEMPORARY, dir=path.parent) as folder:
            source, temporary = Path(folder) / "exact.onnx", Path(folder) / path.name
            OnnxExporter().export(task, model, inputs, source, described)
            with _quiet():
                converted = self.convert(source)
            _describe(converted, described)
            files.write_bytes(temporary, converted.SerializeToString())
            if not stored_bytes(temporary)[self.precision.name.upper()]:
                raise ExportError(
                    f"the model cannot be exported to {self.precision.name}: no operator of it "
                    "has weights that could be converted (convolutions and matrix products "
                    "have): take the format onnx"
                )
            files.move(temporary, path)
        return (path.name,)


def _describe(converted: Any, metadata: Metadata) -> None:
    del converted.metadata_props[:]
    converted.metadata_props.add(key=METADATA, value=metadata.text())


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the converters' advice, and with the path as it was.

    They import one another from a folder that they put on it, once in a process: a user's module
    of the same name (`benchmark`, `optimizer`) must not be found there later.
    """
    import onnxruntime

    disabled, path = logging.root.manager.disable, list(sys.path)
    sys.path.append(str(Path(onnxruntime.__file__).parent / "transformers"))
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(disabled)
        sys.path[:] = path
