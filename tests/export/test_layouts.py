"""Axes that differ between samples take any size; whole numbers, masks and several inputs work."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from pytest_mltrainer.export.format import ExportError, exporters, load_export, precision_of
from pytest_mltrainer.export.generated import smallest_failing
from pytest_mltrainer.export.layouts import layouts, signature_of
from pytest_mltrainer.export.parity import compare
from pytest_mltrainer.export.signature import InputError, Metadata, as_array, merged, specs
from pytest_mltrainer.training.task import Task

FORMATS = {name: found for name, found in exporters({}).items() if not precision_of(found)}
each_format = pytest.mark.parametrize("name", sorted(FORMATS))
LENGTHS = (5, 3, 9, 4)


class Texts(Task):
    """Tokens of different length beside a mask, a mapping of two inputs."""

    def collate(self, samples: Sequence[Any]) -> Any:
        tokens = pad_sequence([tokens for tokens, _ in samples], batch_first=True)
        return {"tokens": tokens, "mask": tokens != 0}, torch.tensor([y for _, y in samples])


class MaskedMean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        mask = inputs["mask"].unsqueeze(-1).to(torch.float32)
        mean = (self.embedding(inputs["tokens"]) * mask).sum(1) / mask.sum(1)
        outputs: torch.Tensor = self.head(mean)
        return outputs


class FixedLength(MaskedMean):
    """Divides by a number that was a length."""

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        return super().forward(inputs) / len(inputs["tokens"][0])


def texts(lengths: Sequence[int] = LENGTHS) -> list[tuple[torch.Tensor, int]]:
    return [(torch.randint(1, 20, (length,)), length % 3) for length in lengths]


def predictor(model: nn.Module) -> Callable[[Any], torch.Tensor]:
    def predict(inputs: Any) -> torch.Tensor:
        with torch.no_grad():
            return Texts().predict(model.eval(), inputs)

    return predict


def metadata_of(model: nn.Module, datasets: Sequence[Any], first: Any) -> Metadata:
    inputs, outputs = signature_of(predictor(model), layouts(Texts(), datasets, first))
    return Metadata(
        kind="classification", inputs=inputs, outputs=outputs, checkpoint="c" * 64, weights="w" * 64
    )


@each_format
def test_batches_of_any_length_give_what_the_model_gives(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    task, model = Texts(), MaskedMean()
    example = task.collate(texts()[:2])[0]
    metadata = metadata_of(model, [texts()], example)
    assert [(spec.name, spec.dtype, spec.shape) for spec in metadata.inputs] == [
        ("tokens", "int64", (-1, -1)),
        ("mask", "bool", (-1, -1)),
    ]
    path = tmp_path / FORMATS[name].file_name
    FORMATS[name].export(task, model, example, path, metadata)
    exported, predict = load_export(FORMATS[name], path), predictor(model)
    for lengths in ((1,), (4, 7), (12, 2, 3), (40,)):
        inputs = task.collate(texts(lengths))[0]
        assert not compare(as_array(predict(inputs)), exported(inputs)).differs, lengths
    rows = task.collate(texts((9, 8, 9)))[0]
    eager = lambda inputs: as_array(predict(inputs))  # noqa: E731
    assert smallest_failing(eager, exported, rows, metadata.inputs) is None


@each_format
def test_a_length_that_became_a_constant_is_refused(name: str, tmp_path: Path) -> None:
    model, example = FixedLength(), Texts().collate(texts()[:2])[0]
    metadata = metadata_of(model, [texts()], example)
    says = (
        r"test_layouts\.py:\d+ in forward; the size of axis 1, which differs between samples, bec"
    )
    with pytest.raises(ExportError, match=says):
        FORMATS[name].export(Texts(), model, example, tmp_path / "model", metadata)


class Recurrent(MaskedMean):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(8, 8, batch_first=True)

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        outputs: torch.Tensor = self.head(self.gru(self.embedding(inputs["tokens"]))[0].mean(1))
        return outputs


def test_a_recurrent_layer_needs_one_length(tmp_path: Path) -> None:
    model, example = Recurrent(), Texts().collate(texts()[:2])[0]
    metadata = metadata_of(model, [texts()], example)
    says = r"to ONNX: a recurrent layer .* but axis 1 differs between samples: pad all"
    with pytest.raises(ExportError, match=says):
        FORMATS["onnx"].export(Texts(), model, example, tmp_path / "model", metadata)
    fixed = metadata_of(model, [texts((5, 5))], example)
    FORMATS["onnx"].export(Texts(), model, example, tmp_path / "model", fixed)


def test_a_file_that_knows_one_length_only_is_found_by_cutting() -> None:
    task, model = Texts(), MaskedMean()
    rows = task.collate(texts((8, 8, 8)))[0]
    predict = predictor(model)
    taken = metadata_of(model, [texts()], rows).inputs

    def exported(inputs: Any) -> Any:
        return as_array(predict(inputs)) * (1 if inputs["tokens"].shape[1] == 8 else 2)

    eager = lambda inputs: as_array(predict(inputs))  # noqa: E731
    assert smallest_failing(eager, exported, rows) is None
    failing = smallest_failing(eager, exported, rows, taken)
    assert failing is not None
    assert failing.recipe.text() == "zeros (batch 1, seed 0, scale 1, cut to 0.5)"
    assert failing.recipe.build(rows, taken)["mask"].all()


def test_a_cut_that_leaves_nothing_of_a_request_is_no_disagreement() -> None:
    """Padded on the left, so that the mask of the first half is empty."""
    tokens = torch.tensor([[0, 0, 0, 0, 3, 4], [0, 0, 0, 0, 5, 6]])
    rows, predict = {"tokens": tokens, "mask": tokens != 0}, predictor(MaskedMean())
    free = [replace(spec, shape=(-1, -1)) for spec in specs(rows, "inputs")]
    eager = lambda inputs: as_array(predict(inputs))  # noqa: E731
    assert smallest_failing(eager, eager, rows, free) is None


def test_sizes_that_the_model_refuses_are_no_disagreement() -> None:
    rows = Texts().collate(texts((8, 8)))[0]

    def eager(inputs: Any) -> Any:
        if inputs["tokens"].shape[1] < 8:
            raise RuntimeError("kernel size cannot be greater than actual input size")
        return np.zeros((len(inputs["tokens"]), 2))

    free = [replace(spec, shape=(-1, -1)) for spec in specs(rows, "inputs")]
    assert smallest_failing(eager, eager, rows, free) is None


def test_samples_of_one_length_leave_the_axis_as_it_is() -> None:
    (inputs,) = layouts(Texts(), [texts((6, 6, 6))])
    assert [spec.shape for spec in merged([specs(inputs, "inputs")])] == [(-1, 6), (-1, 6)]


def test_samples_of_different_kinds_are_named() -> None:
    wide, narrow = torch.zeros(1, 4), torch.zeros(1, 4, dtype=torch.float64)
    with pytest.raises(InputError, match=r"one has x \(float32, 2 axes\), another x \(float64, 2"):
        merged([specs({"x": wide}, "inputs"), specs({"x": narrow}, "inputs")])


def test_inputs_without_a_tensor_are_refused() -> None:
    with pytest.raises(InputError, match=r"its inputs are list without a tensor: make tensors"):
        signature_of(len, [["a text", "another"]])


@each_format
def test_an_empty_batch_never_reaches_the_runtime(name: str, tmp_path: Path) -> None:
    """ONNX Runtime ends the process over one in a recurrent layer."""
    task, model = Texts(), MaskedMean()
    example = task.collate(texts()[:2])[0]
    path = tmp_path / FORMATS[name].file_name
    FORMATS[name].export(task, model, example, path, metadata_of(model, [texts()], example))
    exported = load_export(FORMATS[name], path)
    with pytest.raises(InputError, match=r"found shape \(0, 5\): it is empty"):
        exported({key: leaf[:0] for key, leaf in example.items()})
