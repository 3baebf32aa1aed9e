"""Every check of the diagnostics gate: a run that passes it, and a fault that it finds."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planted import (
    Copied,
    Fault,
    artifact_edited,
    as_parameters,
    assert_found,
    edit,
    edit_config,
    json_edited,
    without_failing_case,
)
from support import (
    QUIET,
    TrainedProject,
    inside,
    judge_check,
    judge_gate,
    phase_folder,
    reseal,
    run_pytest,
)

from pytest_mltrainer.core.catalogue import catalogue
from pytest_mltrainer.core.config import load_config
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.evaluation.predictions import Predictions
from pytest_mltrainer.training.diagnosing.diagnosis import baseline_of, why_broken
from pytest_mltrainer.training.diagnosing.learning_curve import plan_curve
from pytest_mltrainer.training.observation.telemetry import STEP, STEPS_FILE
from pytest_mltrainer.training.run import TrainingRun

Trained = Callable[..., TrainedProject]


def folder(project: Path) -> Path:
    return phase_folder(project, "diagnostics")


def stored(project: Path, name: str) -> Any:
    return json.loads((folder(project) / name).read_text())


def digest_of_the_evidence_edited(project: Path) -> None:
    with artifact_edited(project, "diagnostics/evidence.json") as evidence:
        evidence["baseline/telemetry/steps.rec"] = "0" * 64


def evidence_of_the_baseline_touched(project: Path) -> None:
    path = phase_folder(project, "baseline") / "diagnoses.json"
    path.write_text(path.read_text() + "\n")


def another_issue_named(project: Path) -> None:
    with artifact_edited(project, "diagnostics/diagnosis.json") as diagnosis:
        diagnosis["issue"] = "overfitting"


def called_near_optimal(project: Path) -> None:
    with artifact_edited(project, "diagnostics/diagnosis.json") as diagnosis:
        diagnosis["issue"] = None


def guidance_taken_out(project: Path) -> None:
    edit(folder(project) / "diagnostic_report.md", "Even on its own training data", "Even")


def symptom_edited(project: Path) -> None:
    with artifact_edited(project, "diagnostics/diagnosis.json") as diagnosis:
        diagnosis["symptoms"][0]["measured"] += 0.1


def match_called_partial(project: Path) -> None:
    with artifact_edited(project, "diagnostics/diagnosis.json") as diagnosis:
        diagnosis["match"] = "partial"


def value_of_a_cause_edited(project: Path) -> None:
    with artifact_edited(project, "diagnostics/diagnosis.json") as diagnosis:
        diagnosis["causes"][0]["symptoms"][0]["measured"] += 0.1


def cause_without_a_value(project: Path) -> None:
    with artifact_edited(project, "diagnostics/diagnosis.json") as diagnosis:
        diagnosis["causes"] = []


def forward_longer_than_its_step(project: Path) -> None:
    with artifact_edited(project, "diagnostics/bottleneck.json") as timed:
        for row in timed["loaded"]:
            row["forward"] += row["step"]


def share_edited(project: Path) -> None:
    with artifact_edited(project, "diagnostics/breakdown.json") as split:
        split["shares"]["waiting"] += 0.5


def quarter_in_the_place_of_half(project: Path) -> None:
    predictions = folder(project) / "predictions"
    shutil.copy(predictions / "025_train.npz", predictions / "050_train.npz")


def outputs_of_half_edited(project: Path) -> None:
    path = folder(project) / "predictions/050_validation.npz"
    found = Predictions.load(path)
    Predictions(outputs=-found.outputs, targets=found.targets).save(path)


def cost_edited(project: Path) -> None:
    with artifact_edited(project, "diagnostics/capacity.json") as capacity:
        capacity["plan"]["estimated_s"] /= 2


def patch_of_an_unread_key(project: Path) -> None:
    with artifact_edited(project, "diagnostics/recommendations.json") as recommended:
        recommended[0]["patch"] = {"model.depth": 3}


def patch_of_a_wrong_type(project: Path) -> None:
    with artifact_edited(project, "diagnostics/recommendations.json") as recommended:
        recommended[0]["patch"] = {"training.epochs": "many"}


def order_reversed(project: Path) -> None:
    with artifact_edited(project, "diagnostics/recommendations.json") as recommended:
        recommended.reverse()


def range_upside_down(project: Path) -> None:
    with artifact_edited(project, "diagnostics/recommendations.json") as recommended:
        recommended[0]["predicted"].reverse()


def more_than_the_patch_previewed(project: Path) -> None:
    preview = folder(project) / "optimization_preview.yaml"
    edit(preview, "learning_rate: 0.03", "learning_rate: 0.01")


def preview_without_the_patch(project: Path) -> None:
    shutil.copy(project / "training_config.yaml", folder(project) / "optimization_preview.yaml")


def number_edited(project: Path) -> None:
    edit(folder(project) / "diagnostic_report.md", "| 538 |", "| 539 |")


def section_renamed(project: Path) -> None:
    edit(folder(project) / "diagnostic_report.md", "## Root causes", "## Remarks")


def plot_gone(project: Path) -> None:
    (folder(project) / "plots/learning_curve.svg").unlink()


def decision_edited(project: Path) -> None:
    with artifact_edited(project, "diagnostics/decision.json") as decision:
        decision |= {"status": "near optimal", "next": "finalization"}


def decision_of_the_manifest_edited(project: Path) -> None:
    with json_edited(folder(project) / "manifest.json") as manifest:
        manifest["decision"]["next"] = "finalization"


FAULTS = [
    Fault(
        check="diagnostics/evidence_loaded",
        plant=digest_of_the_evidence_edited,
        says=r"evidence that is not what was diagnosed.*telemetry/steps\.rec",
        also={"report_complete": "fail"},
        project="underfit",
    ),
    Fault(
        check="diagnostics/evidence_loaded",
        plant=evidence_of_the_baseline_touched,
        says=r"evidence that is not what was diagnosed.*baseline/diagnoses\.json",
        project="underfit",
    ),
    Fault(
        check="diagnostics/primary_issue_identified",
        plant=another_issue_named,
        says=r"primary issue, asked again: overfitting, wanted underfitting",
        project="underfit",
    ),
    Fault(
        check="diagnostics/primary_issue_identified",
        plant=called_near_optimal,
        says=r"primary issue, asked again: None, wanted underfitting",
        project="underfit",
    ),
    Fault(
        check="diagnostics/guidance_loaded",
        plant=guidance_taken_out,
        says=r"short guidance of underfitting in the report: missing",
        also={"report_complete": "fail"},
        project="underfit",
    ),
    Fault(
        check="diagnostics/symptoms_matched",
        plant=symptom_edited,
        says=r'symptoms measured anew: found "measured": 0\.\d+',
        project="underfit",
    ),
    Fault(
        check="diagnostics/symptoms_matched",
        plant=match_called_partial,
        says=r"match, 3 of 3: partial, wanted full",
        project="underfit",
    ),
    Fault(
        check="diagnostics/root_causes_evidenced",
        plant=value_of_a_cause_edited,
        says=r'causes with their values, measured anew: found "measured": 0\.\d+',
        project="underfit",
    ),
    Fault(
        check="diagnostics/root_causes_evidenced",
        plant=cause_without_a_value,
        says=r"root causes: 0, wanted at least 1",
        project="underfit",
    ),
    Fault(
        check="diagnostics/bottleneck_measured",
        plant=forward_longer_than_its_step,
        says=r"waiting, forward, backward and update, as a share of their steps: 1\.\d+, wanted",
        also={"report_complete": "fail"},
        project="underfit",
    ),
    Fault(
        check="diagnostics/bottleneck_measured",
        plant=share_edited,
        says=r'shares, computed again from the raw times: found "waiting"',
        project="underfit",
    ),
    Fault(
        check="diagnostics/capacity_judged",
        plant=quarter_in_the_place_of_half,
        says=r"targets of 50% of the rows, and of validation: others",
        also={"report_complete": "fail"},
        project="underfit",
    ),
    Fault(
        check="diagnostics/capacity_judged",
        plant=outputs_of_half_edited,
        says=r"learning curve, scored anew from the raw predictions: found ",
        also={"report_complete": "fail"},
        project="underfit",
    ),
    Fault(
        check="diagnostics/capacity_judged",
        plant=cost_edited,
        says=r'plan of the learning curve: found "estimated_s"',
        project="underfit",
    ),
    Fault(
        check="diagnostics/recommendations_concrete",
        plant=patch_of_an_unread_key,
        says=r"the run did not read model\.depth",
        also={"recommendations_ranked": "fail"},
        project="underfit",
    ),
    Fault(
        check="diagnostics/recommendations_concrete",
        plant=patch_of_a_wrong_type,
        says=r"is no patch: .*training\.epochs.*many",
        also={"recommendations_ranked": "fail"},
        project="underfit",
    ),
    Fault(
        check="diagnostics/recommendations_ranked",
        plant=order_reversed,
        says=r"order of the recommendations: ",
        also={"capacity_judged": "not applicable"},
        project="nan_loss",
    ),
    Fault(
        check="diagnostics/improvement_predicted",
        plant=range_upside_down,
        says=r"width of the range predicted for .*: -0\.\d+, wanted at least 0",
        also={"recommendations_ranked": "fail"},
        project="underfit",
    ),
    Fault(
        check="diagnostics/config_previewed",
        plant=more_than_the_patch_previewed,
        says=r"training\.learning_rate: 0\.01 instead of 0\.03",
        project="underfit",
    ),
    Fault(
        check="diagnostics/config_previewed",
        plant=preview_without_the_patch,
        says=r"model\.width: 2 instead of 32",
        project="underfit",
    ),
    Fault(
        check="diagnostics/report_complete",
        plant=number_edited,
        says=r"lines of diagnostic_report\.md that differ .*539",
        project="underfit",
    ),
    Fault(
        check="diagnostics/report_complete",
        plant=section_renamed,
        says=r"missing sections of diagnostic_report\.md: \['Root causes'\]",
        project="underfit",
    ),
    Fault(
        check="diagnostics/report_complete",
        plant=plot_gone,
        says=r"missing plots of the report: \['plots/learning_curve\.svg'\]",
        project="underfit",
    ),
    Fault(
        check="diagnostics/decision_recorded",
        plant=decision_edited,
        says=r"decision\.json: \{'next': 'finalization'.*wanted .*'optimize'",
        project="underfit",
    ),
    Fault(
        check="diagnostics/decision_recorded",
        plant=decision_of_the_manifest_edited,
        says=r"decision in manifest\.json: .*finalization",
        project="underfit",
    ),
]

ABSENT_IN_A_BROKEN_RUN = {"diagnostics/capacity_judged"}
ABSENT_NEAR_THE_OPTIMUM = {
    f"diagnostics/{name}"
    for name in (
        "guidance_loaded",
        "symptoms_matched",
        "recommendations_ranked",
        "improvement_predicted",
        "config_previewed",
    )
}


def test_every_check_has_a_planted_fault() -> None:
    assert without_failing_case("diagnostics", FAULTS) == set()


@pytest.mark.parametrize(
    ("name", "absent"),
    [
        ("underfit", set()),
        ("nan_loss", ABSENT_IN_A_BROKEN_RUN),
        ("healthy", ABSENT_NEAR_THE_OPTIMUM),
    ],
)
def test_passes_on_what_was_really_diagnosed(name: str, absent: set[str], copied: Copied) -> None:
    results = judge_gate("diagnostics", copied(name, "diagnostics"))
    assert {check.id for check in catalogue("diagnostics")} == set(results)
    for check, result in results.items():
        wanted = "not applicable" if check in absent else "pass"
        assert result.outcome == wanted, f"{check}: {result.reason}"
        assert result.judgements or result.reason


@pytest.mark.parametrize("fault", as_parameters(FAULTS))
def test_finds(fault: Fault, copied: Copied) -> None:
    assert_found(fault, copied(fault.project, "diagnostics"))


def test_evidence_that_is_gone_cannot_be_judged(copied: Copied) -> None:
    project = copied("underfit", "diagnostics")
    for phase in ("baseline", "planning"):
        shutil.rmtree(phase_folder(project, phase))
    result = judge_check("diagnostics/evidence_loaded", project)
    assert result.outcome == "cannot judge"
    assert "none of the baseline's evidence is there" in result.reason


def test_a_training_that_ends_at_once_has_no_bottleneck(copied: Copied) -> None:
    project = copied("underfit", "diagnostics")
    with artifact_edited(project, "diagnostics/bottleneck.json") as timed:
        timed["loaded"] = timed["loaded"][:1]
    reseal(project, "diagnostics")
    assert judge_check("diagnostics/bottleneck_measured", project).outcome == "not applicable"


def test_a_short_run_is_explained_and_its_mending_proposed(trained: Trained) -> None:
    project = trained("underfit", "diagnostics")
    assert project.returncode == 0
    assert stored(project.path, "decision.json")["next"] == "optimization"
    assert stored(project.path, "learning_curve.json")["kind"] == "bias"
    preview = (folder(project.path) / "optimization_preview.yaml").read_text()
    assert "  width: 32  # CHANGED 2 -> 32" in preview
    said = r"25% and 50% of the rows, about \d+ s of 1800 s\n +diagnostics: 25% of the rows \(269\)"
    assert re.search(said, project.stdout), "the cost stands before the first training"
    summary = project.stdout.partition("= pipeline =")[2]
    assert "decision: the diagnosis says optimize (underfitting: " in summary
    assert "next: pytest --phase=optimization, which tries what the diagnosis" in summary


def test_a_broken_run_is_explained_although_its_gate_failed(trained: Trained) -> None:
    project = trained("nan_loss", "diagnostics")
    assert project.returncode == 1, "the baseline's gate stays failed"
    decision = stored(project.path, "decision.json")
    assert (decision["status"], decision["next"]) == ("repair", "planning")
    assert stored(project.path, "diagnosis.json")["issue"] == "nan_loss"
    summary = project.stdout.partition("= pipeline =")[2]
    assert re.search(r"baseline +FAIL .*\n(  .*\n)+diagnostics +PASS", summary)
    assert "which begins again as .mltrainer/diagnostics/overlay.yaml says" in summary


def test_a_run_of_a_few_updates_is_broken_and_to_be_repaired(copied: Copied) -> None:
    project = copied("healthy", "baseline")
    steps = project / ".mltrainer" / "baseline" / STEPS_FILE
    steps.write_bytes(steps.read_bytes()[: 5 * STEP.itemsize])
    with inside(project):
        loaded = Project.load(project)
        broken = why_broken(TrainingRun(loaded, load_config(loaded.config_path), "baseline"))
    assert broken is not None
    assert broken.reason == "5 updates are too few to learn from"


@pytest.mark.slow
def test_the_proposed_configuration_repairs_the_run(copied: Copied) -> None:
    """The overlay in the user's place: planning and baseline pass. A real run, about 40 s."""
    project = copied("nan_loss", "diagnostics")
    shutil.copy(folder(project) / "overlay.yaml", project / "training_config.yaml")
    done = run_pytest(project, "--phase=baseline", *QUIET)
    assert done.returncode == 0, done.stdout


