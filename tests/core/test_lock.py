"""One writer at a time, across processes; the lock goes with its holder."""

import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.core.lock import RunIsBusyError, writer_lock

HOLDER = """
import sys
from pathlib import Path
from pytest_mltrainer.core.lock import writer_lock
with writer_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def held_elsewhere(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_second_process_is_refused_with_pid_host_and_start(tmp_path: Path) -> None:
    folder = tmp_path / ".mltrainer"
    with held_elsewhere(folder) as holder:
        with pytest.raises(RunIsBusyError) as raised, writer_lock(folder):
            pass
        found = re.search(r"pid (\d+) on (\S+) since (\S+)\);", str(raised.value))
        assert found is not None
        assert int(found[1]) == holder.pid
        assert found[2] == platform.node()
        assert datetime.fromisoformat(found[3]).tzinfo is not None
        assert str(folder) in str(raised.value)


def test_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path) as holder:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert (tmp_path / "lock.json").exists()
        with writer_lock(tmp_path):
            assert f'"pid": {os.getpid()}' in (tmp_path / "lock.json").read_text()


def test_holder_that_ends_leaves_no_trace_of_itself(tmp_path: Path) -> None:
    with held_elsewhere(tmp_path) as holder:
        holder.communicate("\n")
    assert not (tmp_path / "lock.json").exists()
    with writer_lock(tmp_path):
        pass


def test_same_process_is_refused_too_and_that_frees_it(tmp_path: Path) -> None:
    with (
        pytest.raises(RunIsBusyError),
        writer_lock(tmp_path),
        writer_lock(tmp_path),
    ):
        pass
    with writer_lock(tmp_path):
        pass


@pytest.mark.parametrize("damage", ["", "{", "[]", "3", '{"pid": 1}'])
def test_unreadable_holder_still_refuses(tmp_path: Path, damage: str) -> None:
    with held_elsewhere(tmp_path):
        (tmp_path / "lock.json").write_text(damage)
        with pytest.raises(RunIsBusyError, match="its holder is unknown"), writer_lock(tmp_path):
            pass


def test_folder_that_cannot_be_made_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot lock it"), writer_lock(tmp_path / "file" / "x"):
        pass
