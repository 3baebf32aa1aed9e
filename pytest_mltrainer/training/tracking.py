"""What a training is made from, seen rather than declared: files of data and of code."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.inputs import data_name
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.training.task import Splits, Task, checked_splits

_CODE_SUFFIXES = frozenset({".py", ".pyc", ".pyi", ".so", ".pyd", ".pth", ".toml"})
_METADATA_SUFFIXES = (".dist-info", ".egg-info")
_SYSTEM_FOLDERS = ("/proc/", "/sys/", "/dev/", "/etc/")

LIMIT_FOLDERS = 10_000

_opened: list[str] | None = None


def load_data(task: Task, config: Config) -> tuple[Splits, tuple[str, ...]]:
    """The task's splits, and the files behind them: declared by the task, else seen opened."""
    declared = task.data_files(config)
    with _opened_files() as opened:
        splits = checked_splits(task, config)
        for part in (splits.train, splits.validation):
            part[0]
    paths = opened if declared is None else [str(Path(path).resolve()) for path in declared]
    missing = [path for path in paths if declared is not None and not Path(path).is_file()]
    if missing:
        raise UserError(f"{type(task).__name__}.data_files(): no such file: {', '.join(missing)}")
    return splits, tuple(dict.fromkeys(path for path in paths if Path(path).is_file()))


def project_code(project: Project) -> tuple[str, ...]:
    """Files of every imported module that lies in the project: imported helpers count too."""
    found = set()
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if path and _is_project_code(Path(path), project.root):
            found.add(Path(path).relative_to(project.root).as_posix())
    return tuple(sorted(found))


def project_data(project: Project, files: tuple[str, ...]) -> tuple[str, ...]:
    """Data files by the names that artifacts give them; files of the run folder are no data."""
    return tuple(
        data_name(project, path)
        for path in files
        if not Path(path).is_relative_to(project.run_folder)
    )


def written_since(project: Project, moment_s: float) -> list[str]:
    """Files of the project that were written since then, the run folder and hidden ones left out.

    Of a project with very many folders the first `LIMIT_FOLDERS` are looked at.
    """
    found = []
    for folder, folders, names in islice(os.walk(project.root), LIMIT_FOLDERS):
        folders[:] = [name for name in folders if not name.startswith((".", "__pycache__"))]
        for name in names:
            path = Path(folder) / name
            is_run = path.is_relative_to(project.run_folder)
            if not is_run and path.is_file() and path.stat().st_mtime >= moment_s:
                found.append(path.relative_to(project.root).as_posix())
    return sorted(found)


@contextmanager
def _opened_files() -> Iterator[list[str]]:
    """Files that are opened for reading meanwhile, by any thread, in order, once each."""
    _install_audit_hook()
    global _opened
    opened: list[str] = []
    _opened = opened
    try:
        yield opened
    finally:
        _opened = None


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event != "open":
        return
    if _opened is None:
        return
    path, mode, _ = arguments
    path = os.fsdecode(path) if isinstance(path, bytes) else path
    if not isinstance(path, str) or (isinstance(mode, str) and mode.strip("rbtU")):
        return
    if Path(path).suffix in _CODE_SUFFIXES or path.startswith(_SYSTEM_FOLDERS):
        return
    if any(part.endswith(_METADATA_SUFFIXES) for part in Path(path).parts):
        return
    _opened.append(str(Path(path).absolute()))


_hook_installed = False


def _install_audit_hook() -> None:
    # An audit hook cannot be removed, so there is one for the process, asleep unless watching.
    global _hook_installed
    if not _hook_installed:
        sys.addaudithook(_audit)
        _hook_installed = True


def _is_project_code(path: Path, root: Path) -> bool:
    if not path.is_relative_to(root) or path.suffix != ".py":
        return False
    parts = path.relative_to(root).parts
    return not any(part.startswith(".") or part == "site-packages" for part in parts)
