"""0 only when every gate up to the target is PASS, or when nothing was to be judged."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from gate_runs import PLANNING_FAILS, Copied, Run, configure, everything, write
from support import PROJECTS, TrainedProject

ONLY_SHOWN = ["--co", "--setup-plan", "--setup-only", "--mltrainer-plan"]


def test_all_gates_passed(trained: Callable[..., TrainedProject]) -> None:
    assert trained("healthy").returncode == 0


@pytest.mark.parametrize("option", ONLY_SHOWN)
def test_what_only_shows_exits_0_and_writes_nothing(tmp_path: Path, run: Run, option: str) -> None:
    project = Path(shutil.copytree(PROJECTS / "healthy", tmp_path / "fresh"))
    before = everything(project)
    assert run(project, "--phase=finalization", option).ret == pytest.ExitCode.OK
    assert everything(project) == before


@pytest.mark.parametrize("option", ONLY_SHOWN)
def test_what_only_shows_leaves_verdicts_alone(copied: Copied, run: Run, option: str) -> None:
    project = copied("healthy")
    configure(project, PLANNING_FAILS)
    (project / ".mltrainer" / "baseline" / "telemetry" / "steps.rec").unlink()
    before = everything(project)
    assert run(project, "--phase=baseline", option).ret in (0, 1)
    assert everything(project) == before


def test_a_failed_gate_before_the_target(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    configure(project, PLANNING_FAILS)
    assert run(project, "--phase=baseline").ret == pytest.ExitCode.TESTS_FAILED


def test_no_check_selected(copied: Copied, run: Run) -> None:
    result = run(copied("healthy"), "--phase=planning", "-k", "nothing_is_called_this")
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_a_session_that_is_ended_keeps_its_status_and_the_verdict(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    gate = project / ".mltrainer" / "planning" / "verdict.json"
    before = gate.read_bytes()
    own = "import pytest\ndef test_own():\n    pytest.exit('enough', returncode=9)\n"
    write(project, "gates/planning/test_own.py", own)
    result = run(project, "--phase=planning")
    assert result.ret == 9
    assert gate.read_bytes() == before
