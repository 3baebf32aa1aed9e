"""Every check of the finalization gate: a run that passes it, and a fault that it finds."""

import re
import shutil
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from planted import (
    Copied,
    Fault,
    artifact_edited,
    as_parameters,
    assert_found,
    checkpoint_edited,
    edit,
    edit_config,
    edit_task,
    evaluate_again,
    flip_bit,
    without_failing_case,
)
from safetensors.torch import save_file
from support import inside, judge_check, judge_gate, phase_folder, reseal
from torch import nn

from pytest_mltrainer.core.catalogue import catalogue
from pytest_mltrainer.core.config import load_config
from pytest_mltrainer.core.digests import sha256_file
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.core.verdict import SIGNED_CHECKS
from pytest_mltrainer.evaluation.predictions import Predictions
from pytest_mltrainer.export.onnx_model import OnnxModel
from pytest_mltrainer.export.signature import METADATA
from pytest_mltrainer.training.checkpoints import Checkpoint
from pytest_mltrainer.training.observation.telemetry import STEP, STEPS_FILE
from pytest_mltrainer.training.run import TrainingRun


def folder(project: Path) -> Path:
    return phase_folder(project, "finalization")


def export_instead(
    project: Path,
    change: Callable[[nn.Sequential], nn.Module],
    *,
    checkpoint: str = "best",
    fixed_batch: bool = False,
) -> None:
    """Put the ONNX file of another model in the place of the final model's."""
    with inside(project), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = Project.load(project)
        run = TrainingRun(loaded, load_config(loaded.config_path), "finalization")
        model = run.model(run.checkpoint(checkpoint))
        assert isinstance(model, nn.Sequential)
        shapes = None if fixed_batch else {"inputs": {0: torch.export.Dim.DYNAMIC}}
        program = torch.onnx.export(
            Named(change(model)),
            (run.task.example_input(run.splits),),
            dynamo=True,
            dynamic_shapes=shapes,
            verbose=False,
        )
        assert program is not None
        path = folder(project) / "final_model/model.onnx"
        program.model.metadata_props[METADATA] = OnnxModel(path).metadata.text()
        program.save(str(path))
    name_the_bytes(project)


def name_the_bytes(project: Path) -> None:
    """Make the digests in the manifest of the final model right again."""
    with artifact_edited(project, "finalization/final_model/model.json") as manifest:
        manifest["files"] = {
            name: sha256_file(folder(project) / "final_model" / name) for name in manifest["files"]
        }


