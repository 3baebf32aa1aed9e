"""Selecting tests touches the target's gate alone, and a part of a gate is never a PASS."""

from pathlib import Path

import pytest
from gate_runs import (
    BASELINE,
    BASELINE_FAILS,
    BEATS_TRIVIAL,
    DATA_VALID,
    PASSING_CHECK,
    PLANNING,
    PLANNING_FAILS,
    Copied,
    Run,
    configure,
    ids_of,
    unconfigure,
    verdict,
    write,
)
from support import phase_folder

EVERY_PLANNING_CHECK = f"planning * PASS *{PLANNING} passed*"
CHANGED_LIMIT = {"limits": {"max_content_duplicates": 0.002}}


def stored(project: Path, phase: str) -> bytes:
    return (phase_folder(project, phase) / "verdict.json").read_bytes()


@pytest.mark.parametrize(
    "selection",
    [
        ["-k", "beats_trivial"],
        ["-m", "no_such_mark"],
        ["--deselect", DATA_VALID],
        ["--deselect", "pytest_mltrainer/gates/planning", "-k", "beats_trivial"],
        [BEATS_TRIVIAL],
    ],
    ids=["-k", "-m", "--deselect", "--deselect of a gate", "an id"],
)
def test_the_gates_before_are_judged_whole(copied: Copied, run: Run, selection: list[str]) -> None:
    project = copied("healthy")
    configure(project, CHANGED_LIMIT)
    if "-k" not in selection and BEATS_TRIVIAL not in selection and "-m" not in selection:
        selection = [*selection, "-x", "-k", "beats_trivial"]
    result = run(project, "--phase=baseline", *selection)
    result.stdout.fnmatch_lines([EVERY_PLANNING_CHECK, "baseline * INCOMPLETE *"])
    assert result.ret == 1


@pytest.mark.parametrize("selection", [["-k", "beats_trivial"], [BEATS_TRIVIAL]], ids=["-k", "id"])
def test_a_failing_gate_before_blocks(copied: Copied, run: Run, selection: list[str]) -> None:
    project = copied("healthy")
    configure(project, PLANNING_FAILS)
    result = run(project, "--phase=baseline", *selection)
    result.stdout.fnmatch_lines(["planning * FAIL *", "baseline * BLOCKED *"])
    result.assert_outcomes(passed=PLANNING, failed=1)
    assert result.ret == 1


@pytest.mark.parametrize(
    "selection",
    [
        ["-k", "nothing_is_called_this"],
        ["-k", "not data_valid"],
        ["-m", "nothing_is_marked_this"],
        ["--deselect", DATA_VALID],
        [DATA_VALID],
        ["--deselect", "pytest_mltrainer/gates/planning/test_data.py"],
    ],
    ids=["-k nothing", "-k", "-m", "--deselect", "an id", "--deselect of a module"],
)
def test_a_part_of_a_gate_is_incomplete(copied: Copied, run: Run, selection: list[str]) -> None:
    project = copied("healthy")
    before = stored(project, "planning")
    result = run(project, "--phase=planning", *selection)
    result.stdout.fnmatch_lines(["planning * INCOMPLETE *not run*", "next: run the whole gate: *"])
    assert result.ret == 1
    assert stored(project, "planning") == before


@pytest.mark.parametrize(
    "body",
    [
        "pytest.skip('not today')",
        "pytest.xfail('known')",
        "pytest.importorskip('no_such_module_here')",
    ],
)
def test_a_check_that_did_not_run_is_missing(copied: Copied, run: Run, body: str) -> None:
    project = copied("healthy")
    before = stored(project, "planning")
    write(project, "gates/planning/test_own.py", f"import pytest\ndef test_own():\n    {body}\n")
    result = run(project, "--phase=planning")
    result.stdout.fnmatch_lines([f"planning * INCOMPLETE *{PLANNING} passed, 1 not run*"])
    assert result.ret == 1
    assert stored(project, "planning") == before


@pytest.mark.parametrize("mark", ["skip(reason='later')", "skipif(True, reason='x')", "xfail"])
def test_a_marked_check_is_missing(copied: Copied, run: Run, mark: str) -> None:
    project = copied("healthy")
    check = f"import pytest\n@pytest.mark.{mark}\ndef test_own():\n    assert False\n"
    write(project, "gates/planning/test_own.py", check)
    result = run(project, "--phase=planning")
    result.stdout.fnmatch_lines(["planning * INCOMPLETE *1 not run*"])
    assert result.ret == 1


def test_last_failed_runs_the_failed_check_and_is_incomplete(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    configure(project, PLANNING_FAILS)
    failed = run(project, "--phase=planning", "-p", "cacheprovider")
    failed.assert_outcomes(passed=PLANNING, failed=1)
    unconfigure(project, PLANNING_FAILS)
    result = run(project, "--phase=planning", "--lf", "-p", "cacheprovider")
    result.stdout.fnmatch_lines([f"planning * INCOMPLETE *1 passed, {PLANNING - 1} not run*"])
    assert result.ret == 1
    assert verdict(project, "planning")["outcome"] == "FAIL"


def test_last_failed_of_the_target_judges_the_gates_before_whole(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    configure(project, BASELINE_FAILS)
    run(project, "--phase=baseline", "-k", "time_budget", "-p", "cacheprovider")
    unconfigure(project, BASELINE_FAILS)
    configure(project, CHANGED_LIMIT)
    result = run(project, "--phase=baseline", "--lf", "-p", "cacheprovider")
    result.stdout.fnmatch_lines(
        [EVERY_PLANNING_CHECK, f"baseline * INCOMPLETE *1 passed, {BASELINE - 1} not run*"]
    )


def test_last_failed_without_a_failure_runs_all(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    result = run(project, "--phase=planning", "--lf", "-p", "cacheprovider")
    result.stdout.fnmatch_lines([EVERY_PLANNING_CHECK])
    assert result.ret == 0


def test_failed_first_keeps_the_work_first(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    configure(project, PLANNING_FAILS)
    run(project, "--phase=planning", "-p", "cacheprovider")
    unconfigure(project, PLANNING_FAILS)
    result = run(project, "--phase=planning", "--ff", "-v", "-p", "cacheprovider")
    ran = [line.split()[0] for line in result.outlines if " PASSED" in line]
    assert ran[:2] == [ids_of("planning")[0], DATA_VALID]
    assert sorted(ran) == sorted(ids_of("planning"))
    assert result.ret == 0


@pytest.mark.parametrize("stop", ["-x", "--maxfail=1"])
def test_stopping_at_a_failure_leaves_the_rest_unjudged(
    copied: Copied, run: Run, stop: str
) -> None:
    project = copied("healthy")
    configure(project, PLANNING_FAILS)
    result = run(project, "--phase=baseline", stop)
    result.stdout.fnmatch_lines(["planning * FAIL *1 failed*not run*", "baseline * not reached*"])
    assert result.ret == 1
    assert verdict(project, "planning")["outcome"] == "FAIL"
    assert verdict(project, "baseline")["outcome"] == "PASS"


def test_a_failure_in_a_part_is_written(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    configure(project, PLANNING_FAILS)
    result = run(project, "--phase=planning", "-k", "data_valid")
    assert result.ret == 1
    assert verdict(project, "planning")["outcome"] == "FAIL"


def test_marks_select_within_the_target(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    write(project, "test_own.py", PASSING_CHECK.format(phase="planning"))
    result = run(project, "--phase=planning", "-m", "gate")
    result.stdout.fnmatch_lines([f"planning * INCOMPLETE *1 passed, {PLANNING} not run*"])
    assert result.ret == 1
