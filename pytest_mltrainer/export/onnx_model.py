"""An ONNX file as a service runs it: with ONNX Runtime and NumPy, without torch or user code."""

from pathlib import Path
from typing import Any

import numpy as np

from pytest_mltrainer.core.errors import StorageError

Array = np.ndarray[Any, Any]


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


def _leaves(inputs: Any) -> list[Any]:
    if isinstance(inputs, dict):
        return [leaf for value in inputs.values() for leaf in _leaves(value)]
    if isinstance(inputs, list | tuple):
        return [leaf for value in inputs for leaf in _leaves(value)]
    return [inputs]


def _array(leaf: Any) -> Array:
    return leaf.detach().cpu().numpy() if hasattr(leaf, "detach") else np.asarray(leaf)
