"""A mistake of the user's is told in words, with exit status 4 and no traceback."""

import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from gate_runs import Copied, Run, everything, write
from support import PROJECTS


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    return Path(shutil.copytree(PROJECTS / "healthy", tmp_path / "fresh"))


def refused(result: pytest.RunResult, *lines: str) -> None:
    told = pytest.LineMatcher([*result.errlines, *result.outlines])
    told.fnmatch_lines(list(lines))
    told.no_fnmatch_line("*Traceback*")
    told.no_fnmatch_line("*INTERNALERROR*")
    assert result.ret == pytest.ExitCode.USAGE_ERROR


def test_no_table(tmp_path: Path, run: Run) -> None:
    refused(
        run(tmp_path, "--phase=baseline", f"--rootdir={tmp_path}"),
        "ERROR: *pyproject.toml: there is no [[]tool.mltrainer] table*`pytest-mltrainer init`*",
    )


def test_an_unknown_key_of_the_table(fresh: Path, run: Run) -> None:
    table = fresh / "pyproject.toml"
    table.write_text(table.read_text().replace("config =", "confg ="))
    refused(run(fresh, "--phase=baseline"), "*tool.mltrainer.confg: no such key*'config'*")


@pytest.mark.parametrize("task", ["task", "task.ProjectTask", "task:a:b"])
def test_a_task_that_is_no_path(fresh: Path, run: Run, task: str) -> None:
    table = fresh / "pyproject.toml"
    table.write_text(table.read_text().replace("task:ProjectTask", task))
    refused(run(fresh, "--phase=baseline"), f"*tool.mltrainer.task: found '{task}', wanted *")


@pytest.mark.parametrize("task", ["no_such_file:ProjectTask", "no.such.package:ProjectTask"])
def test_a_task_whose_module_is_not_there(fresh: Path, run: Run, task: str) -> None:
    table = fresh / "pyproject.toml"
    table.write_text(table.read_text().replace("task:ProjectTask", task))
    before = everything(fresh)
    refused(run(fresh, "--phase=baseline"), f"*tool.mltrainer.task: '{task}': no module *")
    assert everything(fresh) == before


def test_a_task_that_the_module_does_not_have(fresh: Path, run: Run) -> None:
    """Only importing the task shows it, and that is the worker's part: the phase is not done."""
    table = fresh / "pyproject.toml"
    table.write_text(table.read_text().replace("task:ProjectTask", "task:ProjectTsk"))
    result = run(fresh, "--phase=planning")
    result.stdout.fnmatch_lines(["*'ProjectTsk' is not a Task in *task.py; it has ProjectTask*"])
    assert "Traceback" not in result.stdout.str()
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert not (fresh / ".mltrainer" / "planning").exists()


def test_an_unknown_key_of_the_configuration(fresh: Path, run: Run) -> None:
    path = fresh / "training_config.yaml"
    path.write_text(path.read_text().replace("learning_rate", "learning_rat"))
    line = path.read_text().splitlines().index("  learning_rat: 0.005") + 1
    refused(
        run(fresh, "--phase=baseline"),
        f"*training_config.yaml:{line} training.learning_rat*learning_rate*",
    )


def test_several_mistakes_at_once(fresh: Path, run: Run) -> None:
    path = fresh / "training_config.yaml"
    path.write_text(path.read_text().replace("0.005", "fast").replace("epochs: 8", "epochs: 0"))
    result = run(fresh, "--phase=baseline")
    refused(result, "*training.epochs*")
    refused(result, "*training.learning_rate*'fast'*")


def test_no_configuration(fresh: Path, run: Run) -> None:
    (fresh / "training_config.yaml").unlink()
    refused(run(fresh, "--phase=baseline"), "*training_config.yaml*")


def test_an_unknown_phase(fresh: Path, run: Run) -> None:
    refused(run(fresh, "--phase=basline"), "*--phase*basline*planning*baseline*finalization*")


def test_a_mark_that_names_no_phase(fresh: Path, run: Run) -> None:
    write(
        fresh, "test_own.py", "import pytest\n@pytest.mark.gate('basline')\ndef test_own(): ...\n"
    )
    refused(
        run(fresh, "--phase=baseline"),
        "ERROR: test_own.py::test_own: @pytest.mark.gate('basline'), wanted one of planning, *",
    )


def test_an_id_that_no_check_has(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    name = "pytest_mltrainer/gates/planning/test_data.py::test_data_vlid"
    refused(
        run(project, "--phase=planning", name),
        "ERROR: *test_data_vlid: no check has this id. Did you mean *test_data_valid'[?]",
    )


def test_an_id_of_another_gate(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    name = "pytest_mltrainer/gates/planning/test_data.py::test_data_valid"
    refused(
        run(project, "--phase=baseline", name),
        f"ERROR: {name} is a check of another gate: *--phase=planning",
    )


def test_a_run_folder_in_use(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    with FileLock(project / ".mltrainer" / "lock"):
        refused(run(project, "--phase=planning"), "*another run works here*")