def test_a_run_at_its_target_is_near_optimal(trained: Trained) -> None:
    project = trained("healthy", "diagnostics")
    assert project.returncode == 0
    assert stored(project.path, "decision.json")["status"] == "near optimal"
    assert stored(project.path, "recommendations.json") == []
    assert "next: pytest --phase=finalization" in project.stdout


def test_trainings_beyond_the_budget_are_left_out_and_it_is_said(copied: Copied) -> None:
    """A real run of the phase, since the budget counts before anything is trained."""
    project = copied("healthy")
    edit_config(project, "export:", "budgets:\n  diagnosis_minutes: 0.0001\nexport:")
    done = run_pytest(project, "--phase=diagnostics", *QUIET)
    assert "learning curve not judged: it would take about" in done.stdout
    assert done.returncode == 0, done.stdout
    assert not list(folder(project).glob("predictions/*"))


@pytest.mark.parametrize(
    ("share_of_cost", "cut", "epochs"), [(1.0, False, 30), (0.5, True, 10), (0.001, False, 0)]
)
def test_a_small_budget_cuts_the_epochs(
    share_of_cost: float, cut: bool, epochs: int, copied: Copied
) -> None:
    project = copied("underfit")
    with inside(project):
        loaded = Project.load(project)
        run = TrainingRun(loaded, load_config(loaded.config_path), "diagnostics")
        baseline = baseline_of(run)
        cost_s = 2 * sum(record.duration_s for record in baseline.telemetry.epochs)
        plan = plan_curve(baseline, share_of_cost * cost_s * 1.0001 / 60, "")
    assert (plan.is_cut, plan.epochs, bool(plan.refused)) == (cut, epochs, epochs == 0)
    assert plan.refused or plan.estimated_s <= plan.budget_s
