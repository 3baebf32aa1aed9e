"""Whose fixture a check gets: ours inside our gates, the user's own in the user's checks."""

from gate_runs import PLANNING, Copied, Run, write

REPLACING = """
import pytest

def replaced(request):
    return "replaced"

for name in ("limits", "evaluation", "judge", "training_run", "splits", "telemetry"):
    globals()[name] = pytest.fixture(name=name)(replaced)
"""


def test_ours_win_inside_our_gates(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    write(project, "conftest.py", REPLACING)
    result = run(project, "--phase=planning")
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"planning * PASS *{PLANNING} passed*"])


def test_evaluation_too(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    write(project, "conftest.py", REPLACING)
    result = run(project, "--phase=baseline", "-k", "beats_trivial or telemetry")
    result.stdout.fnmatch_lines(["baseline * INCOMPLETE *2 passed*"])


def test_a_users_check_gets_the_users_own(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    write(project, "conftest.py", REPLACING)
    check = "def test_own(limits, judge):\n    assert (limits, judge) == ('replaced', 'replaced')\n"
    write(project, "gates/planning/test_own.py", check)
    result = run(project, "--phase=planning", "-k", "test_own")
    result.stdout.fnmatch_lines(["planning * INCOMPLETE *1 passed*"])


def test_else_a_users_check_gets_ours(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    check = """
def test_own(limits, judge, training_run, splits, telemetry, evaluation):
    judge(len(splits.train), what="training rows", at_least=limits.min_train_rows_per_class)
    assert training_run.phase == "baseline" and len(telemetry.steps) and evaluation.validation
"""
    write(project, "gates/baseline/test_own.py", check)
    result = run(project, "--phase=baseline", "-k", "test_own")
    result.stdout.fnmatch_lines(["baseline * INCOMPLETE *1 passed*"])
