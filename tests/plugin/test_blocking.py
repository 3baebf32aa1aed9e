"""A phase does not start behind a gate that is not PASS, and says why."""

from gate_runs import (
    BASELINE,
    BASELINE_FAILS,
    PLANNING_FAILS,
    Copied,
    Run,
    case,
    configure,
    properties,
    suites,
    trained_bytes,
    verdict,
    write,
)


def test_everything_behind_a_failed_gate_is_blocked(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    before = trained_bytes(project, "baseline")
    configure(project, PLANNING_FAILS)
    result = run(project, "--phase=baseline", "-v", "--junitxml=blocked.xml")
    result.stdout.fnmatch_lines(
        [
            "pytest_mltrainer/phases/baseline.py::run BLOCKED *",
            "pytest_mltrainer/gates/baseline/*::test_losses_finite BLOCKED *",
            "baseline * BLOCKED *the gate of planning is FAIL*",
            f"*{BASELINE + 1} blocked*",
        ]
    )
    assert result.ret == 1
    assert trained_bytes(project, "baseline") == before
    assert verdict(project, "baseline")["outcome"] == "PASS", "blocking judges nothing"
    suite = suites(project / "blocked.xml")["gate:baseline"]
    assert (suite.tests, suite.skipped, suite.failures, suite.errors) == (
        BASELINE + 1,
        BASELINE + 1,
        0,
        0,
    )
    assert properties(suite)["mltrainer.outcome"] == "BLOCKED"
    (skipped,) = case(project / "blocked.xml", "gate:baseline", "test_losses_finite").result
    assert "BLOCKED: the gate of planning is FAIL" in skipped.message


def test_an_incomplete_gate_blocks_too(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    skipped = "import pytest\ndef test_own():\n    pytest.skip('not today')\n"
    write(project, "gates/planning/test_own.py", skipped)
    result = run(project, "--phase=baseline", "-k", "beats_trivial")
    result.stdout.fnmatch_lines(
        ["planning * INCOMPLETE *", "baseline * BLOCKED *the gate of planning is INCOMPLETE*"]
    )
    assert result.ret == 1


def test_two_gates_on_blocked_is_blocked(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    configure(project, PLANNING_FAILS)
    result = run(project, "--phase=finalization")
    result.stdout.fnmatch_lines(["baseline * BLOCKED *", "finalization *BLOCKED *"])
    assert result.ret == 1
    assert not (project / ".mltrainer" / "finalization").exists()


def test_a_failed_baseline_blocks_finalization(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    configure(project, BASELINE_FAILS)
    result = run(project, "--phase=finalization")
    result.stdout.fnmatch_lines(
        ["baseline * FAIL *1 failed*", "finalization *BLOCKED *the gate of baseline is FAIL*"]
    )
    assert result.ret == 1
    assert not (project / ".mltrainer" / "finalization").exists()
