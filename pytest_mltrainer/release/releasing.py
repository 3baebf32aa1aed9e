"""The commands of the registry: release a model that is ready, list releases, roll back."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_mltrainer.core.errors import UserError

if TYPE_CHECKING:
    from pytest_mltrainer.release.commands import Add
    from pytest_mltrainer.release.registry import Registry


def add_release_commands(add: "Add") -> None:
    """Register the commands; `add` takes a name and a function and returns its parser."""
    for name, command in (("release", release), ("releases", releases), ("rollback", rollback)):
        parser = add(name, command)
        parser.add_argument("folder", nargs="?", type=Path, default=Path(), help="the project")


def release(parsed: argparse.Namespace) -> int:
    """Copy the final model into the registry, if and only if it is production-ready."""
    from pytest_mltrainer.release.verify import find_run, verify_run

    registry = _registry(parsed.folder)
    run, root = find_run(parsed.folder)
    found = verify_run(run, root)
    if not found.is_ready:
        listed = "\n".join(f"    {problem}" for problem in found.problems)
        raise UserError(f"not released, this run is not production-ready:\n{listed}")
    added = registry.add(run)
    print(f"released {added.name} in {registry.folder / added.name}")
    return 0


def releases(parsed: argparse.Namespace) -> int:
    """List the releases, the current one marked."""
    registry = _registry(parsed.folder)
    current = registry.current()
    for entry in registry.releases():
        mark = "*" if current and entry.number == current.number else " "
        print(f"{mark} {entry.name}  {entry.released}  model {entry.model[:12]}")
    if current is None:
        print(f"no release in {registry.folder}")
    return 0


def rollback(parsed: argparse.Namespace) -> int:
    """Make the release current that the current one has replaced."""
    registry = _registry(parsed.folder)
    before = registry.roll_back()
    print(f"current is {before.name}: deploy {registry.model(before)}")
    return 0


def _registry(folder: Path) -> "Registry":
    from pytest_mltrainer.core.config import load_config
    from pytest_mltrainer.core.project import Project
    from pytest_mltrainer.release.registry import Registry

    project = Project.load(folder)
    return Registry(project.root / load_config(project.config_path).release.registry)
