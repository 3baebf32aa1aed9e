"""A user's own checks belong to the gate that they name: required, blocking, judged anew."""

import pytest
from gate_runs import PASSING_CHECK, PLANNING, Copied, Run, configure, verdict, write

MARKED = PASSING_CHECK.format(phase="planning")
PLAIN = "def test_own():\n    pass\n"
WHERE = {
    "marked": ("tests/test_own.py", MARKED),
    "in the folder": ("gates/planning/test_own.py", PLAIN),
    "below the folder": ("gates/planning/deeper/test_own.py", PLAIN),
}


@pytest.mark.parametrize(("path", "text"), WHERE.values(), ids=WHERE)
def test_it_is_required(copied: Copied, run: Run, path: str, text: str) -> None:
    project = copied("healthy")
    write(project, path, text)
    result = run(project, "--phase=planning")
    result.stdout.fnmatch_lines([f"planning * PASS *{PLANNING + 1} passed*"])
    assert f"{path}::test_own" in verdict(project, "planning")["required"]
    assert verdict(project, "planning")["checks"][f"{path}::test_own"] == "pass"


@pytest.mark.parametrize(("path", "text"), WHERE.values(), ids=WHERE)
def test_it_blocks(copied: Copied, run: Run, path: str, text: str) -> None:
    project = copied("healthy")
    write(project, path, text.replace("pass", "assert False"))
    result = run(project, "--phase=baseline")
    result.stdout.fnmatch_lines(
        [
            f"planning * FAIL *{PLANNING} passed, 1 failed*",
            "baseline * BLOCKED *the gate of planning is FAIL",
        ]
    )
    assert result.ret == 1


def test_it_is_judged_anew_when_its_file_changes(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    write(project, "gates/planning/test_own.py", PLAIN)
    assert run(project, "--phase=planning").ret == 0
    plan = ["--phase=baseline", "--mltrainer-plan"]
    run(project, *plan).stdout.fnmatch_lines(["mltrainer: planning * honour (*"])
    write(project, "gates/planning/test_own.py", f"# a comment\n{PLAIN}")
    run(project, *plan).stdout.fnmatch_lines(["mltrainer: planning * honour (*"])
    write(project, "gates/planning/test_own.py", PLAIN.replace("pass", "assert True"))
    result = run(project, "--phase=baseline", "-k", "beats_trivial")
    result.stdout.fnmatch_lines(
        [
            "mltrainer: planning * judge (the source of a check changed)",
            f"planning * PASS *{PLANNING + 1} passed*",
        ]
    )


def test_it_is_judged_anew_when_one_is_new_or_gone(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    path = write(project, "test_own.py", MARKED)
    plan = ["--phase=baseline", "--mltrainer-plan"]
    run(project, *plan).stdout.fnmatch_lines(
        ["mltrainer: planning * judge (*check test_own.py::test_own is new)"]
    )
    assert run(project, "--phase=planning").ret == 0
    path.unlink()
    run(project, *plan).stdout.fnmatch_lines(
        ["mltrainer: planning * judge (*check test_own.py::test_own is gone)"]
    )


def test_each_parameter_and_method_is_a_check(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    text = """
import pytest

@pytest.mark.gate("planning")
class TestOwn:
    @pytest.mark.parametrize("n", [1, 2])
    def test_number(self, n):
        assert n

    def test_other(self):
        pass
"""
    write(project, "test_own.py", text)
    result = run(project, "--phase=planning", "--junitxml=out.xml")
    result.stdout.fnmatch_lines([f"planning * PASS *{PLANNING + 3} passed*"])
    own = [name for name in verdict(project, "planning")["required"] if "TestOwn" in name]
    assert own == [
        "test_own.py::TestOwn::test_number[1]",
        "test_own.py::TestOwn::test_number[2]",
        "test_own.py::TestOwn::test_other",
    ]


def test_the_phase_may_be_given_by_name(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    write(project, "test_own.py", MARKED.replace('"planning"', 'phase="planning"'))
    result = run(project, "--phase=planning", "-k", "test_own")
    result.stdout.fnmatch_lines(["planning * INCOMPLETE *1 passed*"])


def test_what_it_judges_is_kept(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    check = "def test_own(judge):\n    judge(3, what='moons', at_most=4)\n"
    write(project, "gates/planning/test_own.py", check)
    assert run(project, "--phase=planning").ret == 0
    ledger = project / ".mltrainer" / "planning" / "judgements.jsonl"
    assert '"moons"' in ledger.read_text().splitlines()[-1]


def test_a_tightened_limit_reaches_it(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    check = (
        "def test_own(judge, limits):\n"
        "    judge(0.3, what='recall', at_least=limits.min_class_recall)\n"
    )
    write(project, "gates/planning/test_own.py", check)
    configure(project, {"limits": {"min_class_recall": 0.3}})
    assert run(project, "--phase=planning").ret == 0
