"""The distributions, built once for all workers of a test session."""

import os
from pathlib import Path

import pytest
from built_distributions import REPOSITORY, Distributions, build_all
from filelock import FileLock


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Distributions:
    """An sdist, the wheel of the folder and the wheel of the sdist.

    Slow, about 6 s for three builds, because what is installed is what must be looked at.
    """
    base = tmp_path_factory.getbasetemp()
    # Each worker of xdist has a base folder of its own, inside the one that all share.
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "distributions"
    with FileLock(f"{shared}.lock"):
        if not (shared / "done").exists():
            build_all(shared)
            (shared / "done").touch()
    return Distributions.in_folder(shared)
