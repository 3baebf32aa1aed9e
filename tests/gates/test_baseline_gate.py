"""Every check of the baseline gate: a run that passes it, and a fault that it finds."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from planted import (
    Copied,
    Fault,
    add_method,
    artifact_edited,
    as_parameters,
    assert_found,
    checkpoint_edited,
    edit,
    edit_config,
    edit_task,
    flip_bit,
    without_failing_case,
)
from support import judge_check, judge_gate, phase_folder, reseal

from pytest_mltrainer.core.artifacts import RunFolder
from pytest_mltrainer.core.catalogue import catalogue
from pytest_mltrainer.core.ledger import record_opening
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.training.observation.telemetry import EPOCHS_FILE, STEP, STEPS_FILE


def folder(project: Path) -> Path:
    return phase_folder(project, "baseline")


def keep_steps(project: Path, rows: "slice | np.ndarray[Any, Any]") -> None:
    """Keep only these records of the telemetry."""
    path = folder(project) / STEPS_FILE
    np.fromfile(path, STEP)[rows].tofile(path)


def keep_epochs(project: Path, count: int) -> None:
    path = folder(project) / EPOCHS_FILE
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:count]))


def last_record_cut_off(project: Path) -> None:
    keep_steps(project, slice(-1))


def last_epoch_cut_off(project: Path) -> None:
    keep_steps(project, slice(-20))
    keep_epochs(project, 7)


def nan_in_the_losses(project: Path) -> None:
    path = folder(project) / STEPS_FILE
    steps = np.fromfile(path, STEP)
    steps["loss"][50] = np.nan
    steps.tofile(path)


def infinite_gradient(project: Path) -> None:
    path = folder(project) / STEPS_FILE
    steps = np.fromfile(path, STEP)
    steps["gradient_norm"][50] = np.inf
    steps.tofile(path)


def nan_in_a_metric(project: Path) -> None:
    edit(folder(project) / EPOCHS_FILE, '"macro_f1": 0.', '"macro_f1": "nan", "other": 0.')


def losses_in_reverse(project: Path) -> None:
    path = folder(project) / STEPS_FILE
    steps = np.fromfile(path, STEP)
    steps["loss"] = steps["loss"][::-1].copy()
    steps.tofile(path)


def bit_of_a_weight_flipped(project: Path) -> None:
    with checkpoint_edited(folder(project) / "checkpoints/best.pt") as checkpoint:
        flip_bit(checkpoint["model"]["2.weight"], 24)


def classes_swapped(project: Path) -> None:
    with checkpoint_edited(folder(project) / "checkpoints/best.pt") as checkpoint:
        for name in ("2.weight", "2.bias"):
            checkpoint["model"][name] = checkpoint["model"][name].flip(0)


def another_epoch_named_best(project: Path) -> None:
    checkpoints = folder(project) / "checkpoints"
    shutil.copy(checkpoints / "epoch_0005.pt", checkpoints / "best.pt")


def bit_of_the_optimizer_flipped(project: Path) -> None:
    with checkpoint_edited(folder(project) / "checkpoints/epoch_0005.pt") as checkpoint:
        flip_bit(checkpoint["optimizer"]["state"][0]["exp_avg"], 20)


def two_equal_checkpoints(project: Path) -> None:
    checkpoints = folder(project) / "checkpoints"
    shutil.copy(checkpoints / "epoch_0005.pt", checkpoints / "epoch_0010.pt")
    with checkpoint_edited(checkpoints / "epoch_0010.pt") as checkpoint:
        checkpoint["epoch"] = 9


def checkpoint_of_another_epoch(project: Path) -> None:
    checkpoints = folder(project) / "checkpoints"
    shutil.copy(checkpoints / "epoch_0005.pt", checkpoints / "epoch_0010.pt")


def periodic_checkpoint_gone(project: Path) -> None:
    (folder(project) / "checkpoints/epoch_0005.pt").unlink()


def record_cut_out(project: Path) -> None:
    keep_steps(project, np.arange(160) != 140)


def epoch_cut_out(project: Path) -> None:
    path = folder(project) / EPOCHS_FILE
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:5] + lines[6:]))


def code_edited(project: Path) -> None:
    edit_task(project, "class ProjectTask", "ANSWER = 42\n\n\nclass ProjectTask")


def config_edited(project: Path) -> None:
    edit_config(project, "weight_decay: 0.0", "weight_decay: 0.001")


def trained_with_another_numpy(project: Path) -> None:
    with artifact_edited(project, "baseline/manifest.json") as manifest:
        manifest["steps"]["train"]["inputs"]["numerics/numpy"] = "1.0.0"


def opened_by_the_baseline(project: Path) -> None:
    run = RunFolder(Project.load(project).run_folder)
    record_opening(run, phase="baseline", model="0" * 64)


def number_edited(project: Path) -> None:
    edit(folder(project) / "baseline_results.md", "| accuracy | 0.9692", "| accuracy | 0.9792")


def section_emptied(project: Path) -> None:
    path = folder(project) / "baseline_results.md"
    path.write_text(path.read_text().replace("## Diagnosis", "## Remarks"))


def curves_gone(project: Path) -> None:
    (folder(project) / "plots/learning_curves.svg").unlink()


def decision_of_the_manifest_edited(project: Path) -> None:
    with artifact_edited(project, "baseline/manifest.json") as manifest:
        manifest["decision"]["next"] = "diagnostics"


def decision_edited(project: Path) -> None:
    with artifact_edited(project, "baseline/decision.json") as decision:
        decision["status"] = "undecided"


def no_diagnostic_asked(project: Path) -> None:
    with artifact_edited(project, "baseline/diagnoses.json") as diagnoses:
        diagnoses["silent"] = []


def budget_of_a_millisecond(project: Path) -> None:
    edit_config(project, "export:", "budgets:\n  baseline_minutes: 0.00002\nexport:")


def no_memory_measured(project: Path) -> None:
    with artifact_edited(project, "baseline/resources.json") as resources:
        resources["host_mb"] = 0.0


def most_of_the_time_waited(project: Path) -> None:
    edit_config(project, "export:", "limits:\n  wait_judged_after_minutes: 0\nexport:")
    path = folder(project) / STEPS_FILE
    steps = np.fromfile(path, STEP)
    steps["wait_s"] = steps["step_s"] * 0.75
    steps.tofile(path)


FAULTS = [
    Fault(
        check="baseline/resources_used",
        plant=no_memory_measured,
        says=r"peak memory of the worker: 0\S* MB, wanted above 0",
    ),
    Fault(
        check="baseline/resources_used",
        plant=most_of_the_time_waited,
        says=r"share of the step time spent waiting: 0\.75\d*, wanted at most 0\.3",
    ),
    Fault(
        check="baseline/run_completed",
        plant=last_record_cut_off,
        says=r"updates recorded: 159 \(the run ended early\), wanted 160",
        also={"telemetry_complete": "fail", "results_reported": "fail"},
    ),
    Fault(
        check="baseline/run_completed",
        plant=last_epoch_cut_off,
        says=r"updates recorded: 140 .* 8 of 8 epochs",
        also={"results_reported": "fail"},
    ),
    Fault(
        check="baseline/losses_finite",
        plant=nan_in_the_losses,
        says=r"steps with a loss that is not finite: 1",
    ),
    Fault(
        check="baseline/losses_finite",
        plant=infinite_gradient,
        says=r"steps with a gradient_norm that is not finite: 1",
    ),
    Fault(
        check="baseline/losses_finite",
        plant=nan_in_a_metric,
        says=r"metrics of epoch 0 not finite: \['macro_f1'\]",
    ),
    Fault(
        check="baseline/loss_decreased",
        plant=losses_in_reverse,
        says=r"change of the training loss .*wanted below 0",
        also={"last_checkpoint_resumes": "fail"},
    ),
    Fault(
        check="baseline/metrics_recomputed",
        plant=bit_of_a_weight_flipped,
        says=r"validation accuracy recomputed 0\.\d+ against logged 0\.969231",
        also={"results_reported": "fail", "decision_recorded": "fail"},
    ),
    Fault(
        check="baseline/beats_trivial",
        plant=classes_swapped,
        says=r"advantage in accuracy over a trivial model: -0\.\d.*wanted above 0",
        also={
            "metrics_recomputed": "fail",
            "results_reported": "fail",
            "decision_recorded": "fail",
        },
    ),
    Fault(
        check="baseline/best_checkpoint",
        plant=another_epoch_named_best,
        says=r"epoch of the best checkpoint, .*accuracy: 4, wanted 3",
        also={"results_reported": "fail"},
    ),
    Fault(
        check="baseline/last_checkpoint_resumes",
        plant=bit_of_the_optimizer_flipped,
        says=r"(parameters|loss|gradient_norm) of step 10\d, resumed from epoch_0005",
    ),
    Fault(
        check="baseline/periodic_checkpoints",
        plant=two_equal_checkpoints,
        says=r"distinct weights in the periodic checkpoints: 1, wanted 2",
        project="healthy_regression",
    ),
    Fault(
        check="baseline/periodic_checkpoints",
        plant=checkpoint_of_another_epoch,
        says=r"epoch of epoch_0010\.pt: 5, wanted 10",
        project="healthy_regression",
    ),
    Fault(
        check="baseline/periodic_checkpoints",
        plant=periodic_checkpoint_gone,
        says=r"missing of 1 periodic checkpoints: \['epoch_0005'\]",
    ),
    Fault(
        check="baseline/telemetry_complete",
        plant=record_cut_out,
        says=r"step 141 in place 140, wanted no gap",
        also={"run_completed": "fail", "results_reported": "fail"},
    ),
    Fault(
        check="baseline/telemetry_complete",
        plant=epoch_cut_out,
        says=r"epochs recorded: \[0, 1, 2, 3, 4, 6, 7\]",
        also={"results_reported": "fail"},
    ),
    Fault(
        check="baseline/environment_unchanged",
        plant=code_edited,
        says=r"task\.py changed",
    ),
    Fault(
        check="baseline/environment_unchanged",
        plant=config_edited,
        says=r"training\.weight_decay: 0\.0 -> 0\.001",
    ),
    Fault(
        check="baseline/environment_unchanged",
        plant=trained_with_another_numpy,
        says=r"numerics/numpy at training, against planning: 1\.0\.0",
    ),
    Fault(
        check="baseline/test_set_untouched",
        plant=opened_by_the_baseline,
        says=r"openings of the test set since planning: 1",
    ),
    Fault(
        check="baseline/results_reported",
        plant=number_edited,
        says=r"lines of baseline_results\.md that differ .*0\.9792",
    ),
    Fault(
        check="baseline/results_reported",
        plant=section_emptied,
        says=r"missing sections of baseline_results\.md: \['Diagnosis'\]",
    ),
    Fault(
        check="baseline/results_reported",
        plant=curves_gone,
        says=r"learning curves exist: False",
    ),
    Fault(
        check="baseline/decision_recorded",
        plant=decision_of_the_manifest_edited,
        says=r"decision in the manifest: .*diagnostics",
    ),
    Fault(
        check="baseline/decision_recorded",
        plant=decision_edited,
        says=r"decision\.json: .*undecided.*sufficient",
        also={"results_reported": "fail"},
    ),
    Fault(
        check="baseline/decision_recorded",
        plant=no_diagnostic_asked,
        says=r"diagnostics asked; .*: 0, wanted all",
    ),
    Fault(
        check="baseline/time_budget",
        plant=budget_of_a_millisecond,
        says=r"training time: .*minutes, wanted at most",
    ),
]


def telemetry_emptied(project: Path) -> None:
    keep_steps(project, slice(0))
    keep_epochs(project, 0)


def five_steps(project: Path) -> None:
    keep_steps(project, slice(5))


def logged_metric_never_finite(project: Path) -> None:
    path = folder(project) / EPOCHS_FILE
    text = path.read_text().replace('"accuracy": ', '"accuracy": "nan", "other": ')
    path.write_text(text)


def weights_of_nan(project: Path) -> None:
    with checkpoint_edited(folder(project) / "checkpoints/best.pt") as checkpoint:
        checkpoint["model"]["2.bias"].fill_(float("nan"))


def best_checkpoint_truncated(project: Path) -> None:
    path = folder(project) / "checkpoints/best.pt"
    path.write_bytes(path.read_bytes()[:2000])


def planning_gone(project: Path) -> None:
    (phase_folder(project, "planning") / "manifest.json").unlink()


UNDECIDABLE = [
    (telemetry_emptied, "losses_finite", r"no step was recorded"),
    (telemetry_emptied, "loss_decreased", r"0 steps are too few"),
    (telemetry_emptied, "telemetry_complete", r"0 steps and 0 epochs"),
    (telemetry_emptied, "time_budget", r"no epoch was recorded"),
    (telemetry_emptied, "resources_used", r"no step time was recorded"),
    (telemetry_emptied, "best_checkpoint", r"no epoch has a finite validation metric"),
    (five_steps, "loss_decreased", r"5 steps are too few .* 10 are needed"),
    (logged_metric_never_finite, "best_checkpoint", r"no epoch has a finite"),
    (logged_metric_never_finite, "metrics_recomputed", r"no epoch has a finite"),
    (weights_of_nan, "beats_trivial", r"the measured value is nan|no interval"),
    (weights_of_nan, "metrics_recomputed", r"the measured value is nan"),
    (best_checkpoint_truncated, "best_checkpoint", r"best\.pt: not a readable torch file"),
    (best_checkpoint_truncated, "beats_trivial", r"best\.pt: not a readable torch file"),
    (planning_gone, "environment_unchanged", r"planning is not there"),
]


def test_every_check_has_a_planted_fault() -> None:
    assert without_failing_case("baseline", FAULTS) == set()


@pytest.mark.parametrize("check", [check.id for check in catalogue("baseline")])
def test_passes_on_a_sound_project(check: str, copied: Copied) -> None:
    result = judge_check(check, copied("healthy"))
    assert (result.outcome, result.reason) == ("pass", "")
    assert result.judgements


@pytest.mark.parametrize("name", ["healthy_regression", "overfit", "underfit"])
def test_other_sound_projects_pass_too(name: str, copied: Copied) -> None:
    outcomes = {result.outcome for result in judge_gate("baseline", copied(name)).values()}
    assert outcomes == {"pass"}


@pytest.mark.parametrize("fault", as_parameters(FAULTS))
def test_finds(fault: Fault, copied: Copied) -> None:
    assert_found(fault, copied(fault.project))


@pytest.mark.parametrize(
    ("plant", "name", "says"),
    [pytest.param(*case, id=f"{case[1]}-{case[0].__name__}") for case in UNDECIDABLE],
)
def test_cannot_judge(plant: Callable[[Path], None], name: str, says: str, copied: Copied) -> None:
    project = copied("healthy")
    plant(project)
    reseal(project, "baseline")
    result = judge_check(f"baseline/{name}", project)
    assert result.outcome == "cannot judge"
    assert re.search(says, result.reason), result.reason


def test_resuming_does_not_concern_a_run_without_periodic_checkpoints(copied: Copied) -> None:
    project = copied("healthy")
    edit_config(project, "checkpoint_every: 5", "checkpoint_every: 100")
    periodic_checkpoint_gone(project)
    reseal(project, "baseline")
    result = judge_check("baseline/last_checkpoint_resumes", project)
    assert result.outcome == "not applicable"
    assert "no periodic checkpoint has 20 recorded steps behind it" in result.reason


def test_the_number_of_updates_of_a_loop_of_the_task_is_not_planned(copied: Copied) -> None:
    project = copied("healthy")
    add_method(project, "    def train(self, session) -> None:\n        session.fit()")
    result = judge_check("baseline/run_completed", project)
    assert result.outcome == "not applicable"
    assert "loop of its own" in result.reason


@pytest.mark.parametrize(
    ("digests", "outcome", "says"),
    [
        (["a", "a", "a"], "pass", ""),
        (["a", "b", "a"], "fail", r"parameters are not those of the first of 3: \[1\]"),
        (["a", "a"], "fail", "processes that trained together: 2"),
        (None, "cannot judge", r"ranks\.json"),
    ],
)
def test_processes_that_trained_apart_are_found(
    digests: list[str] | None, outcome: str, says: str, copied: Copied
) -> None:
    project = copied("healthy")
    with (project / "training_config.yaml").open("a") as config:
        config.write("launch: {kind: torchrun, processes: 3}\n")
    if digests:
        (folder(project) / "ranks.json").write_text(json.dumps({"parameters": digests}))
    reseal(project, "baseline")
    result = judge_check("baseline/run_completed", project)
    assert result.outcome == outcome
    assert re.search(says, result.reason), result.reason


def test_early_stopping_is_applied_again(copied: Copied) -> None:
    """Epoch 3 is the best, so a patience of 3 must have stopped behind epoch 6, and did not."""
    project = copied("healthy")
    edit_config(project, "  epochs: 8", "  epochs: 8\n  early_stopping: {patience: 3}")
    result = judge_check("baseline/run_completed", project)
    assert result.outcome == "fail"
    assert "updates recorded: 160" in result.reason
    assert "wanted 140 (20 an epoch, 7 of 8 epochs)" in result.reason


def test_a_checkpoint_that_would_run_code_is_refused(copied: Copied) -> None:
    project = copied("healthy")
    trap = project / "trap"
    torch.save({"schema": 1, "model": Trap(trap)}, folder(project) / "checkpoints/best.pt")
    reseal(project, "baseline")
    result = judge_check("baseline/best_checkpoint", project)
    assert result.outcome == "cannot judge"
    assert "would run code" in result.reason
    assert not trap.exists()


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)
