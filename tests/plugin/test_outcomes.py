"""The outcomes beside pass and fail: cannot judge, not applicable, and what counts of several."""

from pathlib import Path

import junitparser
import pytest
from gate_runs import PLANNING, Copied, Run, case, properties, suites, verdict, write
from support import plant

OWN = "gates/planning/test_own.py"
OWN_CASE = ("gate:planning", "test_own")


def own_check(project: Path, body: str) -> None:
    write(project, OWN, f"def test_own(judge):\n    {body}\n")


def test_cannot_judge_is_an_error(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    own_check(project, "judge.cannot('three samples are too few')")
    result = run(project, "--phase=planning", "-v", "--junitxml=out.xml")
    result.stdout.fnmatch_lines(
        [
            f"{OWN}::test_own CANNOT JUDGE *",
            f"planning * FAIL *{PLANNING} passed, 1 cannot be judged*",
            f"*cannot judge *{OWN}::test_own: three samples are too few",
            f"*{PLANNING + 1} passed*1 error*",
        ]
    )
    assert result.ret == 1
    suite = suites(project / "out.xml")["gate:planning"]
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (PLANNING + 2, 0, 1, 0)
    (error,) = case(project / "out.xml", *OWN_CASE).result
    assert isinstance(error, junitparser.Error)
    assert "three samples are too few" in str(error.text)
    assert verdict(project, "planning")["checks"][f"{OWN}::test_own"] == "cannot judge"


@pytest.mark.parametrize(
    "measured", ["float('nan')", "float('inf')"], ids=["not a number", "infinite"]
)
def test_what_is_not_finite_cannot_be_judged(copied: Copied, run: Run, measured: str) -> None:
    project = copied("healthy")
    own_check(project, f"judge({measured}, what='gap', at_least=0.0)")
    result = run(project, "--phase=planning", "-k", "test_own")
    result.stdout.fnmatch_lines(["planning * FAIL *1 cannot be judged*"])


def test_a_built_in_check_cannot_judge_what_is_not_there(copied: Copied, run: Run) -> None:
    project = plant(
        copied("healthy"), lambda folder: (folder / "environment.json").unlink(), "planning"
    )
    result = run(project, "--phase=planning", "--junitxml=out.xml")
    assert result.ret == 1
    (error,) = case(project / "out.xml", "gate:planning", "test_environment_captured").result
    assert isinstance(error, junitparser.Error)
    assert verdict(project, "planning")["checks"]["planning/environment_captured"] == "cannot judge"


def test_not_applicable_is_a_pass_that_gives_its_reason(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    own_check(project, "judge.not_applicable('nothing here is a time series')")
    result = run(project, "--phase=planning", "-v", "-rs", "--junitxml=out.xml")
    result.stdout.fnmatch_lines(
        [
            f"{OWN}::test_own NOT APPLICABLE *",
            f"planning * PASS *{PLANNING} passed, 1 not applicable*",
        ]
    )
    assert result.ret == 0
    (skipped,) = case(project / "out.xml", *OWN_CASE).result
    assert isinstance(skipped, junitparser.Skipped)
    assert skipped.message == "not applicable: nothing here is a time series"
    assert properties(suites(project / "out.xml")["gate:planning"])["mltrainer.outcome"] == "PASS"
    assert verdict(project, "planning")["checks"][f"{OWN}::test_own"] == "not applicable"


def test_the_terminal_gives_the_reason_of_not_applicable(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    own_check(project, "judge.not_applicable('nothing here is a time series')")
    run(project, "--phase=planning").stdout.fnmatch_lines(["*nothing here is a time series*"])


def test_an_exception_in_a_check_is_a_failure(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    own_check(project, "raise ZeroDivisionError('by hand')")
    result = run(project, "--phase=planning", "-k", "test_own")
    result.stdout.fnmatch_lines(["*ZeroDivisionError: by hand*", "planning * FAIL *1 failed*"])
    assert result.ret == 1


@pytest.mark.parametrize("where", ["setup", "teardown"])
def test_what_goes_wrong_around_a_check_counts(copied: Copied, run: Run, where: str) -> None:
    project = copied("healthy")
    steps = {"setup": "assert False; yield", "teardown": "yield; assert False"}
    write(
        project,
        OWN,
        "import pytest\n@pytest.fixture\ndef around():\n    "
        f"{steps[where]}\ndef test_own(around):\n    pass\n",
    )
    result = run(project, "--phase=planning", "-k", "test_own")
    result.stdout.fnmatch_lines(["planning * FAIL *1 failed*"])
    assert result.ret == 1


FLAKY = """
calls = []

def test_own():
    calls.append(1)
    assert len(calls) > 1
"""


def test_of_several_runs_of_a_check_the_worst_counts(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    write(project, OWN, FLAKY)
    result = run(project, "--phase=planning", "--reruns=1", "-k", "test_own")
    result.assert_outcomes(passed=2, deselected=PLANNING)
    result.stdout.fnmatch_lines(["planning * FAIL *1 failed*", "*1 rerun*"])
    assert result.ret == 1
    assert verdict(project, "planning")["outcome"] == "FAIL"
