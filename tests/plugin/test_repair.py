"""A broken baseline is diagnosed, repaired by an overlay and begun again, in one command, once."""

import json
from collections.abc import Callable
from pathlib import Path

from gate_runs import Copied, Run, configure, properties, suites
from support import TrainedProject, run_pytest

from pytest_mltrainer.core.config import load_config
from pytest_mltrainer.core.overlay import make_overlay, store_overlay
from pytest_mltrainer.core.project import Project

Trained = Callable[..., TrainedProject]


def test_one_command_repairs_and_goes_on(trained: Trained) -> None:
    """Some 60 s: the one real run that shows the way of a broken baseline from end to end."""
    repaired = trained("stall", "finalization")
    said = repaired.stdout
    assert "the baseline is broken (lr_too_low); beginning again with training.learn" in said
    assert "path: repaired lr_too_low > planning > baseline 0." in said
    assert "2 superseded" in said


def test_its_report_keeps_the_first_attempt_apart(trained: Trained) -> None:
    report = suites(trained("stall", "finalization").report)
    first, second = report["gate:baseline before the repair"], report["gate:baseline"]
    assert (first.failures, first.skipped) == (0, 2)
    assert (second.failures, second.errors, second.skipped) == (0, 0, 0)
    assert properties(second)["mltrainer.outcome"] == "PASS"


def test_the_users_file_stays_and_the_ledger_tells(trained: Trained) -> None:
    project = trained("stall", "finalization").path
    assert "learning_rate: 1e-6" in (project / "training_config.yaml").read_text()
    ledger = (project / ".mltrainer" / "ledger.jsonl").read_text().splitlines()
    events = [json.loads(line)["event"] for line in ledger]
    assert events.count("restarted with an overlay") == 1
    overlay = json.loads((project / ".mltrainer" / "overlay.json").read_text())
    assert overlay["patch"] == {"training.learning_rate": 0.01}


def test_the_next_run_says_which_overlay_it_runs_with(trained: Trained, tmp_path: Path) -> None:
    project = trained("stall", "finalization").path
    plan = run_pytest(project, "--phase=baseline", "--mltrainer-plan", "-p", "no:cacheprovider")
    assert "overlay.json of the run folder (training.learning_rate: 0.01)" in plan.stdout
    assert "baseline     judge" in plan.stdout


def test_a_repaired_baseline_that_is_broken_needs_a_person(copied: Copied, run: Run) -> None:
    project = copied("nan_loss", "diagnostics")
    loaded = Project.load(project)
    own = load_config(loaded.config_path)
    store_overlay(loaded.run_folder, make_overlay(own, {"seed": own.seed}, "nan_loss"))
    result = run(project, "--phase=finalization")
    result.stdout.fnmatch_lines(["baseline * FAIL *", "finalization BLOCKED *"])
    assert "beginning again" not in result.stdout.str()
    assert result.ret == 1


def test_nothing_is_repaired_in_frozen_mode(copied: Copied, run: Run) -> None:
    project = copied("stall", "diagnostics")
    configure(project, {"budgets": {"baseline_minutes": 50}})
    result = run(project, "--phase=finalization", "--mltrainer-frozen")
    assert not (project / ".mltrainer" / "overlay.json").exists()
    assert result.ret == 1
