"""One writer at a time. Readers never lock."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from pytest_mltrainer.core.errors import StorageError, UserError
from pytest_mltrainer.core.files import read_json, storage_error, write_json

HOLDER = "lock.json"
"""In the run folder while a pipeline works there: who it is."""


class RunIsBusyError(UserError):
    """Another process works on this run folder."""


@contextmanager
def writer_lock(run_folder: Path) -> Iterator[None]:
    """Hold the run folder's lock. Raises RunIsBusyError naming the holder's pid, host and start.

    The operating system frees the lock with the process, so a stale one cannot block.
    """
    path = run_folder / "lock"
    holder = run_folder / HOLDER
    try:
        run_folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=0)
        lock.acquire()
    except Timeout as error:
        raise RunIsBusyError(_busy(run_folder, holder)) from error
    except OSError as error:
        raise storage_error("lock", path, error) from error
    try:
        write_json(
            holder,
            {
                "pid": os.getpid(),
                "host": platform.node(),
                "since": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        )
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _busy(run_folder: Path, holder: Path) -> str:
    try:
        who = read_json(holder)
        details = f"pid {who['pid']} on {who['host']} since {who['since']}"
    except (StorageError, KeyError, TypeError):
        details = "its holder is unknown"
    return f"{run_folder}: another run works here ({details}); wait for it, or end it"
