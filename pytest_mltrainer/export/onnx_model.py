"""An ONNX file as a service runs it: with ONNX Runtime and NumPy, without torch or user code."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.export.external_data import external_files
from pytest_mltrainer.export.signature import METADATA, Array, Metadata, ServedModel


class OnnxModel(ServedModel):
    """An ONNX file in a session of ONNX Runtime."""

    def __init__(self, path: Path) -> None:
        """Raises StorageError when the file is missing, damaged, or points out of its folder."""
        external_files(path)
        self._session = session_of(str(path), path)
        stored = self._session.get_modelmeta().custom_metadata_map
        self.metadata = Metadata.from_text(stored.get(METADATA), path)

    def run(self, arrays: Mapping[str, Array]) -> Array:
        """Outputs for arrays by name."""
        (outputs,) = self._session.run(None, dict(arrays))
        return np.asarray(outputs)


def session_of(model: str | bytes, path: Path) -> Any:
    """A session on one thread of a file, or of the bytes of one that was made from `path`.

    Raises StorageError when it cannot be loaded.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = str(error).partition("\n")[0][:300]
        raise StorageError(f"{path}: not loadable by ONNX Runtime ({reason})") from error
