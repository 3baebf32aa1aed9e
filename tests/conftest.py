"""What every test may use: pytester, and projects that were really brought up, each once."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

# Before any pytester run in this process: it takes modules away that it saw imported, and torch
# cannot be imported twice into one process.
import torch  # noqa: F401
from filelock import FileLock
from hypothesis import settings
from support import PROJECTS, TrainedProject, bring_up

pytest_plugins = ["pytester"]

# Machines are noisy: how long an example takes says nothing about the code.
settings.register_profile("mltrainer", deadline=None)
settings.load_profile("mltrainer")


def pytest_configure(config: pytest.Config) -> None:
    """Know the mark of what `tox -e slow` runs."""
    config.addinivalue_line("markers", "slow: whole runs of a minute and more; tox -e slow")


@pytest.fixture(scope="session", autouse=True)
def clean_rooms(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Clean rooms are made once for a run of the tests, beside the trained projects."""
    os.environ.setdefault("MLTRAINER_CACHE", str(_shared(tmp_path_factory) / "cache"))


def _shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.getbasetemp()
    # Each worker of xdist has a base folder of its own, inside the one that all share.
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


BEFORE = {"diagnostics": "baseline", "optimization": "diagnostics", "finalization": "baseline"}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TrainedProject]:
    """`trained(name, phase="baseline")`: a project of tests/projects, brought up to a phase.

    Slow the first time, 15 s to a minute on a busy machine, because it is a real run; shared by
    all workers of xdist, so nothing may be written into it. A phase goes on from a copy of the one
    in `BEFORE`.
    """
    shared = _shared(tmp_path_factory) / "trained"

    def bring(name: str, phase: str = "baseline") -> TrainedProject:
        source = PROJECTS / name
        if phase in BEFORE:
            source = bring(name, BEFORE[phase]).path
        folder = shared / phase / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not TrainedProject.record(folder).exists():
                bring_up(source, folder, phase)
        return TrainedProject.load(folder)

    return bring


@pytest.fixture
def copied(trained: Callable[..., TrainedProject], tmp_path: Path) -> Callable[..., Path]:
    """`copied(name, phase="baseline")`: a copy of a trained project that the test may spoil."""

    def copy(name: str, phase: str = "baseline") -> Path:
        target = tmp_path / f"{name}-{phase}"
        shutil.copytree(trained(name, phase).path, target)
        return target

    return copy
