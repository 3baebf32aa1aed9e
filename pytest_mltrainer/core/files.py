"""The one place that writes files: whole or not at all, durable, with errors that people can use.

Every write is a temporary file beside the target, fsync, `os.replace`, fsync of the folder; a
reader sees the old bytes or the new ones. Ledgers are appended in one write each.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from pytest_mltrainer.core.errors import StorageError

TEMPORARY = ".tmp-"


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data` at once. Raises StorageError naming path and free space."""
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)  # noqa: PTH105 - one module, one visible call to fault-inject
        sync_folder(path.parent)
    except OSError as error:
        # A read-only disk refuses this too; the first error is the one to tell.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise storage_error("write", path, error) from error


def write_copies(paths: Sequence[Path], data: bytes) -> None:
    """Replace each of `paths` by `data`, in order. Raises StorageError.

    The bytes are written once and get further names where the file system can do that.
    """
    first, *others = paths
    write_bytes(first, data)
    for path in others:
        temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
        try:
            temporary.unlink(missing_ok=True)
            temporary.hardlink_to(first)
            os.replace(temporary, path)  # noqa: PTH105 - as in write_bytes
            sync_folder(path.parent)
        except OSError:
            write_bytes(path, data)


def move(complete: Path, path: Path) -> None:
    """Replace `path` by the file `complete` of the same folder tree at once. Raises StorageError.

    For files that a library writes by itself, beside their place, and that memory need not hold.
    """
    try:
        with complete.open("rb") as stream:
            os.fsync(stream.fileno())
        os.replace(complete, path)  # noqa: PTH105 - as in write_bytes
        sync_folder(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            complete.unlink(missing_ok=True)
        raise storage_error("write", path, error) from error


def write_text(path: Path, text: str) -> None:
    """Replace `path` by UTF-8 `text` at once. Raises StorageError."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: object) -> None:
    """Replace `path` by readable, sorted JSON. NaN and infinities are refused (ValueError)."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def append_json(path: Path, value: object) -> None:
    """Append one JSON line to a ledger and make it durable. Raises StorageError.

    A line that an interrupted append left torn is cut off first: it would swallow this one.
    """
    line = json_line(value)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as stream:
            _cut_torn_line(stream)
            stream.write(line.encode())
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        raise storage_error("append to", path, error) from error


def json_line(value: object) -> str:
    """One line of a ledger."""
    return json.dumps(value, sort_keys=True, allow_nan=False) + "\n"


def read_json(path: Path) -> Any:
    """The JSON value in `path`. Raises StorageError when it is missing or not JSON."""
    try:
        return json.loads(path.read_bytes(), object_pairs_hook=_no_duplicates)
    except FileNotFoundError as error:
        raise StorageError(f"{path}: the file is missing; run the phase again") from error
    except (OSError, ValueError, RecursionError) as error:
        raise StorageError(f"{path}: not readable as JSON ({error})") from error


def read_ledger(path: Path) -> list[dict[str, Any]]:
    """The lines of a ledger, oldest first; a torn last line is dropped, a missing file is empty."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise storage_error("read", path, error) from error
    *whole, _torn = lines
    try:
        return [json.loads(line) for line in whole if line.strip()]
    except ValueError as error:
        raise StorageError(f"{path}: a line in the middle is not JSON ({error})") from error


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def swap_folder(complete: Path, target: Path) -> None:
    """Put `complete` in the place of `target`. After a crash `finish_swap` rolls it forward."""
    staged = staged_path(target)
    try:
        complete.rename(staged)
        sync_folder(target.parent)
    except OSError as error:
        raise storage_error("replace", target, error) from error
    finish_swap(target)


def finish_swap(target: Path) -> None:
    """Roll an interrupted `swap_folder` forward; do nothing when there was none."""
    staged = staged_path(target)
    if not staged.is_dir():
        return
    old = target.with_name(f"{TEMPORARY}old-{target.name}")
    try:
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            target.rename(old)
        staged.rename(target)
        sync_folder(target.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise storage_error("replace", target, error) from error


def staged_path(target: Path) -> Path:
    """Where a complete folder waits for its swap into `target`."""
    return target.with_name(f"{TEMPORARY}next-{target.name}")


def storage_error(verb: str, path: Path, error: OSError) -> StorageError:
    """The error for people: path, reason, free space, and that nothing was lost."""
    try:
        existing = next(folder for folder in (path, *path.parents) if folder.exists())
        free = f"{shutil.disk_usage(existing).free / 2**20:,.0f} MiB free"
    except (OSError, StopIteration):
        free = "free space unknown"
    return StorageError(
        f"{path}: cannot {verb} it ({error.strerror or error}; {free}). "
        "What was there before is intact: make room or permit writing, then run again"
    )


def _cut_torn_line(stream: IO[bytes]) -> None:
    end = stream.seek(0, os.SEEK_END)
    stream.seek(max(end - 1, 0))
    if stream.read(1) not in (b"", b"\n"):
        stream.seek(0)
        stream.truncate(stream.read().rfind(b"\n") + 1)


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return keys
