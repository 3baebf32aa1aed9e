"""The JUnit report as other tools read it: a suite a gate, with counts and facts."""

import json
from collections.abc import Callable

import pytest
from gate_runs import (
    BASELINE,
    PLANNING,
    PLANNING_FAILS,
    Copied,
    Run,
    configure,
    ids_of,
    properties,
    recorded,
    suites,
    verdict,
    write,
)
from support import TrainedProject

Trained = Callable[..., TrainedProject]


def test_one_suite_a_gate_with_its_counts(trained: Trained) -> None:
    found = suites(trained("healthy").report)
    assert list(found) == ["gate:planning", "gate:baseline"]
    for phase in ("planning", "baseline"):
        suite = found[f"gate:{phase}"]
        assert suite.tests == len(ids_of(phase)) == len(list(suite))
        assert (suite.failures, suite.errors, suite.skipped) == (0, 0, 0)
        assert suite.time == pytest.approx(sum(entry.time for entry in suite), abs=0.01)
        assert [f"{entry.classname.replace('.', '/')}.py::{entry.name}" for entry in suite] == (
            ids_of(phase)
        )


def test_its_properties(trained: Trained) -> None:
    project = trained("healthy")
    found = suites(project.report)
    decision = json.loads((project.path / ".mltrainer" / "baseline" / "decision.json").read_text())
    assert properties(found["gate:planning"]) == {
        "mltrainer.outcome": "PASS",
        "mltrainer.verdict": verdict(project.path, "planning")["identity"],
    }
    baseline = properties(found["gate:baseline"])
    assert baseline["mltrainer.outcome"] == "PASS"
    assert baseline["mltrainer.verdict"] == verdict(project.path, "baseline")["identity"]
    assert baseline["mltrainer.decision"] == decision["status"]
    assert baseline["mltrainer.next"] == decision["next"]


def test_each_check_says_what_it_judged(trained: Trained) -> None:
    found = recorded(trained("healthy").report, "test_beats_trivial")
    (judged,) = [value for name, value in found.items() if name.startswith("judged: advantage")]
    assert "wanted above 0 by its lower bound" in judged


def test_each_gate_has_its_own_file(trained: Trained) -> None:
    for phase in ("planning", "baseline"):
        path = trained("healthy").path / ".mltrainer" / phase / "gate.xml"
        suite = suites(path)[f"gate:{phase}"]
        assert suite.tests == len(ids_of(phase)) - 1
        assert (suite.failures, suite.errors, suite.skipped) == (0, 0, 0)


@pytest.mark.parametrize("family", ["xunit1", "xunit2"])
def test_counts_of_every_kind(copied: Copied, run: Run, family: str) -> None:
    project = copied("healthy")
    configure(project, PLANNING_FAILS)
    check = """
import pytest
@pytest.mark.gate("planning")
class TestOwn:
    def test_cannot(self, judge):
        judge.cannot("nothing there")
    def test_not_applicable(self, judge):
        judge.not_applicable("no series")
    def test_skipped(self):
        pytest.skip("later")
"""
    write(project, "checks/test_own.py", check)
    result = run(project, "--phase=planning", "--junitxml=out.xml", "-o", f"junit_family={family}")
    assert result.ret == 1
    found = suites(project / "out.xml")
    assert list(found) == ["gate:planning"]
    suite = found["gate:planning"]
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (PLANNING + 4, 1, 1, 2)
    assert properties(suite)["mltrainer.outcome"] == "FAIL"


def test_a_phase_that_was_not_done(copied: Copied, run: Run) -> None:
    project = copied("own_files", "planning")
    run(project, "--phase=baseline", "--mltrainer-frozen", "--junitxml=out.xml")
    suite = suites(project / "out.xml")["gate:baseline"]
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (
        BASELINE + 1,
        1,
        0,
        BASELINE,
    )
    found = properties(suite)
    assert found["mltrainer.outcome"] == "FAIL"
    assert "not done yet" in found["mltrainer.note"]
