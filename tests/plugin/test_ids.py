"""The ids of gate checks are the same in every install and from every folder."""

import importlib
import shutil
from pathlib import Path

import pytest
from gate_runs import Copied, Run, collected, configure, ids_of
from support import run_pytest

ALL_JUDGED = {"limits": {"max_content_duplicates": 0.002}}


def test_ids_name_package_phase_and_module(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    configure(project, ALL_JUDGED)
    result = run(project, "--phase=baseline", "--co", "-q")
    assert collected(result) == ids_of("planning", "baseline")


def test_ids_do_not_depend_on_the_folder(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    configure(project, ALL_JUDGED)
    below = project / "notebooks" / "old"
    below.mkdir(parents=True)
    assert collected(run(below, "--phase=baseline", "--co", "-q")) == ids_of("planning", "baseline")
    from_outside = run(project.parent, f"--rootdir={project}", "--phase=baseline", "--co", "-q")
    assert collected(from_outside) == ids_of("planning", "baseline")


def test_ids_in_an_install_inside_the_project(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = copied("healthy")
    site = project / ".venv" / "lib" / "python3" / "site-packages"
    package = site / "pytest_mltrainer"
    source = importlib.import_module("pytest_mltrainer").__path__[0]
    shutil.copytree(source, package)
    for name in ("gates", "phases", "diagnostics"):
        part = importlib.import_module(f"pytest_mltrainer.{name}").__path__[0]
        shutil.copytree(part, package / name, dirs_exist_ok=True)
    monkeypatch.setenv("PYTHONPATH", str(site))
    done = run_pytest(project, "--phase=planning", "--co", "-q", "-p", "no:randomly")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if "::" in line] == ids_of("planning")


def test_a_users_own_gates_package_does_not_clash(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    own = project / "gates" / "planning"
    own.mkdir(parents=True)
    for folder in (own.parent, own):
        (folder / "__init__.py").touch()
    (own / "test_data.py").write_text("def test_data_valid():\n    pass\n")
    result = run(project, "--phase=planning", "--co", "-q")
    assert collected(result) == [
        *ids_of("planning"),
        "gates/planning/test_data.py::test_data_valid",
    ]


def test_no_check_is_imported_twice(copied: Copied, run: Run, tmp_path: Path) -> None:
    project = copied("healthy")
    (project / "conftest.py").write_text(
        "import sys\n"
        "def pytest_sessionfinish():\n"
        "    print('MODULES', [name for name in sys.modules if name.endswith('test_data')])\n"
    )
    result = run(project, "--phase=planning", "--co", "-q")
    result.stdout.fnmatch_lines(["MODULES ['pytest_mltrainer.gates.planning.test_data']"])
