"""Exports that look right and are not: the gate's checks find each, and say what it is."""

import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import inside, judge_check, phase_folder
from torch import nn
from torch.nn import functional

from pytest_mltrainer.core.config import load_config
from pytest_mltrainer.core.digests import sha256_file
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.core.verdict import CheckResult
from pytest_mltrainer.export.format import Exporter, ExportError, exporters
from pytest_mltrainer.export.graph import LeavesModule
from pytest_mltrainer.export.served import expected_metadata
from pytest_mltrainer.export.signature import METADATA, Metadata, named_leaves
from pytest_mltrainer.training.run import TrainingRun
from pytest_mltrainer.training.task import Task

Copied = Callable[..., Path]
FORMATS = ("onnx", "torch_export", "torchscript")
each_format = pytest.mark.parametrize("name", FORMATS)


class CarelessTrace:
    """An exporter of a plugin that neither looks at the mode nor at what it traces."""

    file_name = "model.torchscript.pt"
    loader = "pytest_mltrainer.export.torch_model:TorchScriptModel"

    def __init__(self, mode: bool = False) -> None:
        self._mode = mode

    def export(
        self, task: Task, model: nn.Module, inputs: Any, path: Path, metadata: Metadata
    ) -> tuple[str, ...]:
        module = LeavesModule(task, model, inputs).train(self._mode)
        leaves = tuple(named_leaves(inputs).values())
        traced = torch.jit.trace(module, leaves, check_trace=False)
        torch.jit.save(traced, path, _extra_files={METADATA: metadata.text()})
        return (path.name,)


