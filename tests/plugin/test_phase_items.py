"""The work of a phase is an item of its own, and phases keep their order."""

import pytest
from gate_runs import PASSING_CHECK, Copied, Run, collected, configure, ids_of, write

CHANGED_LIMIT = {"limits": {"max_content_duplicates": 0.002}}


def test_work_comes_before_its_gate(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    configure(project, CHANGED_LIMIT)
    write(project, "test_a_first.py", PASSING_CHECK.format(phase="planning"))
    assert collected(run(project, "--phase=baseline", "--co", "-q")) == [
        *ids_of("planning"),
        "test_a_first.py::test_own",
        *ids_of("baseline"),
    ]


def test_an_honoured_gate_is_one_item(copied: Copied, run: Run) -> None:
    found = collected(run(copied("healthy"), "--phase=baseline", "--co", "-q"))
    assert found == ["pytest_mltrainer/phases/planning.py::run", *ids_of("baseline")]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_order_does_not_mix_phases(copied: Copied, run: Run, seed: int) -> None:
    project = copied("healthy")
    configure(project, CHANGED_LIMIT)
    shuffled = ["-p", "randomly", "-p", f"randomly_seed={seed}"][:2]
    result = run(project, "--phase=baseline", "--co", "-q", *shuffled, f"--randomly-seed={seed}")
    found = collected(result)
    planning, baseline = ids_of("planning"), ids_of("baseline")
    assert found[: len(planning)] == planning
    assert found[len(planning)] == baseline[0]
    assert sorted(found) == sorted([*planning, *baseline])
    assert found[len(planning) :] != baseline, "pytest-randomly did not shuffle the target's gate"
