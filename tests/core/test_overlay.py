"""The overlay repairs the configuration that it was made for, and no other."""

from pathlib import Path

import pytest

from pytest_mltrainer.core.config import Config, apply_patch, load_config
from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.core.overlay import (
    OVERLAY,
    effective_config,
    make_overlay,
    overlaid,
    overlay_of,
    repairs,
    store_overlay,
)
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.core.proposal import places, propose

PATCH = {"training.learning_rate": 0.01}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "pyproject.toml").write_text('[tool.mltrainer]\ntask = "task:Task"\n')
    write(tmp_path, "training: {learning_rate: 1e-6}\n")
    (tmp_path / ".mltrainer").mkdir()
    return Project.load(tmp_path)


def write(root: Path, text: str) -> None:
    (root / "training_config.yaml").write_text(text)


def repair(project: Project) -> None:
    config = load_config(project.config_path)
    store_overlay(project.run_folder, make_overlay(config, PATCH, "lr_too_low"))


def test_the_project_runs_with_it_and_the_file_stays(project: Project) -> None:
    before = project.config_path.read_bytes()
    repair(project)
    assert effective_config(project).training.learning_rate == 0.01
    assert project.config_path.read_bytes() == before


def test_what_is_proposed_behind_a_repair_holds_the_repair(project: Project) -> None:
    repair(project)
    patch = {"training.epochs": 50}
    proposed = propose(project.config_path, {**repairs(project), **patch}, "Proposed.")
    config = effective_config(project)
    write(project.root, proposed)
    assert load_config(project.config_path) == apply_patch(config, places(config, patch))


def test_overrides_of_the_baseline_are_repaired_too() -> None:
    config = Config.from_json({"phases": {"baseline": {"training": {"learning_rate": 1e-6}}}})
    mended = overlaid(config, make_overlay(config, PATCH, "lr_too_low"))
    assert mended.for_phase("baseline").training.learning_rate == 0.01


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("training: {learning_rate: 1e-6}\nlimits: {probe_steps: 9}\n", True),
        ("training: {learning_rate: 1e-6, epochs: 3}\n", False),
        ("training: {learning_rate: 1e-6}\nmodel: {width: 3}\n", False),
    ],
)
def test_it_lapses_with_what_training_depends_on(project: Project, text: str, holds: bool) -> None:
    repair(project)
    write(project.root, text)
    found = overlay_of(project.run_folder, load_config(project.config_path))
    assert (found is not None) == holds


def test_no_overlay_is_none(project: Project) -> None:
    assert overlay_of(project.run_folder, load_config(project.config_path)) is None


def test_a_file_that_is_none_is_named(project: Project) -> None:
    (project.run_folder / OVERLAY).write_text('{"patch": {}}')
    with pytest.raises(StorageError, match=r"overlay\.json: no overlay"):
        effective_config(project)
