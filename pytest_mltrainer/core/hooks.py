"""The extension points, and the one plugin manager that pytest and the worker build alike.

Plugins come from the entry point group `pytest_mltrainer` and from `[tool.mltrainer] plugins`,
never from a conftest: the worker would not see it.
"""

import importlib
from typing import Any

import pluggy

from pytest_mltrainer.core.errors import ConfigError
from pytest_mltrainer.core.evidence import Detector
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.core.work import Launcher

PROJECT_NAME = "pytest_mltrainer"
hookspec = pluggy.HookspecMarker(PROJECT_NAME)
hookimpl = pluggy.HookimplMarker(PROJECT_NAME)


class Hooks:
    """What a plugin may offer; each hook returns what it adds, by name."""

    @hookspec
    def mltrainer_launchers(self) -> dict[str, Launcher]:  # type: ignore[empty-body]
        """Ways to start a worker."""

    @hookspec
    def mltrainer_detectors(self) -> dict[str, Detector]:  # type: ignore[empty-body]
        """Diagnostics beside the built-in ones."""

    @hookspec
    def mltrainer_exporters(self) -> dict[str, Any]:  # type: ignore[empty-body]
        """Export formats beside the built-in ones (see `pytest_mltrainer.export`)."""


def plugin_manager(project: Project) -> pluggy.PluginManager:
    """The manager with every plugin of this project. Raises ConfigError for one that is missing."""
    manager = pluggy.PluginManager(PROJECT_NAME)
    manager.add_hookspecs(Hooks)
    manager.load_setuptools_entrypoints(PROJECT_NAME)
    for name in project.plugins:
        try:
            manager.register(importlib.import_module(name), name=name)
        except ImportError as error:
            raise ConfigError(
                [
                    f"pyproject.toml tool.mltrainer.plugins: '{name}' cannot be imported "
                    f"({error}): install it, or take it out of the list"
                ]
            ) from error
    return manager


def offered(manager: pluggy.PluginManager, hook: str) -> dict[str, Any]:
    """Everything that the plugins offer for one hook, by name."""
    found: dict[str, Any] = {}
    for offers in getattr(manager.hook, hook)():
        found |= offers
    return found
