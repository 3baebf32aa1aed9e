"""NaN in the inputs is never answered by a finite number that the model itself does not give."""

from pathlib import Path

import numpy as np
import pytest
import torch
from models import TASK, LastState
from torch import nn

from pytest_mltrainer.export.format import load_export
from pytest_mltrainer.export.onnx import OnnxExporter
from pytest_mltrainer.export.signature import ONLY, OUTPUTS, Metadata, as_array, specs


class Gated(LastState):
    """The same with a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.GRU(5, 8, batch_first=True)  # type: ignore[assignment]


class Masking(LastState):
    """Takes missing values for zeros."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return super().forward(inputs.nan_to_num())


@pytest.mark.parametrize("kind", [LastState, Gated, Masking])
def test_a_recurrent_export_answers_nan_as_the_model_does(
    kind: type[LastState], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model, inputs = kind().eval(), torch.randn(4, 6, 5)
    inputs[1, 2, 3], inputs[3] = torch.nan, torch.nan
    with torch.no_grad():
        wanted = as_array(model(inputs))
    metadata = Metadata(
        kind="classification",
        inputs=specs(inputs, ONLY),
        outputs=specs(torch.from_numpy(wanted), OUTPUTS),
        checkpoint="c" * 64,
        weights="w" * 64,
    )
    path = tmp_path / OnnxExporter.file_name
    OnnxExporter().export(TASK, model, inputs, path, metadata)
    np.testing.assert_allclose(load_export(OnnxExporter(), path)(inputs), wanted, atol=1e-6)
