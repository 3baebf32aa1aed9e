"""Code and data of a training are seen rather than declared."""

import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_trainings import Blobs, small_config

from pytest_mltrainer import Config, Splits
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.training.tracking import load_data, project_code, project_data


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    (tmp_path / "pyproject.toml").write_text('[tool.mltrainer]\ntask = "task:T"\n')
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield Project.load(tmp_path)
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None)
        if file and Path(file).is_relative_to(tmp_path):
            del sys.modules[name]


class Reading(Blobs):
    """Does something with files while its data are made."""

    def __init__(self, read: Callable[[], object], declared: Any = None) -> None:
        self.read = read
        self.declared = declared

    def data(self, config: Config) -> Splits:
        self.read()
        return super().data(config)

    def data_files(self, config: Config) -> Any:
        return self.declared


def seen(project: Project, read: Callable[[], object]) -> tuple[str, ...]:
    return project_data(project, load_data(Reading(read), small_config())[1])


def by_open(path: Path) -> None:
    path.open().close()


def by_text_name(path: Path) -> None:
    open(str(path), "rb").close()  # noqa: PTH123 - another way to open is what is tested


def by_numpy(path: Path) -> None:
    np.load(path)


def by_memory_map(path: Path) -> None:
    np.load(path, mmap_mode="r")


def by_torch(path: Path) -> None:
    torch.load(path, weights_only=True)


def by_bytes_name(path: Path) -> None:
    open(os.fsencode(path), "rb").close()  # noqa: PTH123


@pytest.mark.parametrize(
    "read", [by_open, by_text_name, by_bytes_name, by_numpy, by_memory_map, by_torch]
)
def test_opened_file_is_data(project: Project, read: Callable[[Path], None]) -> None:
    path = project.root / "data" / "rows.bin"
    path.parent.mkdir()
    if read is by_torch:
        torch.save(torch.zeros(3), path)
    else:
        with path.open("wb") as stream:
            np.save(stream, np.zeros(3))
    assert seen(project, lambda: read(path)) == ("data/rows.bin",)


def test_file_opened_for_each_sample_is_found_by_the_first(project: Project) -> None:
    path = project.root / "sample.txt"
    path.write_text("1")

    class Lazy(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 3

        def __getitem__(self, index: int) -> Any:
            return torch.tensor(float(path.read_text())), torch.tensor(0)

    class Task(Blobs):
        def data(self, config: Config) -> Splits:
            return Splits(train=Lazy(), validation=Lazy(), test=Lazy())

    assert project_data(project, load_data(Task(), small_config())[1]) == ("sample.txt",)


def test_file_opened_by_a_thread_is_data(project: Project) -> None:
    path = project.root / "shard.csv"
    path.write_text("1")

    def read() -> None:
        reader = threading.Thread(target=path.read_text)
        reader.start()
        reader.join()

    assert seen(project, read) == ("shard.csv",)


def test_each_file_stands_once_in_the_order_of_reading(project: Project) -> None:
    for name in ("b.csv", "a.csv"):
        (project.root / name).write_text("1")

    def read() -> None:
        for name in ("b.csv", "a.csv", "b.csv"):
            (project.root / name).read_text()

    assert seen(project, read) == ("b.csv", "a.csv")


def test_written_files_code_and_the_run_folder_are_no_data(project: Project) -> None:
    helper = project.root / "lazy_helper.py"
    helper.write_text("VALUE = 3\n")
    (project.run_folder).mkdir()
    (project.run_folder / "cache.json").write_text("{}")

    def read() -> None:
        (project.root / "written.txt").write_text("1")
        importlib.import_module("lazy_helper")
        (project.run_folder / "cache.json").read_text()

    assert seen(project, read) == ()


def test_folder_whose_name_begins_like_the_run_folder_is_data(project: Project) -> None:
    path = project.root / ".mltrainer_data" / "rows.csv"
    path.parent.mkdir()
    path.write_text("1")
    assert seen(project, lambda: path.read_text()) == (".mltrainer_data/rows.csv",)


def test_python_files_of_packages_are_no_data_but_their_tables_are(project: Project) -> None:
    from sklearn.datasets import load_iris

    def read() -> None:
        load_iris()
        Path(np.__file__).read_text()

    assert seen(project, read) == (
        "site-packages:sklearn/datasets/data/iris.csv",
        "site-packages:sklearn/datasets/descr/iris.rst",
    )


def test_nothing_is_watched_outside_of_loading(project: Project) -> None:
    path = project.root / "later.csv"
    path.write_text("1")
    assert seen(project, lambda: None) == ()
    path.read_text()
    assert seen(project, lambda: None) == ()


def test_error_in_data_ends_the_watching(project: Project) -> None:
    def fail() -> None:
        raise RuntimeError("no data")

    with pytest.raises(RuntimeError, match="no data"):
        load_data(Reading(fail), small_config())
    (project.root / "x.csv").write_text("1")
    assert seen(project, lambda: None) == ()


def test_declared_files_replace_the_seen_ones(project: Project) -> None:
    declared, other = project.root / "declared.csv", project.root / "other.csv"
    for path in (declared, other):
        path.write_text("1")
    task = Reading(lambda: other.read_text(), [declared])
    assert project_data(project, load_data(task, small_config())[1]) == ("declared.csv",)


def test_declared_file_that_is_not_there_is_named(project: Project) -> None:
    task = Reading(lambda: None, [project.root / "absent.csv"])
    with pytest.raises(UserError, match=r"data_files\(\): no such file: .*absent\.csv"):
        load_data(task, small_config())


def test_imported_helpers_are_code(project: Project) -> None:
    for name, text in {
        "user_task.py": "import user_helpers.deep\n",
        "user_helpers/__init__.py": "",
        "user_helpers/deep.py": "",
        "never_imported.py": "",
        ".venv/lib/site-packages/packaged_thing.py": "",
    }.items():
        path = project.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    sys.path.insert(0, str(project.root / ".venv/lib/site-packages"))
    try:
        importlib.import_module("user_task")
        importlib.import_module("packaged_thing")
    finally:
        sys.path.pop(0)
    assert project_code(project) == (
        "user_helpers/__init__.py",
        "user_helpers/deep.py",
        "user_task.py",
    )
