"""With `--phase`, tests that belong to no gate are left out, and counted in one line."""

from gate_runs import PASSING_CHECK, PLANNING, Copied, Run, write

ORDINARY = (
    "import pytest\n@pytest.mark.parametrize('n', [1, 2])\ndef test_plain(n):\n    assert 0\n"
)


def test_ordinary_tests_are_deselected_and_counted(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    write(project, "test_plain.py", ORDINARY)
    result = run(project, "--phase=planning")
    result.assert_outcomes(passed=PLANNING + 1, deselected=2)
    result.stdout.fnmatch_lines(["mltrainer: 2 ordinary tests are no part of a gate"])
    assert result.ret == 0


def test_checks_of_a_later_gate_are_ordinary_now(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    write(project, "test_own.py", PASSING_CHECK.format(phase="baseline"))
    write(project, "gates/finalization/test_more.py", "def test_more():\n    pass\n")
    result = run(project, "--phase=planning")
    result.assert_outcomes(passed=PLANNING + 1, deselected=2)
    assert result.ret == 0


def test_nothing_is_said_of_none(copied: Copied, run: Run) -> None:
    result = run(copied("healthy"), "--phase=planning", "--co")
    result.stdout.no_fnmatch_line("mltrainer: *ordinary tests*")
