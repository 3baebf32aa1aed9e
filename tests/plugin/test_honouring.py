"""A PASS that still holds is honoured, a FAIL is judged again; neither trains."""

from gate_runs import (
    BASELINE,
    PLANNING,
    PLANNING_FAILS,
    Copied,
    Run,
    configure,
    properties,
    recorded,
    suites,
    trained_bytes,
    unconfigure,
    verdict,
)


def test_an_honoured_gate_is_one_passing_item(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    identity = verdict(project, "planning")["identity"]
    result = run(project, "--phase=baseline", "-k", "beats_trivial", "--junitxml=again.xml")
    result.assert_outcomes(passed=3, deselected=BASELINE - 1)
    result.stdout.fnmatch_lines(
        [
            "mltrainer: planning * honour (verdict * holds, nothing changed)",
            f"planning * PASS *HONOURED *verdict {identity[:12]}",
        ]
    )
    suite = suites(project / "again.xml")["gate:planning"]
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (1, 0, 0, 0)
    assert properties(suite)["mltrainer.outcome"] == "PASS"
    assert properties(suite)["mltrainer.verdict"] == identity
    assert recorded(project / "again.xml", "run")["mltrainer.status"] == "HONOURED"


def test_the_target_is_always_judged_live(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    before = verdict(project, "planning")
    ledger = project / ".mltrainer" / "planning" / "judgements.jsonl"
    judged = len(ledger.read_text().splitlines())
    result = run(project, "--phase=planning")
    result.assert_outcomes(passed=PLANNING + 1)
    result.stdout.fnmatch_lines(["mltrainer: planning * judge (artifacts are current, *"])
    assert verdict(project, "planning") == before
    assert len(ledger.read_text().splitlines()) == judged + 1


def test_a_failure_is_judged_again_without_retraining(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    before = trained_bytes(project, "planning") | trained_bytes(project, "baseline")
    configure(project, PLANNING_FAILS)
    for _ in range(2):
        result = run(project, "--phase=baseline")
        result.assert_outcomes(passed=PLANNING, failed=1)
        result.stdout.fnmatch_lines([f"planning * FAIL *{PLANNING - 1} passed, 1 failed*"])
        assert "HONOURED" not in result.stdout.str()
    unconfigure(project, PLANNING_FAILS)
    result = run(project, "--phase=baseline", "-k", "beats_trivial")
    result.stdout.fnmatch_lines(
        ["mltrainer: planning * judge (*", f"planning * PASS *{PLANNING} passed*"]
    )
    assert trained_bytes(project, "planning") | trained_bytes(project, "baseline") == before


def test_only_the_unbroken_prefix_is_honoured(copied: Copied, run: Run) -> None:
    """A verdict that holds does not help behind one that does not."""
    project = copied("healthy")
    (project / ".mltrainer" / "planning" / "verdict.json").unlink()
    result = run(project, "--phase=finalization", "--mltrainer-plan")
    result.stdout.fnmatch_lines(
        ["mltrainer: planning * judge (*", "mltrainer: baseline * judge (*"]
    )
    assert "honour" not in result.stdout.str()
