"""Options and plugins that change how pytest runs do not change the verdict."""

import pytest
from gate_runs import PLANNING_FAILS, Copied, Run, configure, verdict
from support import run_pytest

IN_PROCESS = [
    ["--tb=no"],
    ["-s"],
    ["-q", "-q"],
    ["-p", "no:cacheprovider"],
    ["-p", "no:junitxml"],
    ["-p", "no:logging"],
    ["-p", "randomly", "--randomly-seed=5"],
    ["--reruns=1"],
    ["--timeout=300"],
    ["--import-mode=importlib"],
    ["--strict-markers", "--strict-config"],
]
IN_A_PROCESS_OF_ITS_OWN = [
    ["-W", "error"],
    ["-p", "no:terminal"],
    ["--cov", "--cov-report="],
    ["-p", "no:assertion"],
]


@pytest.mark.parametrize("args", IN_PROCESS, ids=" ".join)
def test_same_verdict(copied: Copied, run: Run, args: list[str]) -> None:
    project = copied("healthy")
    before = verdict(project, "planning")
    assert run(project, "--phase=planning", *args).ret == 0
    assert verdict(project, "planning") == before
    configure(project, PLANNING_FAILS)
    assert run(project, "--phase=planning", *args).ret == 1
    assert verdict(project, "planning")["outcome"] == "FAIL"
    failed = [name for name, how in verdict(project, "planning")["checks"].items() if how == "fail"]
    assert failed == ["planning/data_valid"]


@pytest.mark.parametrize("args", IN_A_PROCESS_OF_ITS_OWN, ids=" ".join)
def test_same_verdict_in_a_process_of_its_own(copied: Copied, args: list[str]) -> None:
    project = copied("healthy")
    before = verdict(project, "planning")
    ledger = project / ".mltrainer" / "planning" / "judgements.jsonl"
    judged = len(ledger.read_text().splitlines())
    done = run_pytest(project, "--phase=planning", "-p", "no:randomly", *args)
    assert done.returncode == 0, done.stdout + done.stderr
    assert verdict(project, "planning") == before
    assert len(ledger.read_text().splitlines()) == judged + 1
