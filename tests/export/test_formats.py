"""Every format holds models of every kind, says what it takes, and refuses what it cannot hold."""

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from models import (
    SOUND,
    TASK,
    Airy,
    BranchesOnData,
    Case,
    LeavesTorch,
    LoopsOnData,
    TakesTheLength,
    mlp,
)
from torch import nn

from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.export.elsewhere import load_elsewhere
from pytest_mltrainer.export.format import (
    Exported,
    ExportError,
    exporters,
    load_export,
    precision_of,
)
from pytest_mltrainer.export.onnx import OnnxExporter
from pytest_mltrainer.export.onnx_model import OnnxModel
from pytest_mltrainer.export.parity import compare
from pytest_mltrainer.export.signature import (
    ONLY,
    OUTPUTS,
    InputError,
    Metadata,
    as_array,
    named_leaves,
    specs,
)
from pytest_mltrainer.export.torch_model import TorchExportModel, TorchScriptModel

FORMATS = {name: found for name, found in exporters({}).items() if not precision_of(found)}
each_format = pytest.mark.parametrize("name", sorted(FORMATS))


def metadata_of(model: nn.Module, inputs: Any) -> Metadata:
    with torch.no_grad():
        outputs = TASK.predict(model.eval(), inputs)
    return Metadata(
        kind="classification",
        inputs=specs(inputs, ONLY),
        outputs=specs(outputs, OUTPUTS),
        checkpoint="c" * 64,
        weights="w" * 64,
    )


def export(name: str, model: nn.Module, inputs: Any, folder: Path) -> Path:
    path = folder / FORMATS[name].file_name
    FORMATS[name].export(TASK, model, inputs, path, metadata_of(model, inputs))
    return path


def eager_of(model: nn.Module) -> Callable[[Any], Any]:
    def predict(inputs: Any) -> Any:
        with torch.no_grad():
            return as_array(TASK.predict(model, inputs))

    return predict


@each_format
@pytest.mark.parametrize("case", SOUND.values(), ids=SOUND)
def test_any_batch_gives_what_the_model_gives(name: str, case: Case, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = case.model().eval()
    path = export(name, model, case.inputs(2), tmp_path)
    exported = load_export(FORMATS[name], path)
    for size in (1, 2, 5, 17):
        inputs = case.inputs(size)
        parity = compare(eager_of(model)(inputs), exported(inputs))
        assert not parity.differs, (size, parity)
    assert sorted(file.name for file in tmp_path.iterdir()) == [path.name]


@each_format
def test_the_metadata_say_what_goes_in_and_comes_out_and_where_it_is_from(
    name: str, tmp_path: Path
) -> None:
    case = SOUND["dict"]
    path = export(name, case.model(), case.inputs(2), tmp_path)
    metadata = load_export(FORMATS[name], path).metadata
    assert [(spec.name, spec.dtype, spec.shape) for spec in metadata.inputs] == [
        ("numbers", "float32", (-1, 4)),
        ("tokens", "int64", (-1, 6)),
    ]
    assert [(spec.name, spec.dtype, spec.shape) for spec in metadata.outputs] == [
        ("outputs", "float32", (-1, 3))
    ]
    assert (metadata.checkpoint, metadata.weights) == ("c" * 64, "w" * 64)


@each_format
def test_a_process_without_the_users_code_serves_it(name: str, tmp_path: Path) -> None:
    case = SOUND["dict"]
    path = export(name, case.model(), case.inputs(2), tmp_path)
    found = load_elsewhere(FORMATS[name].loader, path, {n: case.inputs(n) for n in (1, 2, 5)})
    assert (found.rows, found.finite) == ({1: 1, 2: 2, 5: 5}, {1: True, 2: True, 5: True})
    assert found.peak_bytes > 2**20


@each_format
@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        (np.zeros((2, 4, 1), np.float32), r"shape \(2, 4, 1\), wanted \(batch, 4\)"),
        (np.zeros((2, 5), np.float32), r"shape \(2, 5\), wanted \(batch, 4\)"),
        (np.zeros((2, 4)), r"found float64, wanted float32"),
        ({"x": np.zeros((2, 4), np.float32)}, r"found x; wanted inputs"),
    ],
)
def test_inputs_that_it_does_not_take_are_named(
    name: str, inputs: Any, says: str, tmp_path: Path
) -> None:
    exported = load_export(FORMATS[name], export(name, mlp(), torch.zeros(2, 4), tmp_path))
    with pytest.raises(InputError, match=says):
        exported(inputs)


