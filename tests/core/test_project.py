"""The `[tool.mltrainer]` table: everything that is wrong with it, at once and by name."""

from pathlib import Path

import pytest

from pytest_mltrainer.core.errors import ConfigError
from pytest_mltrainer.core.project import Project

TASK = 'task = "digits:DigitsTask"\n'


def load(root: Path, table: str) -> Project:
    (root / "pyproject.toml").write_text(f"[tool.mltrainer]\n{table}")
    return Project.load(root)


def problems(root: Path, table: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load(root, table)
    assert all(str(root / "pyproject.toml") in problem for problem in raised.value.problems)
    return raised.value.problems


def test_least_table_has_defaults(tmp_path: Path) -> None:
    project = load(tmp_path, TASK)
    assert project.root == tmp_path
    assert project.task == "digits:DigitsTask"
    assert project.config_path == tmp_path / "training_config.yaml"
    assert project.run_folder == tmp_path / ".mltrainer"
    assert project.inputs == project.plugins == ()


def test_every_key_is_read(tmp_path: Path) -> None:
    project = load(
        tmp_path,
        TASK
        + 'config = "c.yaml"\ninputs = ["*.sql"]\nplugins = ["mine"]\nrun_folder = "out/run"\n',
    )
    assert project.config_path == tmp_path / "c.yaml"
    assert (project.inputs, project.plugins) == (("*.sql",), ("mine",))
    assert project.run_folder == tmp_path / "out" / "run"


def test_all_problems_at_once(tmp_path: Path) -> None:
    found = problems(
        tmp_path, 'tusk = "a:B"\nconfig = 3\ninputs = [1]\nrun_folder_outside_project = 1\n'
    )
    assert len(found) == 5
    text = "\n".join(found)
    assert "tusk: no such key. Did you mean 'task'?" in text
    assert "config: found 3, wanted text" in text
    assert "inputs: found [1], wanted a list of texts" in text
    assert "run_folder_outside_project: found 1, wanted true or false" in text
    assert "task: found None, wanted 'module:Class'" in text


@pytest.mark.parametrize("task", ["digits", "digits.Task", "a:b:c", ":Task", "digits:", ""])
def test_task_must_be_an_import_path(tmp_path: Path, task: str) -> None:
    (problem,) = problems(tmp_path, f'task = "{task}"\n')
    assert f"task: found '{task}', wanted 'module:Class'" in problem


@pytest.mark.parametrize(
    "content", [None, "", "[tool.other]\n", "tool = 3\n", "[tool]\nmltrainer = 3\n"]
)
def test_project_without_the_table_is_told_to_init(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "pyproject.toml").write_text(content)
    with pytest.raises(ConfigError, match=r"no \[tool.mltrainer\] table.*pytest-mltrainer init"):
        Project.load(tmp_path)


@pytest.mark.parametrize("content", [b"[tool.mltrainer\n", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_unreadable_toml_names_the_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "pyproject.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"pyproject\.toml: not readable as TOML"):
        Project.load(tmp_path)


def test_folder_in_the_place_of_the_file_is_an_error_for_people(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").mkdir()
    with pytest.raises(ConfigError, match=r"pyproject\.toml: not readable"):
        Project.load(tmp_path)


@pytest.mark.parametrize("run_folder", ["../run", "/tmp/run", "a/../../run", ".", ""])
def test_run_folder_outside_or_the_project_itself_is_refused(
    tmp_path: Path, run_folder: str
) -> None:
    (problem,) = problems(tmp_path, f'{TASK}run_folder = "{run_folder}"\n')
    assert "wanted a folder inside the project" in problem
    assert "run_folder_outside_project = true" in problem


def test_run_folder_that_links_outside_is_refused(tmp_path: Path) -> None:
    project, outside = tmp_path / "project", tmp_path / "outside"
    project.mkdir()
    outside.mkdir()
    (project / ".mltrainer").symlink_to(outside)
    assert "wanted a folder inside the project" in problems(project, TASK)[0]


def test_run_folder_outside_is_accepted_when_asked_for(tmp_path: Path) -> None:
    root = tmp_path / "project"
    root.mkdir()
    project = load(root, f'{TASK}run_folder = "../run"\nrun_folder_outside_project = true\n')
    assert project.run_folder.resolve() == tmp_path / "run"


def test_paths_are_named_relative_to_the_project(tmp_path: Path) -> None:
    project = load(tmp_path, TASK)
    assert project.relative(tmp_path / "a" / "b.csv") == "a/b.csv"
    assert project.relative(Path("/elsewhere/b.csv")) == "/elsewhere/b.csv"
