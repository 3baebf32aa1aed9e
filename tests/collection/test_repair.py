"""What is written about the pipeline's repairs, and the projects that they are measured on."""

from dataclasses import replace
from pathlib import Path

import pytest
from support import inside

from pytest_mltrainer.core.config import load_config
from pytest_mltrainer.training.task import load_task

from .cases import collected
from .repair import KINDS, page, summary
from .repair_projects import make_project
from .repairs import Repair

REACHED = Repair(
    case="a", label="underfitting", metric="accuracy", sick=0.4, cured=0.9, target=0.65,
    issue="underfitting", path="planning > baseline 0.4", decision="target met", value=0.8,
    ending="reached", said="", objections=("val_test_gap",), trainings=12, cost=9.5,
    duration_s=60.0,
)  # fmt: skip
MISSED = replace(
    REACHED, case="b", ending="explained", said="accepted short of target", objections=(), cost=30.0
)
LOST = replace(REACHED, case="c", ending="unexplained", path="", value=None, objections=())


def test_the_summary_counts_every_ending_and_the_cost_of_repairs_alone() -> None:
    lines = summary([REACHED, MISSED, LOST])
    assert [line.partition(" of 3")[0] for line in lines[:3]] == [
        "Repaired: 1", "Explained: 1", "Neither: 1",
    ]  # fmt: skip
    assert "9.5 times" in lines[3]
    assert "30" not in lines[3]


def test_the_page_shows_what_was_said_and_what_the_gate_holds_against_it() -> None:
    text = page([REACHED, MISSED])
    assert "- `a`: val_test_gap" in text
    assert "- `b`: accepted short of target" in text


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    for repair in (REACHED, MISSED, LOST):
        repair.save(tmp_path / "result.json")
        assert Repair.load(tmp_path / "result.json") == repair


@pytest.mark.parametrize("kind", KINDS)
def test_a_case_becomes_a_project_of_its_own(kind: str, tmp_path: Path) -> None:
    case = next(case for case in collected("develop").values() if case.label == kind)
    project = make_project(case, 0.5, tmp_path)
    config = load_config(project.config_path)
    assert config.objective.target == 0.5
    with inside(project.root):
        task = load_task(project.task)
        same = [
            task.data(config.model_copy(update={"seed": seed})).train[0][0].tolist()
            for seed in (1, 2)
        ]
    assert same[0] == same[1], "another seed must not mean other rows"
