"""ONNX in float16 and int8: what it keeps of real models, what it refuses, what it never hides."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from quantised import TASK, Trained, export, load, noise, trained
from torch import nn

from pytest_mltrainer.export import calibration as calibrations
from pytest_mltrainer.export.calibration import calibration_of
from pytest_mltrainer.export.format import Exported, ExportError, exporters, precision_of
from pytest_mltrainer.export.generated import smallest_failing
from pytest_mltrainer.export.onnx_graph import stored_bytes
from pytest_mltrainer.export.onnx_int8 import OnnxInt8Exporter
from pytest_mltrainer.export.parity import compare
from pytest_mltrainer.export.precision import FLOAT16, INT8
from pytest_mltrainer.export.ranges import largest_inside
from pytest_mltrainer.export.rounding import largest_noise
from pytest_mltrainer.export.signature import ONLY, OUTPUTS, Metadata, specs

FORMATS = ("onnx_fp16", "onnx_int8")
each_format = pytest.mark.parametrize("name", FORMATS)
slow = pytest.mark.slow
Made = Callable[[str, str], tuple[Trained, Exported, Path]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """`made(model, format)`: a trained model with its file, each exported once."""
    folders: dict[str, Path] = {}

    def make(model: str, name: str) -> tuple[Trained, Exported, Path]:
        folder = folders.setdefault(model, tmp_path_factory.mktemp(model))
        path = folder / exporters({})[name].file_name
        if not path.exists():
            export(name, trained(model), folder)
        return trained(model), load(name, path), path

    return make


@pytest.mark.parametrize(
    ("model", "share"),
    [
        ("cnn", 0.9),
        pytest.param("mlp", 0.75, marks=slow),
        pytest.param("attention", 0.7, marks=slow),
        pytest.param("lstm", 0.01, marks=slow),
    ],
)
@each_format
def test_a_classifier_keeps_its_decisions(name: str, model: str, share: float, made: Made) -> None:
    case, exported, path = made(model, name)
    found = case.parity(name, exported)
    assert not found.differs, found
    assert found.flips <= max(1, 0.005 * found.decisions), found
    assert found.agreement > 0.985
    accuracy = [np.mean(p(case.inputs).argmax(-1) == case.targets.numpy())
                for p in (case.eager, exported)]  # fmt: skip
    assert accuracy[0] > 0.75
    assert accuracy[1] > 0.985 * accuracy[0]
    precision = precision_of(exporters({})[name])
    assert precision is not None
    stored = stored_bytes(path)
    assert stored[precision.name.upper()] / sum(stored.values()) > share
    for size in (1, 5, 17):
        assert exported(case.inputs[:size]).shape == (size, 10)
    assert smallest_failing(case.eager, exported, case.inputs[:64], precision=precision) is None


@slow
@each_format
def test_a_regression_adds_less_noise_than_its_errors_allow(name: str, made: Made) -> None:
    case, exported, _ = made("regression", name)
    assert not case.parity(name, exported).differs
    assert 0 < noise(case, exported) < largest_noise(0.01)


def test_they_are_smaller_and_say_what_they_are(made: Made) -> None:
    case, exact, path = made("cnn", "onnx")
    sizes = {name: made("cnn", name)[2].stat().st_size / path.stat().st_size for name in FORMATS}
    assert sizes["onnx_fp16"] < 0.6
    assert sizes["onnx_int8"] < 0.45
    stored = {name: made("cnn", name)[1].metadata.to_json() for name in FORMATS}
    assert stored["onnx_fp16"] == {**exact.metadata.to_json(), "quantised": "float16"}
    assert stored["onnx_int8"] == {
        **exact.metadata.to_json(),
        "quantised": "int8",
        "calibration": calibration_of(TASK, case.training).to_json(),
    }
    assert stored["onnx_int8"]["calibration"]["samples"] == 256
    assert not {"quantised", "calibration"} & exact.metadata.to_json().keys()
    assert [p.name for p in sorted(path.parent.iterdir())] == [
        "model.fp16.onnx", "model.int8.onnx", "model.onnx"
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["onnx", *FORMATS])
def test_no_path_of_this_machine_is_in_a_file(name: str, made: Made) -> None:
    content = made("cnn", name)[2].read_bytes()
    assert str(Path(__file__).parent).encode() not in content
    assert b"stack_trace" not in content


@each_format
def test_an_answer_does_not_depend_on_the_others_of_its_batch(name: str, made: Made) -> None:
    """With dynamic quantisation it would: the range is then that of the batch."""
    case, exported, _ = made("cnn", name)
    rows = case.inputs[:8]
    alone = np.concatenate([exported(rows[[row]]) for row in range(8)])
    scale = np.abs(alone).max()
    np.testing.assert_allclose(exported(rows), alone, atol=1e-5 * scale)
    np.testing.assert_allclose(exported(torch.cat([rows, 50 * rows]))[:8], alone, atol=1e-5 * scale)


@each_format
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_number_never_becomes_an_answer(name: str, bad: float, made: Made) -> None:
    case, exported, _ = made("cnn", name)
    rows = case.inputs[:3].clone()
    rows[1, 0, 0] = bad
    found = exported(rows)
    assert np.isfinite(found).all(-1).tolist() == [True, False, True]
    np.testing.assert_array_equal(found[[0, 2]], exported(case.inputs[:3])[[0, 2]])


def linear(width: int, weight: float) -> nn.Module:
    model = nn.Linear(width, 1, bias=False)
    nn.init.constant_(model.weight, weight)
    return model.eval()


def of_inputs(model: nn.Module, inputs: torch.Tensor) -> Trained:
    """A model with some inputs for everything."""
    return Trained(
        model=model.eval(),
        training=[(row, 0) for row in inputs],
        inputs=inputs,
        targets=inputs[:, :1],
        decides="nothing",
    )


@slow
def test_outputs_may_be_larger_than_those_of_the_calibration(tmp_path: Path) -> None:
    """Each training sample has one input of 1; eight of them together give eight."""
    path = export("onnx_int8", of_inputs(linear(8, 1.0), torch.eye(8)), tmp_path)
    np.testing.assert_allclose(load("onnx_int8", path)(torch.ones(3, 8)), 8.0, rtol=0.01)


@slow
def test_the_same_training_data_give_the_same_file(tmp_path: Path) -> None:
    """And the converters leave no folder of theirs on the path of modules."""
    files, before = [], list(sys.path)
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        case = of_inputs(linear(4, 0.5), torch.linspace(-1, 1, 40).reshape(10, 4))
        files.append(export("onnx_int8", case, tmp_path / str(number)).read_bytes())
    assert files[0] == files[1]
    assert sys.path == before


class Noisy:
    """Samples that are drawn whenever they are read."""

    def __len__(self) -> int:
        return 300

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return torch.randn(4) + row, 0


def test_samples_are_drawn_from_a_seed_of_their_own() -> None:
    torch.manual_seed(3)
    wanted = torch.randn(2)
    torch.manual_seed(3)
    first, again = (calibration_of(TASK, Noisy()).to_json() for _ in range(2))
    assert first == again
    assert first["samples"] == 256
    torch.testing.assert_close(torch.randn(2), wanted)


def test_large_samples_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibrations, "LIMIT_BYTES", 100)
    assert len(calibration_of(TASK, Noisy()).inputs) == 6
    monkeypatch.setattr(calibrations, "LIMIT_BYTES", 1)
    assert len(calibration_of(TASK, Noisy()).inputs) == 1


def test_weights_beyond_float16_are_refused_by_name(tmp_path: Path) -> None:
    case = of_inputs(nn.Sequential(nn.Tanh(), linear(4, 1e5)).eval(), torch.ones(3, 4))
    says = r"to float16: its tensor '1\.weight' reaches 1e\+05, beyond 65504, .* or keep the format"
    with pytest.raises(ExportError, match=says):
        export("onnx_fp16", case, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("where", ["inside", pytest.param("inputs", marks=slow)])
def test_values_beyond_float16_are_named(where: str, tmp_path: Path) -> None:
    if where == "inside":
        # Infinity has a hyperbolic tangent, so that the outputs tell nothing.
        case = of_inputs(nn.Sequential(linear(4, 5e4), nn.Tanh()), torch.ones(3, 4))
    else:
        case = of_inputs(linear(4, 1e-5), torch.full((3, 4), 1e5))
    path = export("onnx_fp16", case, tmp_path)
    found = largest_inside(path, load("onnx_fp16", path).metadata, [case.inputs])
    assert found is not None
    assert found.operator == ("Gemm" if where == "inside" else "Cast")
    assert found.value > 65504
    sound = of_inputs(case.model, case.inputs / 4e5)
    within = largest_inside(path, load("onnx_fp16", path).metadata, [sound.inputs])
    assert within is not None
    assert within.value <= 65504


class Masked(nn.Module):
    """Attention that never looks at the first of its rows."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        scores = inputs @ inputs.transpose(1, 2)
        hidden = torch.arange(inputs.shape[1]) == 0
        return (scores.masked_fill(hidden, float("-inf")).softmax(-1) @ inputs).flatten(1)


