"""ONNX in float16: half the size, for devices that calculate in it."""

from pathlib import Path
from typing import Any

from torch import nn

from pytest_mltrainer.export.format import ExportError
from pytest_mltrainer.export.precision import FLOAT16
from pytest_mltrainer.export.quantised import QuantisedOnnx


class OnnxFp16Exporter(QuantisedOnnx):
    """Weights and values in float16, inputs and outputs in float32, by ONNX Runtime's converter.

    Operators that have no float16 in ONNX Runtime stay in float32.
    """

    file_name = "model.fp16.onnx"
    precision = FLOAT16

    def refuse(self, model: nn.Module) -> None:
        """Raise ExportError for too large models, and for weights that float16 cannot hold."""
        super().refuse(model)
        _refuse_what_overflows(model)

    def convert(self, source: Path) -> Any:
        """The converted graph."""
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16

        return convert_float_to_float16(onnx.load(str(source)), keep_io_types=True)


EXPORTER = OnnxFp16Exporter()


def _refuse_what_overflows(model: nn.Module) -> None:
    """The converter would cut such weights to the largest number and say nothing of it."""
    assert FLOAT16.largest is not None
    for name, tensor in model.state_dict().items():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        largest = float(tensor.abs().max())
        if largest > FLOAT16.largest:
            raise ExportError(
                f"the model cannot be exported to float16: its tensor '{name}' reaches "
                f"{largest:.3g}, beyond {FLOAT16.largest:g}, the largest number of float16: "
                f"{FLOAT16.remedy}"
            )
