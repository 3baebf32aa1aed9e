"""`--mltrainer-plan` says what would run, why and how long it takes, and runs nothing."""

import json
import shutil
from pathlib import Path

import pytest
from gate_runs import BASELINE_FAILS, Copied, Run, configure, everything, ids_of
from support import PROJECTS


def planned(project: Path, run: Run, *args: str) -> list[str]:
    """The lines of the plan, after seeing that nothing was run, written, or found wanting."""
    before = everything(project)
    result = run(project, "--mltrainer-plan", *args)
    assert result.ret == pytest.ExitCode.OK
    assert everything(project) == before
    assert result.parseoutcomes().keys() <= {"tests", "deselected", "warning", "warnings"}
    assert not any(line.startswith("next:") for line in result.outlines)
    return [line for line in result.outlines if line.startswith("mltrainer: ")][1:]


def test_a_fresh_project(tmp_path: Path, run: Run) -> None:
    project = Path(shutil.copytree(PROJECTS / "healthy", tmp_path / "fresh"))
    lines = planned(project, run, "--phase=finalization")
    matched = pytest.LineMatcher(lines)
    matched.fnmatch_lines(
        [
            "mltrainer: planning * run data, rehearse, record (not done yet)",
            "mltrainer: baseline * run train, evaluate, diagnose, documents (not done yet)",
            "mltrainer: diagnostics  perhaps (only if the baseline misses its target)",
            "mltrainer: optimization perhaps (only if the baseline misses its target)",
            "mltrainer: finalization run train, evaluate, export, service, documents (not done*",
        ]
    )
    assert len(lines) == 5


def test_a_finished_project(copied: Copied, run: Run) -> None:
    lines = planned(copied("healthy"), run, "--phase=baseline")
    pytest.LineMatcher(lines).fnmatch_lines(
        [
            "mltrainer: planning * honour (verdict * holds, nothing changed)",
            "mltrainer: baseline * judge (artifacts are current, the gate is judged live)",
        ]
    )


def test_a_change_is_named_with_the_time_that_it_costs(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    config = project / "training_config.yaml"
    config.write_text(config.read_text().replace("0.005", "0.006"))
    for name, duration_s in (("planning", 33.0), ("baseline", 180.0)):
        path = project / ".mltrainer" / name / "manifest.json"
        manifest = json.loads(path.read_text())
        for step in manifest["steps"].values():
            step["duration_s"] = 0.0
        manifest["steps"]["train" if name == "baseline" else "rehearse"]["duration_s"] = duration_s
        path.write_text(json.dumps(manifest))
    lines = planned(project, run, "--phase=baseline")
    why = "(training.learning_rate: 0.005 -> 0.006*"
    pytest.LineMatcher(lines).fnmatch_lines(
        [
            f"mltrainer: planning * run rehearse, record, about 33 s {why}",
            f"mltrainer: baseline * run train, evaluate, diagnose, documents, about 3 min {why}",
        ]
    )


def test_only_stale_steps_are_planned(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    (project / ".mltrainer" / "baseline" / "baseline_results.md").unlink()
    (line,) = planned(project, run, "--phase=baseline")[1:]
    assert " run documents" in line
    assert "artifact baseline/baseline_results.md is missing" in line


def test_a_decision_that_leads_elsewhere_is_told(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    path = project / ".mltrainer" / "baseline" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["decision"] |= {"status": "insufficient", "next": "diagnostics"}
    path.write_text(json.dumps(manifest))
    lines = planned(project, run, "--phase=finalization")
    pytest.LineMatcher(lines).fnmatch_lines(
        [
            "mltrainer: diagnostics  run bottleneck, capacity, diagnose, documents (not done yet)",
            "mltrainer: finalization perhaps (only if the diagnosis finds a way to it)",
        ]
    )


def test_a_plan_that_would_fail_is_no_failure(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    configure(project, BASELINE_FAILS)
    lines = planned(project, run, "--phase=baseline")
    assert any("judge (limits or budgets changed)" in line for line in lines)


def test_frozen_and_plan_together_only_plan(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    (project / ".mltrainer" / "baseline" / "baseline_results.md").unlink()
    assert planned(project, run, "--phase=baseline", "--mltrainer-frozen")


def test_no_check_is_run(copied: Copied, run: Run) -> None:
    result = run(copied("healthy"), "--phase=planning", "--mltrainer-plan", "-v")
    assert not any(line.startswith(ids_of("planning")[0]) for line in result.outlines)
