"""The gate and files with coarser numbers: sound ones pass, each fault fails for its own reason."""

import json
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from support import inside, judge_check, phase_folder, run_pytest
from torch import nn

from pytest_mltrainer.core.config import load_config
from pytest_mltrainer.core.digests import sha256_file
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.core.verdict import CheckResult
from pytest_mltrainer.export.format import exporters, with_samples
from pytest_mltrainer.export.onnx_model import OnnxModel
from pytest_mltrainer.export.served import expected_metadata
from pytest_mltrainer.export.signature import METADATA
from pytest_mltrainer.release.final_model import write_final_model
from pytest_mltrainer.release.golden import golden_requests
from pytest_mltrainer.release.serve import Predictor
from pytest_mltrainer.training.run import TrainingRun

Copied = Callable[..., Path]
Change = Callable[[nn.Module], nn.Module]
EVERY = ("onnx", "onnx_int8", "onnx_fp16")


def run_of(project: Path) -> TrainingRun:
    loaded = Project.load(project)
    return TrainingRun(loaded, load_config(loaded.config_path), "finalization")


def folder_of(project: Path) -> Path:
    return phase_folder(project, "finalization") / "final_model"


def export_as(project: Path, formats: tuple[str, ...], change: Change | None = None) -> None:
    """The final model anew in these formats; the last of them of a changed model, if asked."""
    config = project / "training_config.yaml"
    asked = f"formats: [{', '.join(formats)}]"
    config.write_text(re.sub(r"formats: .*", asked, config.read_text()))
    with inside(project), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run, folder = run_of(project), folder_of(project)
        task, splits = run.task, run.splits
        model, inputs = run.model(run.checkpoint("best")), run.task.example_input(run.splits)
        write_final_model(
            folder,
            task=task,
            model=model,
            inputs=inputs,
            datasets=(splits.train, splits.validation),
            formats=formats,
            known=exporters({}),
            metric=run.metric,
            checkpoint=sha256_file(run.folder.artifact("checkpoints/best.pt")),
        )
        if change is not None:
            exporter = with_samples(exporters({})[formats[-1]], task, splits.train)
            path = folder / exporter.file_name
            exporter.export(task, change(model), inputs, path, expected_metadata(run))
            name_the_bytes(path)


def name_the_bytes(path: Path) -> None:
    """Let the manifest name the file as it is now."""
    manifest = json.loads((path.parent / "model.json").read_text())
    manifest["files"][path.name] = sha256_file(path)
    (path.parent / "model.json").write_text(json.dumps(manifest))


def louder(times: float) -> Change:
    """The same function, with one hidden channel that is much larger than the others.

    What its rows are multiplied by, the columns behind it are divided by: a rectifier lets it
    through.
    """

    def change(model: nn.Module) -> nn.Module:
        first, last = (layer for layer in model.modules() if isinstance(layer, nn.Linear))
        with torch.no_grad():
            channel = int(last.weight.abs().amax(0).argmax())
            first.weight[channel] *= times
            first.bias[channel] *= times
            last.weight[:, channel] /= times
        return model

    return change