class LikeTheRun(nn.Module):
    """The model of the run behind another layer."""

    def __init__(self, model: nn.Module, before: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.before = before

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.model(self.before(inputs))
        return outputs


class Drops(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return functional.dropout(inputs, 0.5, training=self.training)


class DividesByItsLength(nn.Module):
    """Leaves its inputs as they are: in a trace, only in batches of the traced size."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs * len(inputs) / inputs.new_ones(inputs.shape[0]).sum()


class DoublesWhatIsPositive(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if inputs.sum() > 0:
            return inputs * 2
        return inputs


@pytest.fixture
def project(copied: Copied) -> Path:
    """A finalized project."""
    return copied("healthy", "finalization")


def run_of(project: Path) -> TrainingRun:
    loaded = Project.load(project)
    return TrainingRun(loaded, load_config(loaded.config_path), "finalization")


def export_again(
    project: Path,
    *,
    formats: tuple[str, ...],
    exporter: Exporter | None = None,
    change: Callable[[nn.Module], nn.Module] = lambda model: model,
) -> None:
    """Ask for these formats, and write them: of a changed model, or by another exporter.

    The weights beside them and the manifest are those of the run.
    """
    config = project / "training_config.yaml"
    config.write_text(
        re.sub(r"formats: .*", f"formats: [{', '.join(formats)}]", config.read_text())
    )
    with inside(project), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = run_of(project)
        model = run.model(run.checkpoint("best"))
        inputs = run.task.example_input(run.splits)
        folder = run.folder.path / "final_model"
        metadata = expected_metadata(run)
        names = ["weights.safetensors"]
        for name in formats:
            export = exporter or exporters({})[name]
            path = folder / export.file_name
            names += export.export(run.task, change(model), inputs, path, metadata)
        stored = {"files": {name: sha256_file(folder / name) for name in names}}
        (folder / "model.json").write_text(json.dumps({**metadata.to_json(), **stored}))


def parity(project: Path) -> CheckResult:
    return judge_check("finalization/export_parity", project)


def assert_fails(result: CheckResult, says: str) -> None:
    assert result.outcome == "fail", result.reason
    assert re.search(says, result.reason), result.reason


@pytest.mark.slow
def test_three_formats_pass_and_are_measured_beside_pytorch(project: Path) -> None:
    export_again(project, formats=FORMATS)
    for check in ("exported", "export_parity", "inference_tested"):
        result = judge_check(f"finalization/{check}", project)
        assert result.outcome == "pass", result.reason
    notes = "\n".join(result.notes)
    for name in FORMATS:
        for size in (1, 2, 16):
            assert re.search(rf"{name}, batch {size}: p50 .* samples/s; PyTorch p50", notes)
    assert re.search(r"twice the slowest p95 would be limits\.latency_p95_ms: [\d.]+", notes)


def test_exported_in_training_mode_with_dropout(project: Path) -> None:
    export_again(
        project,
        formats=("torchscript",),
        exporter=CarelessTrace(mode=True),
        change=lambda model: LikeTheRun(model, Drops()),
    )
    says = r"torchscript: .*the file answers the same inputs twice differently: exported in train"
    assert_fails(parity(project), says)


def test_exported_in_training_mode_with_batch_normalisation(project: Path) -> None:
    export_again(
        project,
        formats=("torchscript",),
        exporter=CarelessTrace(mode=True),
        change=lambda model: LikeTheRun(model, nn.BatchNorm1d(30)),
    )
    assert_fails(parity(project), r"torchscript: .*depends on the others of its batch")


@pytest.mark.parametrize("name", ["torch_export", "torchscript"])
def test_a_dropout_that_forgot_the_mode(name: str, project: Path) -> None:
    forgot = "        return functional.dropout(model(inputs), 0.5)\n"
    add_predict(project, forgot)
    export_again(project, formats=(name,))
    assert_fails(parity(project), r"the model answers the same inputs twice differently: dropout")


def add_predict(project: Path, body: str) -> None:
    task = project / "task.py"
    head = "    def predict(self, model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:\n"
    text = task.read_text().replace("    def data(", f"{head}{body}\n    def data(", 1)
    task.write_text(text.replace("from torch import nn\n", f"from torch import nn\n{IMPORT}", 1))


IMPORT = "from torch.nn import functional\n"


def test_a_length_that_became_a_constant(project: Path) -> None:
    export_again(
        project,
        formats=("torchscript",),
        exporter=CarelessTrace(),
        change=lambda model: LikeTheRun(model, DividesByItsLength()),
    )
    says = r"agree in batches of 2 only: the size of the batch became a constant"
    assert_fails(parity(project), says)


@each_format
def test_an_attribute_that_changed_after_the_export(name: str, project: Path) -> None:
    add_predict(project, "        return model(inputs) * getattr(self, 'scale', 1.0)\n")
    export_again(project, formats=(name,))
    assert parity(project).outcome == "pass"
    task = project / "task.py"
    task.write_text(task.read_text().replace('    kind = "', '    scale = 1.5\n    kind = "', 1))
    assert_fails(parity(project), rf"{name}: .*other weights, or an attribute that changed since")


@each_format
def test_a_branch_on_data_is_refused_before_anything_is_written(name: str, project: Path) -> None:
    with pytest.raises(ExportError, match=r"test_traps\.py:\d+ \(if inputs\.sum\(\) > 0:\)"):
        export_again(
            project,
            formats=(name,),
            change=lambda model: LikeTheRun(model, DoublesWhatIsPositive()),
        )


def test_a_branch_on_data_that_a_careless_trace_followed(project: Path) -> None:
    """Real samples may all take one side; generated ones take the other, and are kept."""
    export_again(
        project,
        formats=("torchscript",),
        exporter=CarelessTrace(),
        change=lambda model: LikeTheRun(model, DoublesWhatIsPositive()),
    )
    assert_fails(parity(project), r"torchscript: (decisions|largest difference|generated)")


def clamps(model: nn.Module) -> nn.Module:
    return LikeTheRun(model, Clamps())


class Clamps(nn.Module):
    """Changes no sample of the test set."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.clamp(-20, 20)


def test_a_failing_input_is_small_is_kept_and_can_be_replayed(project: Path) -> None:
    export_again(project, formats=("onnx",), change=clamps)
    says = r"onnx: .*inputs noise \(batch 1, seed \d+, scale 10\).*again: python\S* -m"
    assert_fails(parity(project), says)
    kept = phase_folder(project, "finalization") / "parity/failing_onnx.json"
    stored = json.loads(kept.read_text())
    assert (stored["recipe"]["kind"], stored["recipe"]["batch"]) == ("noise", 1)
    assert stored["inputs"]["inputs"]["shape"] == [1, 30]
    assert max(map(abs, stored["inputs"]["inputs"]["values"][0])) > 20
    manifest = run_of(project).manifest
    assert "parity/failing_onnx.json" not in run_of(project).folder.damaged(manifest)
    done = subprocess.run(
        [sys.executable, *stored["replay"].split()[1:]],
        cwd=project, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "they disagree: largest difference" in done.stdout
    export_again(project, formats=("onnx",))
    assert parity(project).outcome == "pass"
    assert not kept.exists()


class OfAnotherCheckpoint:
    """An exporter that names another checkpoint than the one it was given."""

    file_name = "model.torchscript.pt"
    loader = CarelessTrace.loader

    def export(
        self, task: Task, model: nn.Module, inputs: Any, path: Path, metadata: Metadata
    ) -> tuple[str, ...]:
        wrong = replace(metadata, checkpoint="0" * 64)
        return CarelessTrace().export(task, model, inputs, path, wrong)


def test_metadata_of_another_model(project: Path) -> None:
    export_again(project, formats=("torchscript",), exporter=OfAnotherCheckpoint())
    says = r"torchscript: checkpoint in the metadata of the file: 0000"
    assert_fails(judge_check("finalization/exported", project), says)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["regression", "multilabel"])
def test_regression_and_multilabel_are_judged_by_what_they_decide(
    kind: str, copied: Copied
) -> None:
    project = copied("healthy_regression", "finalization")
    if kind == "multilabel":
        task = project / "task.py"
        task.write_text(task.read_text().replace('kind = "regression"', 'kind = "multilabel"'))
    result = parity(project)
    judged = [entry["what"] for entry in result.judgements]
    assert result.outcome == "pass", result.reason
    assert any("decisions of" in what for what in judged) == (kind == "multilabel")
    assert any("largest difference of outputs" in what for what in judged)