class Named(nn.Module):
    """A model whose argument has the name that the dynamic shapes use."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.model(inputs)
        return outputs


class Clamped(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.clamp(-20, 20)


class BatchStatistics(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return (inputs - inputs.mean(0)) / (inputs.std(0, unbiased=False) + 1e-5)


class WithoutNan(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.nan_to_num(inputs)


def export_with_a_fixed_batch(project: Path) -> None:
    export_instead(project, lambda model: model, fixed_batch=True)


def export_with_an_infinite_bias(project: Path) -> None:
    def change(model: nn.Sequential) -> nn.Module:
        with torch.no_grad():
            model.get_parameter("2.bias")[0] = float("inf")
        return model

    export_instead(project, change)


def export_damaged(project: Path) -> None:
    path = folder(project) / "final_model/model.onnx"
    path.write_bytes(path.read_bytes()[:500])
    name_the_bytes(project)


def weights_of_another_epoch(project: Path) -> None:
    with inside(project):
        checkpoint = Checkpoint.load(folder(project) / "checkpoints/epoch_0005.pt")
    save_file(checkpoint.model, folder(project) / "final_model/weights.safetensors")
    name_the_bytes(project)


def weights_changed_behind_the_manifest(project: Path) -> None:
    path = folder(project) / "final_model/weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def export_refused(project: Path) -> None:
    (folder(project) / "final_model/model.onnx").unlink()
    (folder(project) / "export_error.json").write_text('{"error": "a branch on data"}')


def export_of_another_epoch(project: Path) -> None:
    export_instead(project, lambda model: model, checkpoint="last")


def export_with_statistics_of_the_batch(project: Path) -> None:
    """What batch normalisation computes that was left in training mode."""
    export_instead(project, lambda model: nn.Sequential(BatchStatistics(), *model).eval())


def export_that_clamps_its_inputs(project: Path) -> None:
    export_instead(project, lambda model: nn.Sequential(Clamped(), *model).eval())


def export_that_hides_nan(project: Path) -> None:
    export_instead(project, lambda model: nn.Sequential(WithoutNan(), *model).eval())


def latency_budget_of_a_nanosecond(project: Path) -> None:
    edit_config(project, "export:", "limits:\n  latency_p95_ms: 0.000001\nexport:")


def predictions_swapped(project: Path) -> None:
    path = folder(project) / "predictions/test.npz"
    stored = Predictions.load(path)
    rows = np.arange(len(stored))
    rows[[3, 4]] = rows[[4, 3]]
    Predictions(outputs=stored.outputs[rows], targets=stored.targets).save(path)


def other_test_split(project: Path) -> None:
    with artifact_edited(project, "planning/splits.json") as splits:
        splits["splits"]["test"]["digest"] = splits["splits"]["validation"]["digest"]


def opening_not_entered(project: Path) -> None:
    (project / ".mltrainer/ledger.jsonl").write_text("")


def target_out_of_reach(project: Path) -> None:
    edit_config(project, "target: 0.9", "target: 0.99")
    evaluate_again(project)


def a_fifth_of_the_test_labels_wrong(project: Path) -> None:
    edit_task(
        project,
        "        return Splits",
        "        targets[test[::5]] = 1 - targets[test[::5]]\n        return Splits",
    )
    evaluate_again(project)


def class_0_looks_like_class_1_in_test(project: Path) -> None:
    edit_task(
        project,
        "        return Splits",
        "        benign = [row for row in test if targets[row] == 1]\n"
        "        malignant = [row for row in test if targets[row] == 0]\n"
        "        inputs[malignant] = inputs[benign[: len(malignant)]]\n"
        "        return Splits",
    )
    evaluate_again(project)


def number_edited(project: Path) -> None:
    edit(folder(project) / "test_results.md", "| 1 | 0 | 3 |", "| 1 | 0 | 2 |")


def section_renamed(project: Path) -> None:
    edit(folder(project) / "test_results.md", "## Errors", "## Remarks")


def another_picture(project: Path) -> None:
    plots = folder(project) / "plots"
    shutil.copy(plots / "learning_curves.svg", plots / "confusion.svg")


def another_picture_of_residuals(project: Path) -> None:
    plots = folder(project) / "plots"
    shutil.copy(plots / "learning_curves.svg", plots / "residuals.svg")


def last_record_cut_off(project: Path) -> None:
    path = folder(project) / STEPS_FILE
    np.fromfile(path, STEP)[:-1].tofile(path)


def another_epoch_named_best(project: Path) -> None:
    checkpoints = folder(project) / "checkpoints"
    shutil.copy(checkpoints / "epoch_0005.pt", checkpoints / "best.pt")


def bit_of_a_weight_flipped(project: Path) -> None:
    with checkpoint_edited(folder(project) / "checkpoints/best.pt") as checkpoint:
        flip_bit(checkpoint["model"]["2.weight"], 24)


def bit_of_the_optimizer_flipped(project: Path) -> None:
    with checkpoint_edited(folder(project) / "checkpoints/epoch_0005.pt") as checkpoint:
        flip_bit(checkpoint["optimizer"]["state"][0]["exp_avg"], 20)


FAULTS = [
    Fault(
        check="finalization/exported",
        plant=export_with_a_fixed_batch,
        says=r"onnx: a process elsewhere: .*invalid dimensions",
        also={"export_parity": "fail", "inference_tested": "fail"},
    ),
    Fault(
        check="finalization/exported",
        plant=export_with_an_infinite_bias,
        says=r"onnx: finite outputs, batch of 1: False",
        also={"export_parity": "fail"},
    ),
    Fault(
        check="finalization/exported",
        plant=weights_of_another_epoch,
        says=r"4 stored weights against the best checkpoint",
    ),
    Fault(
        check="finalization/exported",
        plant=weights_changed_behind_the_manifest,
        says=r"model\.json misnames: \['weights\.safetensors'\]",
    ),
    Fault(
        check="finalization/exported",
        plant=export_damaged,
        says=r"onnx: a process elsewhere: .*not loadable",
        also={"export_parity": "cannot judge", "inference_tested": "cannot judge"},
    ),
    Fault(
        check="finalization/exported",
        plant=export_refused,
        says=r"why the model could not be exported: a branch on data",
        also={"export_parity": "cannot judge", "inference_tested": "cannot judge"},
    ),
    Fault(
        check="finalization/export_parity",
        plant=export_of_another_epoch,
        says=r"onnx: largest difference of outputs on 130 test samples",
    ),
    Fault(
        check="finalization/export_parity",
        plant=export_with_statistics_of_the_batch,
        says=r"onnx: (decisions of 130 flipped|largest difference of outputs)",
    ),
    Fault(
        check="finalization/export_parity",
        plant=export_that_clamps_its_inputs,
        says=r"generated inputs on which both agree: inputs \w+ \(batch 1, seed \d+, scale 10\)",
    ),
    Fault(
        check="finalization/inference_tested",
        plant=export_that_hides_nan,
        says=r"onnx: NaN in the inputs: a finite answer",
    ),
    Fault(
        check="finalization/inference_tested",
        plant=latency_budget_of_a_nanosecond,
        says=r"onnx: p95 latency of one sample: .* ms, wanted at most",
    ),
    Fault(
        check="finalization/test_evaluated",
        plant=predictions_swapped,
        says=r"largest difference between stored and repeated predictions",
    ),
    Fault(
        check="finalization/test_evaluated",
        plant=other_test_split,
        says=r"digest of the test split",
    ),
    Fault(
        check="finalization/test_evaluated",
        plant=opening_not_entered,
        says=r"openings of the test set by this model in the ledger: 0, wanted 1",
    ),
    Fault(
        check="finalization/target_met",
        plant=target_out_of_reach,
        says=r"test accuracy: 0\.9692 \(n = 130.*wanted at least 0\.99",
    ),
    Fault(
        check="finalization/val_test_gap",
        plant=a_fifth_of_the_test_labels_wrong,
        says=r"advantage of validation over test: \d+\.\d+ points .*at most 5.* lower bound",
        also={"target_met": "fail"},
    ),
    Fault(
        check="finalization/confusion_analysed",
        plant=class_0_looks_like_class_1_in_test,
        says=r"recall of class 0: 0\.\d+ \(n = 49.*at least 0\.5.* by its upper bound",
        also={"target_met": "fail", "val_test_gap": "fail", "not_inferior": "fail"},
    ),
    Fault(
        check="finalization/confusion_analysed",
        plant=number_edited,
        says=r"errors in test_results\.md that differ .*\| 1 \| 0 \| 2 \|",
    ),
    Fault(
        check="finalization/confusion_analysed",
        plant=section_renamed,
        says=r"missing sections: \['Errors'\]",
    ),
    Fault(
        check="finalization/confusion_analysed",
        plant=another_picture,
        says=r"plots/confusion\.svg shows the recomputed errors: False",
    ),
    Fault(
        check="finalization/confusion_analysed",
        plant=another_picture_of_residuals,
        says=r"plots/residuals\.svg shows the recomputed errors: False",
        project="healthy_regression",
    ),
    Fault(
        check="finalization/final_training_completed",
        plant=last_record_cut_off,
        says=r"updates recorded: 159 \(the run ended early\), wanted 160",
    ),
    Fault(
        check="finalization/best_checkpoint",
        plant=another_epoch_named_best,
        says=r"epoch of the best checkpoint, .*accuracy: 4, wanted 3",
        also=dict.fromkeys(("test_evaluated", "export_parity", "exported"), "fail"),
    ),
    Fault(
        check="finalization/best_checkpoint",
        plant=bit_of_a_weight_flipped,
        says=r"validation accuracy recomputed 0\.\d+ against logged 0\.969231",
        also=dict.fromkeys(
            ("test_evaluated", "confusion_analysed", "export_parity", "exported"), "fail"
        ),
    ),
    Fault(
        check="finalization/last_checkpoint_resumes",
        plant=bit_of_the_optimizer_flipped,
        says=r"(parameters|loss|gradient_norm) of step 10\d, resumed from epoch_0005",
    ),
]


def predictions_gone(project: Path) -> None:
    (folder(project) / "predictions/test.npz").unlink()


def export_gone(project: Path) -> None:
    (folder(project) / "final_model/model.onnx").unlink()


def five_test_rows(project: Path) -> None:
    edit_task(project, "inputs[750:], targets[750:]", "inputs[750:755], targets[750:755]")


def constant_test_targets(project: Path) -> None:
    edit_task(
        project, "        return Splits", "        targets[750:] = 1.0\n        return Splits"
    )


UNDECIDABLE = [
    ("healthy", predictions_gone, "test_evaluated", r"test\.npz"),
    ("healthy", export_gone, "exported", r"model\.onnx: the export is missing"),
    ("healthy", export_refused, "export_parity", r"there is no export: a branch on data"),
    ("healthy", export_refused, "inference_tested", r"there is no export: a branch on data"),
    ("healthy_regression", five_test_rows, "val_test_gap", r"no interval, so no lower bound"),
    ("healthy_regression", constant_test_targets, "val_test_gap", r"test set are constant"),
]


def test_every_check_has_a_planted_fault() -> None:
    modules = [import_module(path.stem) for path in Path(__file__).parent.glob("test_final*.py")]
    every = [fault for module in modules for fault in getattr(module, "FAULTS", ())]
    assert without_failing_case("finalization", every) == set()


@pytest.mark.parametrize(
    "check", [check.id for check in catalogue("finalization") if check.id not in SIGNED_CHECKS]
)
def test_passes_on_a_sound_project(check: str, copied: Copied) -> None:
    result = judge_check(check, copied("healthy", "finalization"))
    assert (result.outcome, result.reason) == ("pass", "")
    assert result.judgements


@pytest.mark.slow
def test_a_sound_regression_passes_too(copied: Copied) -> None:
    project = copied("healthy_regression", "finalization")
    unsigned = judge_gate("finalization", project, without=tuple(SIGNED_CHECKS))
    assert {result.outcome for result in unsigned.values()} == {"pass"}


@pytest.mark.parametrize("fault", as_parameters(FAULTS))
def test_finds(fault: Fault, copied: Copied) -> None:
    assert_found(fault, copied(fault.project, "finalization"))


@pytest.mark.parametrize(
    ("name", "plant", "check", "says"),
    [pytest.param(*case, id=f"{case[2]}-{case[1].__name__}") for case in UNDECIDABLE],
)
def test_cannot_judge(
    name: str, plant: Callable[[Path], None], check: str, says: str, copied: Copied
) -> None:
    project = copied(name, "finalization")
    plant(project)
    reseal(project, "finalization")
    result = judge_check(f"finalization/{check}", project)
    assert result.outcome == "cannot judge"
    assert re.search(says, result.reason), result.reason


def test_without_a_target_there_is_none_to_meet(copied: Copied) -> None:
    project = copied("healthy", "finalization")
    edit_config(project, "  target: 0.9\n", "")
    result = judge_check("finalization/target_met", project)
    assert (result.outcome, result.reason) == ("not applicable", "objective.target is not set")


def test_resuming_does_not_concern_a_run_without_periodic_checkpoints(copied: Copied) -> None:
    project = copied("healthy", "finalization")
    (folder(project) / "checkpoints/epoch_0005.pt").unlink()
    reseal(project, "finalization")
    result = judge_check("finalization/last_checkpoint_resumes", project)
    assert result.outcome == "not applicable"
    assert "no periodic checkpoint" in result.reason


def test_a_regression_is_judged_by_residuals_and_not_by_classes(copied: Copied) -> None:
    project = copied("healthy_regression", "finalization")
    result = judge_check("finalization/confusion_analysed", project)
    judged = [entry["what"] for entry in result.judgements]
    assert any("plots/residuals.svg" in what for what in judged)
    assert not any("recall" in what or "confusion" in what for what in judged)


def test_classes_of_few_test_samples_are_not_decidable(copied: Copied) -> None:
    project = copied("healthy", "finalization")
    edit_task(project, "        return Splits", "        test = test[:25]\n        return Splits")
    evaluate_again(project)
    result = judge_check("finalization/confusion_analysed", project)
    assert result.outcome == "pass"
    assert "class 0 is not decidable" in result.notes[0]


def test_how_often_somebody_tried_stands_beside_the_target(copied: Copied) -> None:
    project = copied("healthy", "finalization")
    ledger = project / ".mltrainer/ledger.jsonl"
    again = '{"event": "final training started", "seed": 8}\n'
    ledger.write_text(ledger.read_text() + again)
    result = judge_check("finalization/target_met", project)
    assert "final trainings started: 2" in result.notes
