"""A broken baseline is diagnosed, repaired by an overlay and begun again, in one command, once."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from gate_runs import Copied, properties, suites
from support import TrainedProject, run_pytest

from pytest_mltrainer.core.config import load_config
from pytest_mltrainer.core.overlay import Overlay
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.pipeline_run import GateSummary, PipelineRun

Trained = Callable[..., TrainedProject]


@pytest.mark.slow
def test_one_command_repairs_and_goes_on(trained: Trained) -> None:
    """Some 60 s, shared by all slow tests here: the way of a broken baseline from end to end."""
    repaired = trained("stall", "finalization")
    said = repaired.stdout
    assert "the baseline is broken (lr_too_low); beginning again with training.learn" in said
    assert "path: repaired lr_too_low > planning > baseline 0." in said
    assert "2 superseded" in said


@pytest.mark.slow
def test_its_report_keeps_the_first_attempt_apart(trained: Trained) -> None:
    report = suites(trained("stall", "finalization").report)
    first, second = report["gate:baseline before the repair"], report["gate:baseline"]
    assert (first.failures, first.skipped) == (0, 2)
    assert (second.failures, second.errors, second.skipped) == (0, 0, 0)
    assert properties(second)["mltrainer.outcome"] == "PASS"


@pytest.mark.slow
def test_the_users_file_stays_and_the_ledger_tells(trained: Trained) -> None:
    project = trained("stall", "finalization").path
    assert "learning_rate: 1e-6" in (project / "training_config.yaml").read_text()
    ledger = (project / ".mltrainer" / "ledger.jsonl").read_text().splitlines()
    events = [json.loads(line)["event"] for line in ledger]
    assert events.count("restarted with an overlay") == 1
    overlay = json.loads((project / ".mltrainer" / "overlay.json").read_text())
    assert overlay["patch"] == {"training.learning_rate": 0.02}


@pytest.mark.slow
def test_the_next_run_says_which_overlay_it_runs_with(trained: Trained) -> None:
    project = trained("stall", "finalization").path
    plan = run_pytest(project, "--phase=baseline", "--mltrainer-plan", "-p", "no:cacheprovider")
    assert "overlay.json of the run folder (training.learning_rate: 0.02)" in plan.stdout
    assert "baseline     judge" in plan.stdout


@pytest.mark.parametrize(
    ("target", "changes", "repairs"),
    [
        ("finalization", {}, True),
        ("optimization", {}, True),
        ("diagnostics", {}, False),
        ("finalization", {"frozen": True}, False),
        ("finalization", {"overlay": Overlay(patch={}, issue="nan_loss", made_for="")}, False),
    ],
    ids=["finalization", "optimization", "only diagnosed", "frozen", "repaired before"],
)
def test_when_a_broken_baseline_is_repaired(
    copied: Copied, target: str, changes: dict[str, Any], repairs: bool
) -> None:
    project = Project.load(copied("stall", "diagnostics"))
    config = load_config(project.config_path)
    pipeline = PipelineRun(project=project, config=config, target=target, **changes)
    assert pipeline.repair() is None, "its diagnosis was not judged"
    pipeline.summaries["diagnostics"] = GateSummary(phase="diagnostics", outcome="PASS", note="")
    assert (pipeline.repair() is not None) == repairs
