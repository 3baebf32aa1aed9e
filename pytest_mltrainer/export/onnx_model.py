"""An ONNX file as a service runs it: with ONNX Runtime and NumPy, without torch or user code."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.export.external_data import external_files
from pytest_mltrainer.export.signature import METADATA, Array, Metadata, ServedModel


class OnnxModel(ServedModel):
    """An ONNX file in a session of ONNX Runtime."""

    def __init__(self, path: Path) -> None:
        """Raises StorageError when the file is missing, damaged, or points out of its folder."""
        import onnxruntime

        external_files(path)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 1
        try:
            self._session = onnxruntime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            reason = str(error).partition("\n")[0][:300]
            raise StorageError(f"{path}: not loadable by ONNX Runtime ({reason})") from error
        stored = self._session.get_modelmeta().custom_metadata_map
        self.metadata = Metadata.from_text(stored.get(METADATA), path)

    def run(self, arrays: Mapping[str, Array]) -> Array:
        """Outputs for arrays by name."""
        (outputs,) = self._session.run(None, dict(arrays))
        return np.asarray(outputs)