class Clamps(nn.Module):
    """Changes no sample of the test set."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.clamp(-20, 20)


def judged(check: str, project: Path) -> CheckResult:
    return judge_check(f"finalization/{check}", project)


def assert_fails(result: CheckResult, says: str) -> None:
    assert result.outcome == "fail", result.reason
    assert re.search(says, result.reason), result.reason


def found(result: CheckResult, what: str) -> str:
    """What was measured by the judgement that says `what`."""
    return next(entry["measured"] for entry in result.judgements if what in entry["what"])


@pytest.fixture
def project(copied: Copied) -> Path:
    return copied("healthy", "finalization")


@pytest.mark.slow
def test_every_format_of_onnx_passes_beside_the_others(project: Path) -> None:
    export_as(project, EVERY)
    results = {name: judged(name, project) for name in ("exported", "export_parity")}
    assert {name: result.outcome for name, result in results.items()} == dict.fromkeys(
        results, "pass"
    )
    stored = results["exported"]
    assert found(stored, "onnx_int8: quantised in the metadata") == "int8"
    assert "'split': 'train'" in found(stored, "onnx_int8: calibration in the metadata")
    assert float(found(stored, "onnx_fp16: share of its bytes of weights in float16")) > 0.9
    parity = results["export_parity"]
    assert found(parity, "onnx_int8: decisions of 130 flipped") == "0"
    assert "n = 130, 95 % interval" in found(parity, "onnx_int8: share of the accuracy that is")
    assert float(found(parity, "onnx_int8: largest difference of outputs")) > 0
    assert re.search(r" of \w+\)$", found(parity, "onnx_fp16: largest number inside the model"))
    tested = judged("inference_tested", project)
    assert tested.outcome == "pass", tested.reason
    notes = "\n".join(tested.notes)
    assert re.search(r"onnx_int8 beside onnx: [\d.]+ x the size; p50 [\d.]+ x for a batch", notes)
    assert "onnx_fp16, batch 16: p50" in notes


def test_int8_that_lost_the_model_says_what_to_do(project: Path) -> None:
    export_as(project, ("onnx", "onnx_int8"), louder(1e4))
    assert judged("exported", project).outcome == "pass"
    says = r"onnx_int8: decisions of 130 flipped .*keep the format onnx or take onnx_fp16; what is"
    assert_fails(judged("export_parity", project), says)


def test_float16_that_overflows_is_named_by_its_operator(project: Path) -> None:
    export_as(project, ("onnx", "onnx_fp16"), louder(6e4))
    says = r"onnx_fp16: .*(of Gemm\)|finite).*beyond 65504, the largest number of float16: scale"
    assert_fails(judged("export_parity", project), says)


@pytest.mark.parametrize(
    ("times", "says"),
    [
        (1.0, ""),
        pytest.param(
            1e4,
            r"onnx_int8: (share of the r2 that is lost|differences beside the model's own errors, "
            r"as root mean squares).*; keep the format onnx or take onnx_fp16",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_regression_in_int8(times: float, says: str, copied: Copied) -> None:
    project = copied("healthy_regression", "finalization")
    export_as(project, ("onnx_int8",), louder(times))
    result = judged("export_parity", project)
    if says:
        assert_fails(result, says)
    else:
        assert result.outcome == "pass", result.reason
        assert float(found(result, "as root mean squares")) < 0.1418


@pytest.mark.slow
def test_an_edited_file_and_a_float32_one_that_is_called_int8(project: Path) -> None:
    export_as(project, ("onnx_int8", "onnx"))
    exact, path = folder_of(project) / "model.onnx", folder_of(project) / "model.int8.onnx"
    whole, described = path.read_bytes(), OnnxModel(path).metadata.text()
    path.write_bytes(whole.replace(b'"samples": 256', b'"samples": 255'))
    assert path.read_bytes() != whole
    says = r"files of final_model that model\.json misnames: \['model\.int8\.onnx'\]"
    assert_fails(judged("exported", project), says)
    name_the_bytes(path)
    says = r"onnx_int8: calibration in the metadata of the file: .*255.*wanted .*256"
    assert_fails(judged("exported", project), says)
    model = onnx.load(str(exact))
    del model.metadata_props[:]
    model.metadata_props.add(key=METADATA, value=described)
    onnx.save(model, str(path))
    name_the_bytes(path)
    says = r"onnx_int8: share of its bytes of weights in int8: 0.*wanted above 0"
    assert_fails(judged("exported", project), says)


@pytest.mark.slow
def test_a_failing_input_is_replayed_by_the_tolerance_of_the_format(project: Path) -> None:
    export_as(project, ("onnx_fp16",), lambda model: nn.Sequential(Clamps(), model).eval())
    says = r"onnx_fp16: generated .*inputs noise \(batch 1, seed \d+, scale 10\).*again: python"
    assert_fails(judged("export_parity", project), says)
    kept = phase_folder(project, "finalization") / "parity/failing_onnx_fp16.json"
    again = json.loads(kept.read_text())["replay"].split()[1:]
    done = subprocess.run(
        [sys.executable, *again],
        cwd=project, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    difference, tolerated = re.findall(r"(?:difference|tolerated) ([\d.e+-]+)", done.stdout)
    assert "they disagree" in done.stdout
    assert float(difference.rstrip(",")) > float(tolerated) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("served", ["onnx_int8", "onnx_fp16"])
def test_golden_requests_are_those_of_the_served_format(served: str, project: Path) -> None:
    export_as(project, (served, "onnx"))
    folder = folder_of(project)
    with inside(project):
        golden = golden_requests(run_of(project))
    (folder / "golden_requests.json").write_text(json.dumps(golden))
    predictor = Predictor(folder)
    assert predictor.file == f"model.{served.removeprefix('onnx_')}.onnx"
    said: dict[str, Any] = predictor.golden()
    assert said["ok"], said
    assert said["tolerance"] > 1e-3
    assert (said["largest_difference"] == 0) == (served == "onnx_int8")
    wrong = [{**one, "outputs": [[9.0, -9.0]]} for one in golden["requests"]]
    (folder / "golden_requests.json").write_text(json.dumps({**golden, "requests": wrong}))
    assert not Predictor(folder).golden()["ok"]


@pytest.mark.slow
def test_a_whole_pipeline_that_serves_int8(copied: Copied) -> None:
    """Two to three minutes: finalization with its clean room, after a baseline."""
    project = copied("healthy")
    config = project / "training_config.yaml"
    text = config.read_text().replace("formats: [onnx]", "formats: [onnx_int8, onnx, onnx_fp16]")
    config.write_text(text)
    done = run_pytest(project, "--phase=finalization", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout
    assert re.search(r"finalization PASS +20 passed", done.stdout), done.stdout
    manifest = json.loads((folder_of(project) / "model.json").read_text())
    assert manifest["served"] == "model.int8.onnx"
    result = judged("clean_room_serve", project)
    assert "largest difference to the tested file" in str(replace(result, reason="").judgements)
