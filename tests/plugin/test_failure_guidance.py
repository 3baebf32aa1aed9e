"""What helps with a failure reaches terminal and JUnit, whatever else shapes the report."""

from pathlib import Path

import pytest
from gate_runs import PLANNING, PLANNING_FAILS, Copied, Run, case, configure, write

FAILED = "training samples of class 0: 115*, wanted at least 100000"
HELP = "possible cause: unnormalized_data. *"
MORE = "more: pytest-mltrainer explain unnormalized_data"
REPLACING = """
import pytest

@pytest.hookimpl(wrapper=True{first})
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        report.longrepr = "short and sweet"
    return report
"""


def test_terminal_and_junit(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    configure(project, PLANNING_FAILS)
    result = run(project, "--phase=planning", "-k", "data_valid", "--junitxml=out.xml")
    result.stdout.fnmatch_lines(
        [
            "*_ test_data_valid _*",
            FAILED,
            "Inputs and targets are finite, and every class of training has enough samples.",
            "this check alone: pytest --phase=planning *::test_data_valid",
            "*- guidance -*",
            HELP,
            MORE,
        ]
    )
    (failure,) = case(project / "out.xml", "gate:planning", "test_data_valid").result
    assert "wanted at least 100000" in failure.message
    assert MORE in failure.text


def shaped(project: Path, monkeypatch: pytest.MonkeyPatch, *, first: str) -> None:
    """A plugin `shaping` of the user's; the hooks of a conftest reach no check of ours."""
    write(project, "shaping.py", REPLACING.format(first=first))
    monkeypatch.syspath_prepend(project)


def test_also_when_a_plugin_replaces_the_text(
    copied: Copied, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = copied("healthy")
    configure(project, PLANNING_FAILS)
    shaped(project, monkeypatch, first="")
    result = run(
        project, "-p", "shaping", "--phase=planning", "-k", "data_valid", "--junitxml=out.xml"
    )
    result.stdout.fnmatch_lines([FAILED, "*- guidance -*", HELP, MORE])
    (failure,) = case(project / "out.xml", "gate:planning", "test_data_valid").result
    assert MORE in failure.text


def test_the_summary_stands_whatever_a_plugin_does(
    copied: Copied, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = copied("healthy")
    configure(project, PLANNING_FAILS)
    shaped(project, monkeypatch, first=", tryfirst=True")
    result = run(project, "-p", "shaping", "--phase=planning", "-k", "data_valid")
    result.stdout.fnmatch_lines([f"*fail *planning/data_valid: {FAILED}"])


def test_without_tracebacks_one_line_a_failure(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    configure(project, PLANNING_FAILS)
    write(project, "gates/planning/test_own.py", "def test_own():\n    assert 1 + 1 == 3, 'sum'\n")
    result = run(project, "--phase=planning", "--tb=no")
    result.stdout.fnmatch_lines(
        [
            f"planning * FAIL *{PLANNING - 1} passed, 2 failed*",
            f"*fail *planning/data_valid: {FAILED}",
            "*fail *gates/planning/test_own.py::test_own: AssertionError: sum*",
        ]
    )
    result.stdout.no_fnmatch_line("*- guidance -*")


def test_a_users_check_keeps_its_traceback(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    write(project, "gates/planning/test_own.py", "def test_own():\n    assert 1 + 1 == 3\n")
    result = run(project, "--phase=planning", "-k", "test_own")
    result.stdout.fnmatch_lines([">*assert 1 + 1 == 3", "E*assert (1 + 1) == 3"])


def test_also_when_a_conftest_replaces_the_text(copied: Copied, run: Run) -> None:
    """In a check of the user's, where hooks of a conftest do reach."""
    project = copied("healthy")
    write(project, "conftest.py", REPLACING.format(first=""))
    own = """
from pytest_mltrainer.core.judge import guided_by

@guided_by("unnormalized_data")
def test_own(judge):
    judge(1, what="moons", at_least=2)
"""
    write(project, "gates/planning/test_own.py", own)
    result = run(project, "--phase=planning", "-k", "test_own", "--junitxml=out.xml")
    result.stdout.fnmatch_lines(["short and sweet", "*- guidance -*", HELP, MORE])
    (failure,) = case(project / "out.xml", "gate:planning", "test_own").result
    assert MORE in failure.text
