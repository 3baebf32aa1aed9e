"""A finished run whose gate waits for signatures, and an office of people who can give them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from signers import Office, ask_for_signatures
from support import TrainedProject

from pytest_mltrainer.release.policy import VARIABLE


@pytest.fixture(scope="session")
def waiting_run(
    trained: Callable[..., TrainedProject], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A project whose finalization is AWAITING SIGNATURE. Read only."""
    folder = tmp_path_factory.mktemp("waiting") / "healthy"
    shutil.copytree(trained("healthy", "finalization").path, folder)
    ask_for_signatures(folder)
    return folder


@pytest.fixture
def waiting(waiting_run: Path, tmp_path: Path) -> Path:
    """A copy of the waiting project."""
    return Path(shutil.copytree(waiting_run, tmp_path / "healthy"))


@pytest.fixture(scope="session")
def office_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys of the people, made once."""
    return tmp_path_factory.mktemp("office") / "keys"


@pytest.fixture
def office(office_keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Office:
    """An office with a policy of its own that the judge is told of."""
    monkeypatch.setenv(VARIABLE, "")
    (tmp_path / "office").mkdir()
    office_keys.mkdir(exist_ok=True)
    (tmp_path / "office" / "keys").symlink_to(office_keys)
    return Office(folder=tmp_path / "office").write()
