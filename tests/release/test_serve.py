"""`serve.py` with several inputs of whole numbers and of different length, by itself."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pytest_mltrainer.core import files
from pytest_mltrainer.evaluation.metrics import METRICS
from pytest_mltrainer.export.format import exporters
from pytest_mltrainer.release.final_model import write_final_model
from pytest_mltrainer.release.inputs import request_of
from pytest_mltrainer.release.serve import Predictor, Refused
from pytest_mltrainer.training.task import Task

TEXTS = [({"tokens": torch.arange(n) % 7, "mask": torch.ones(n).bool()}, 0) for n in (4, 2, 6)]


class Bag(nn.Module):
    """The mean of what the mask leaves of some embedded tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 3)

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        mask = inputs["mask"].unsqueeze(-1).float()
        mean: torch.Tensor = (self.embedding(inputs["tokens"]) * mask).sum(1) / mask.sum(1)
        return mean


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return Bag().eval()


@pytest.fixture(scope="module")
def folder(model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A final model with the golden requests that its samples are."""
    target, task = tmp_path_factory.mktemp("final_model"), Task()
    requests = [task.collate([sample])[0] for sample in TEXTS]
    write_final_model(
        target,
        task=task,
        model=model,
        inputs=requests[0],
        datasets=[TEXTS],
        formats=("onnx",),
        known=exporters({}),
        metric=METRICS["accuracy"],
        checkpoint="c" * 64,
    )
    with torch.no_grad():
        answered = [(request_of(one), model(one).tolist()) for one in requests]
    golden = [{"inputs": inputs, "outputs": outputs} for inputs, outputs in answered]
    files.write_json(target / "golden_requests.json", {"tolerance": 1e-4, "requests": golden})
    return target


def asked(**values: Any) -> dict[str, Any]:
    kinds = {"tokens": "int64", "mask": "bool"}
    return {"inputs": [{"name": n, "dtype": kinds[n], "values": v} for n, v in values.items()]}


def test_requests_of_every_length_are_answered(folder: Path, model: nn.Module) -> None:
    predictor = Predictor(folder)
    assert predictor.health()["ok"]
    assert predictor.golden() | {"largest_difference": 0.0} == {
        "ok": True, "requests": 3, "failed": [], "largest_difference": 0.0, "tolerance": 1e-4,
    }  # fmt: skip
    padded = asked(mask=[[True] * 3, [True, False, False]], tokens=[[1, 2, 3], [5, 0, 0]])
    said = predictor.answer(json.loads(json.dumps(padded)))
    with torch.no_grad():
        alone = model({"tokens": torch.tensor([[5]]), "mask": torch.tensor([[True]])})
    np.testing.assert_allclose(said["outputs"][1], alone[0].numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (asked(tokens=[[1, 2], [3]], mask=[[True, True], [True]]), "input tokens is no array of"),
        (asked(tokens=[["a"]], mask=[[True]]), r"input tokens is no array .* invalid literal"),
        (asked(tokens=[[]], mask=[[]]), "empty inputs: tokens, mask"),
        (asked(tokens=[[1]]), "inputs: found tokens; wanted tokens, mask"),
        (asked(tokens=[[1, 2]], mask=[[True, True, True]]), "the model refused the request"),
        ({"inputs": [[1, 2]]}, "the model has several inputs: give them as in golden_requests"),
    ],
)
def test_what_cannot_be_answered_is_refused(folder: Path, request_: Any, says: str) -> None:
    with pytest.raises(Refused, match=says):
        Predictor(folder).answer(request_)


def test_a_damaged_file_is_not_loaded(folder: Path, tmp_path: Path) -> None:
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with (tmp_path / "model.onnx").open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(Refused, match=r"not the files that model\.json names: model\.onnx"):
        Predictor(tmp_path)