def test_a_mask_is_no_overflow(tmp_path: Path) -> None:
    case = of_inputs(Masked(), torch.rand(3, 4, 2))
    path = export("onnx_fp16", case, tmp_path)
    exported = load("onnx_fp16", path)
    assert not case.parity("onnx_fp16", exported).differs
    found = largest_inside(path, exported.metadata, [case.inputs])
    assert found is not None
    assert 0 < found.value < 10


def test_what_has_no_weights_is_not_called_int8(tmp_path: Path) -> None:
    case = of_inputs(nn.Tanh(), torch.ones(3, 4))
    with pytest.raises(ExportError, match=r"to int8: no operator of it has weights that could"):
        export("onnx_int8", case, tmp_path)
    assert not list(tmp_path.iterdir())


def test_int8_asks_for_training_samples_and_for_files_of_one_part(tmp_path: Path) -> None:
    case = of_inputs(linear(4, 1.0), torch.ones(3, 4))
    with pytest.raises(ExportError, match=r"to int8: found no training sample, wanted some"):
        export("onnx_int8", replace(case, training=[]), tmp_path)
    small = OnnxInt8Exporter(calibration_of(TASK, case.training), limit_bytes=10)
    outputs = specs(torch.zeros(2, 1), OUTPUTS)
    metadata = Metadata(
        kind="regression", inputs=specs(case.inputs, ONLY), outputs=outputs,
        checkpoint="", weights="",
    )  # fmt: skip
    with pytest.raises(ExportError, match=r"its weights have 0\.00 GiB, and conversion holds them"):
        small.export(TASK, case.model, case.inputs, tmp_path / "model.int8.onnx", metadata)


@given(loss=st.floats(1e-4, 0.5), errors=st.floats(1e-3, 1e3))
def test_the_largest_noise_raises_the_error_by_the_share(loss: float, errors: float) -> None:
    noisy = np.hypot(errors, errors * largest_noise(loss))
    assert noisy == pytest.approx(errors * (1 + loss))


@given(scale=st.floats(0.01, 1e4), share=st.floats(0.0, 2.0))
def test_float16_is_compared_one_by_one_and_int8_only_by_decisions(
    scale: float, share: float
) -> None:
    """An error just within the tolerance of float16 passes, one beyond it does not."""
    eager = np.array([[scale, 0.0]])
    allowed = FLOAT16.tolerance(scale)
    exported = eager + np.array([[share * allowed, 0.0]])
    differs = compare(eager, exported, precision=FLOAT16).differs
    assert differs == (share > 1) or abs(share - 1) < 1e-6
    assert not compare(eager, exported, precision=INT8).differs
    assert compare(eager, np.full((1, 2), np.inf), precision=INT8).differs
    swapped = compare(eager, eager[:, ::-1], decides="class", precision=INT8)
    assert swapped.flips == (scale > INT8.tolerance(scale))
