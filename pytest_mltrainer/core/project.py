"""Where a user's project is and what its `[tool.mltrainer]` table says."""

import re
import tomllib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pytest_mltrainer.core.errors import ConfigError, did_you_mean

PHASES = ("planning", "baseline", "diagnostics", "optimization", "finalization")
_KEYS: dict[str, type] = {
    "task": str,
    "config": str,
    "inputs": list,
    "plugins": list,
    "policy": str,
    "run_folder": str,
    "run_folder_outside_project": bool,
}
_IMPORT_PATH = re.compile(r"[^:]+:[^:]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A folder with a task and a configuration. All paths are absolute."""

    root: Path
    task: str
    config_path: Path
    inputs: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    policy: str = ""
    run_folder: Path

    @classmethod
    def load(cls, root: Path) -> "Project":
        """Read `pyproject.toml` in `root`. Raises ConfigError with everything that is wrong."""
        root = root.resolve()
        path = root / "pyproject.toml"
        table = _table(path)
        problems = list(_problems(path, table))
        if problems:
            raise ConfigError(problems)
        run_folder = (root / table.get("run_folder", ".mltrainer")).absolute()
        is_inside = root in run_folder.resolve().parents
        if not is_inside and not table.get("run_folder_outside_project"):
            raise ConfigError(
                [
                    f"{path} tool.mltrainer.run_folder: found '{run_folder}', wanted a folder "
                    "inside the project: choose one, or set run_folder_outside_project = true"
                ]
            )
        return cls(
            root=root,
            task=table["task"],
            config_path=root / table.get("config", "training_config.yaml"),
            inputs=tuple(table.get("inputs", ())),
            plugins=tuple(table.get("plugins", ())),
            policy=table.get("policy", ""),
            run_folder=run_folder,
        )

    def relative(self, path: Path) -> str:
        """`path` as it is named in artifacts and messages: relative to the project if inside."""
        try:
            return path.resolve().relative_to(self.root).as_posix()
        except ValueError:
            return str(path)


def check_task(project: Project) -> None:
    """Raise ConfigError when there is no such module as the task's. Nothing is imported.

    The project's root must be on `sys.path`.
    """
    package = project.task.partition(":")[0].partition(".")[0]
    if not package or find_spec(package) is None:
        raise ConfigError([missing_task(project.task)])


def missing_task(task: str) -> str:
    """What is said about a task whose module is not there."""
    module = task.partition(":")[0]
    return (
        f"pyproject.toml tool.mltrainer.task: '{task}': no module '{module}' here: "
        "name the file that holds the task"
    )


def _table(path: Path) -> dict[str, Any]:
    try:
        parsed = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        parsed = {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError([f"{path}: not readable as TOML ({error})"]) from error
    tools = parsed.get("tool")
    table = tools.get("mltrainer") if isinstance(tools, dict) else None
    if not isinstance(table, dict):
        raise ConfigError(
            [
                f"{path}: there is no [tool.mltrainer] table, so there is no task to train: "
                "run `pytest-mltrainer init`, or name the project's folder with --rootdir"
            ]
        )
    return table


def _problems(path: Path, table: dict[str, Any]) -> list[str]:
    problems = []
    for key, value in table.items():
        if key not in _KEYS:
            hint = did_you_mean(key, _KEYS)
            problems.append(f"{path} tool.mltrainer.{key}: no such key.{hint}")
        elif not isinstance(value, _KEYS[key]) or (
            isinstance(value, list) and not all(isinstance(entry, str) for entry in value)
        ):
            wanted = {str: "text", list: "a list of texts", bool: "true or false"}[_KEYS[key]]
            problems.append(f"{path} tool.mltrainer.{key}: found {value!r}, wanted {wanted}")
    task = table.get("task")
    if task is None or (isinstance(task, str) and not _IMPORT_PATH.fullmatch(task)):
        problems.append(
            f"{path} tool.mltrainer.task: found {task!r}, wanted 'module:Class': "
            'write for example task = "task:MyTask"'
        )
    return problems
