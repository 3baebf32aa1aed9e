"""What the gate of planning says about a project that does not repeat, in real runs."""

import shutil
from pathlib import Path

from planted import Copied, artifact_edited, edit_task
from support import PROJECTS, QUIET, Finished, judge_check, phase_folder, reseal, run_pytest

from pytest_mltrainer.core import files
from pytest_mltrainer.training.repetition.suspects import differences

WORDS = """        words = "mean worst area smoothness compactness symmetry radius texture".split()
        place = {word: number for number, word in enumerate(set(words))}
        inputs[:, 0] = torch.tensor([place[words[row % 8]] for row in range(len(inputs))])
        targets = torch"""


def planned(tmp_path: Path, old: str, new: str) -> tuple[Path, Finished]:
    """The sound project with this edit in its task, and a run of its planning."""
    project = tmp_path / "project"
    shutil.copytree(PROJECTS / "healthy", project)
    edit_task(project, old, new)
    return project, run_pytest(project, "--phase=planning", *QUIET)


def test_a_vocabulary_in_the_order_of_a_set(tmp_path: Path) -> None:
    """Both rehearsals hash alike, so only the third one shows it."""
    project, done = planned(tmp_path, "        targets = torch", WORDS)
    assert done.returncode == 1
    assert "cause: the order of a set, or the hash of a text" in done.stdout
    assert "place = {word: number for number, word in enumerate(set(words))}" in done.stdout
    assert "go over sorted(...) of the set" in done.stdout
    assert "FAILED pytest_mltrainer/gates/planning/test_reproducibility.py::test_two_runs" in (
        done.stdout
    )
    found = files.read_json(phase_folder(project, "planning") / "rehearsal/suspects.json")
    assert [(cause["source"], cause["places"][0][:8]) for cause in found["causes"]] == [
        ("hash", "task.py:")
    ]


def test_an_operation_without_a_deterministic_form(tmp_path: Path) -> None:
    """It raises in the rehearsal: told with its name, its line and the setting, not as a crash."""
    _, done = planned(
        tmp_path,
        "        targets = torch",
        "        inputs[0].put_(torch.tensor([0, 0]), torch.ones(2))\n        targets = torch",
    )
    assert done.returncode == 1
    assert "put_ has no deterministic form" in done.stdout
    assert "deterministic_exceptions: [put_]" in done.stdout
    assert "task.py:" in done.stdout


def test_each_check_tells_the_cause_first(copied: Copied) -> None:
    project = copied("healthy")
    rehearsal = phase_folder(project, "planning") / "rehearsal"
    with artifact_edited(project, "planning/rehearsal/second.json") as second:
        second["draws"]["numpy"] = "[0.25]"
        second["loaders"]["0"][0] = "0" * 64
        second["steps"][0]["batch"] = "0" * 64
    first, second, shifted = (
        files.read_json(rehearsal / f"{name}.json") for name in ("first", "second", "shifted")
    )
    place = "task.py:31 in __getitem__: value = time.time()"
    cause = {"source": "clock", "places": [place], "effect": "step 0: batch differs"}
    about = differences(first, second, shifted, threads=1)
    explained = {"about": about, "causes": [cause], "seen": [], "why_not": ""}
    files.write_json(rehearsal / "suspects.json", explained)
    reseal(project, "planning")
    for check in ("two_runs_identical", "seeds_fixed", "loader_workers_seeded"):
        reason = judge_check(f"planning/{check}", project).reason
        assert reason.startswith(f"cause: the clock, at {place}. Instead: draw from random"), reason


def test_a_cause_of_other_differences_is_not_told(copied: Copied) -> None:
    project = copied("healthy")
    with artifact_edited(project, "planning/rehearsal/shifted.json") as shifted:
        shifted["resumed"]["steps"][1]["batch"] = "0" * 64
    stale = {"about": ["another"], "causes": [], "seen": [], "why_not": ""}
    files.write_json(phase_folder(project, "planning") / "rehearsal/suspects.json", stale)
    reseal(project, "planning")
    reason = judge_check("planning/two_runs_identical", project).reason
    assert reason.startswith("a third process")
    assert "resumed behind step 10, batch of step 12" in reason