@each_format
def test_an_export_can_be_replaced(name: str, tmp_path: Path) -> None:
    exported: list[Exported] = []
    for _ in range(2):
        model = mlp()
        exported.append(
            load_export(FORMATS[name], export(name, model, torch.zeros(2, 4), tmp_path))
        )
    inputs = torch.randn(3, 4)
    assert not compare(eager_of(model)(inputs), exported[1](inputs)).differs
    assert compare(exported[0](inputs), exported[1](inputs)).differs


@each_format
@pytest.mark.parametrize(
    ("model", "says"),
    [
        (
            BranchesOnData,
            r"models\.py:\d+ \(if inputs\.mean\(\) > 0:\); a branch or a size depends",
        ),
        (LoopsOnData, r"models\.py:\d+ \(for _ in range\(int\(inputs\.abs.*torch\.where"),
        (TakesTheLength, r"models\.py:\d+ in forward; the size of the batch became a constant"),
        (LeavesTorch, r"models\.py:\d+ \(return torch\.from_numpy.*; NumPy cannot be part"),
    ],
)
def test_what_no_graph_holds_is_refused_with_its_line(
    name: str, model: type[nn.Module], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=says):
        export(name, model(), torch.randn(2, 4), tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_operator_that_onnx_lacks_is_named_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(ExportError) as refused:
        export("onnx", Airy(), torch.randn(2, 4), tmp_path)
    assert "operator aten.special_airy_ai" in str(refused.value)
    assert "(return torch.special.airy_ai(inputs))" in str(refused.value)
    assert len(str(refused.value)) < 300
    for other in ("torch_export", "torchscript"):
        export(other, Airy(), torch.randn(2, 4), tmp_path)


@each_format
def test_an_example_of_one_sample_is_enough(name: str, tmp_path: Path) -> None:
    model = mlp()
    exported = load_export(FORMATS[name], export(name, model, torch.randn(1, 4), tmp_path))
    inputs = torch.randn(5, 4)
    assert not compare(eager_of(model)(inputs), exported(inputs)).differs


@each_format
def test_a_model_in_training_mode_is_exported_in_evaluation_mode(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    case = SOUND["cnn"]
    model = case.model().train()
    path = tmp_path / FORMATS[name].file_name
    inputs = case.inputs(2)
    FORMATS[name].export(TASK, model.train(), inputs, path, metadata_of(model, inputs))
    exported = load_export(FORMATS[name], path)
    assert not compare(eager_of(model.eval())(inputs), exported(inputs)).differs


@each_format
def test_no_sample_of_the_user_is_in_the_file(name: str, tmp_path: Path) -> None:
    inputs = torch.full((2, 4), 0.123456789)
    path = export(name, mlp(), inputs, tmp_path)
    assert inputs[0, :2].numpy().tobytes() not in path.read_bytes()


def large(folder: Path) -> tuple[nn.Module, Path]:
    model = nn.Sequential(nn.Linear(4, 300), nn.ReLU(), nn.Linear(300, 3)).eval()
    path = folder / "model.onnx"
    inputs = torch.randn(2, 4)
    written = OnnxExporter(limit_inline_bytes=2000).export(
        TASK, model, inputs, path, metadata_of(model, inputs)
    )
    assert sorted(written) == ["model.onnx", "model.onnx.data"]
    return model, path


def test_large_weights_lie_beside_the_model(tmp_path: Path) -> None:
    model, path = large(tmp_path)
    assert path.stat().st_size < (tmp_path / "model.onnx.data").stat().st_size
    inputs = torch.randn(5, 4)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for file in (path, tmp_path / "model.onnx.data"):
        file.rename(moved / file.name)
    assert not compare(eager_of(model)(inputs), OnnxModel(moved / path.name)(inputs)).differs


def test_missing_weights_are_named(tmp_path: Path) -> None:
    _, path = large(tmp_path)
    (tmp_path / "model.onnx.data").unlink()
    with pytest.raises(StorageError, match=r"model\.onnx\.data: the weights .* are missing"):
        OnnxModel(path)


@pytest.mark.parametrize("location", ["../secret.data", "/etc/hostname", "a/../../secret.data"])
def test_external_data_outside_the_folder_are_refused(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    _, path = large(folder)
    (folder / "model.onnx.data").rename(tmp_path / "secret.data")
    proto = onnx.load(str(path), load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(StorageError, match=r"refused unread"):
        OnnxModel(path)


def test_external_data_that_are_a_link_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    _, path = large(folder)
    data = folder / "model.onnx.data"
    data.rename(tmp_path / "secret.data")
    data.symlink_to(tmp_path / "secret.data")
    with pytest.raises(StorageError, match=r"refused unread"):
        OnnxModel(path)


@each_format
@pytest.mark.parametrize("kept_bytes", [0, 10, 700, 1500])
def test_a_torn_file_is_refused_in_one_line(name: str, kept_bytes: int, tmp_path: Path) -> None:
    path = export(name, mlp(), torch.zeros(2, 4), tmp_path)
    path.write_bytes(path.read_bytes()[:kept_bytes])
    with pytest.raises(StorageError) as refused:
        load_export(FORMATS[name], path)
    assert "\n" not in str(refused.value)
    assert path.name in str(refused.value)


def rewritten(path: Path, change: Callable[[str, bytes], bytes]) -> None:
    with zipfile.ZipFile(path) as archive:
        parts = [(entry, archive.read(entry)) for entry in archive.infolist()]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for entry, content in parts:
            archive.writestr(entry.filename, change(entry.filename, content))


def test_a_pt2_file_with_pickled_weights_is_refused_unread(tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "it-ran"),)

    path = export("torch_export", mlp(), torch.zeros(2, 4), tmp_path)

    def change(name: str, content: bytes) -> bytes:
        if name.endswith("weights_config.json"):
            config = json.loads(content)
            for entry in config["config"].values():
                entry["use_pickle"] = True
            return json.dumps(config).encode()
        if name.endswith(("weight_0", "weight_1", "weight_2", "weight_3")):
            target = tmp_path / "payload"
            torch.save(Touch(), target)
            return target.read_bytes()
        return content

    rewritten(path, change)
    with pytest.raises(StorageError, match="would run code when loaded"):
        TorchExportModel(path)
    assert not (tmp_path / "it-ran").exists()


def test_a_pt2_file_with_malicious_sample_inputs_is_refused_unread(tmp_path: Path) -> None:
    class Touch:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "it-ran"),)

    path = export("torch_export", mlp(), torch.zeros(2, 4), tmp_path)
    target = tmp_path / "payload"
    torch.save(Touch(), target)
    rewritten(path, lambda name, old: target.read_bytes() if name.endswith(".pt") else old)
    with pytest.raises(StorageError, match="not loadable by torch"):
        TorchExportModel(path)
    assert not (tmp_path / "it-ran").exists()


def test_a_file_without_our_metadata_is_not_served(tmp_path: Path) -> None:
    path = tmp_path / "other.pt"
    torch.jit.save(torch.jit.trace(mlp().eval(), torch.zeros(2, 4)), path)
    with pytest.raises(StorageError, match="no metadata of pytest-mltrainer"):
        TorchScriptModel(path)


def test_names_of_nested_inputs() -> None:
    inputs = {"text": {"ids": np.zeros(1), "mask": np.zeros(1)}, "pair": (np.zeros(1), np.zeros(1))}
    assert list(named_leaves(inputs)) == ["text.ids", "text.mask", "pair.0", "pair.1"]
    assert list(named_leaves((np.zeros(1), [np.zeros(1)]))) == ["inputs.0", "inputs.1.0"]
