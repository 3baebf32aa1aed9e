"""The evidence of a run as one archive: from the machine that trained to the one that judges.

An uncompressed tar of the run folder behind an index that names every file with its digest. The
data does not go along, nor unfinished attempts and locks.
"""

import io
import json
import os
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from pytest_mltrainer.core import files
from pytest_mltrainer.core.artifacts import RunFolder, check_name, file_names
from pytest_mltrainer.core.digests import sha256_file
from pytest_mltrainer.core.errors import StorageError, UserError
from pytest_mltrainer.core.lock import HOLDER

INDEX = "pack.json"
SCHEMA = 1
ATTEMPTS = "attempts/"
LOCKS = ("lock", HOLDER)
LIMIT_INDEX_BYTES = 50_000_000


def pack_run(run: RunFolder, archive: Path) -> int:
    """Write the archive, whole or not at all; returns how many files it holds.

    Raises StorageError for a link in the run folder, or where the archive cannot be written.
    """
    every = file_names(run.path)
    names = [name for name in every if not name.startswith(ATTEMPTS) and name not in LOCKS]
    links = [name for name in names if (run.path / name).is_symlink()]
    if links:
        raise StorageError(f"{run.path / links[0]}: it is a link; evidence is made of files")
    digests = {name: sha256_file(run.path / name) for name in names}
    index = json.dumps({"schema": SCHEMA, "files": digests}, sort_keys=True).encode()
    temporary = archive.with_name(f"{files.TEMPORARY}{os.getpid()}-{archive.name}")
    try:
        archive.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as stream:
            _write(stream, run.path, names, index)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(archive)
        files.sync_folder(archive.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise files.storage_error("write", archive, error) from error
    return len(names)


def unpack_run(archive: Path, run_folder: Path) -> int:
    """Put the archive's files in the place of the run folder, at once; returns how many.

    Raises UserError when there is a run already, StorageError when the archive is not what `pack`
    wrote: a damaged file, one too many or too few, a link, a name that leads elsewhere.
    """
    if run_folder.exists() and any(run_folder.iterdir()):
        raise UserError(f"{run_folder}: there is a run already; move it away first")
    complete = run_folder.with_name(f"{files.TEMPORARY}unpacked-{run_folder.name}")
    shutil.rmtree(complete, ignore_errors=True)
    try:
        complete.mkdir(parents=True)
        with tarfile.open(archive, "r:") as tar:
            digests = _index(tar, archive)
            _extract(tar, digests, complete, archive)
        if run_folder.exists():
            run_folder.rmdir()
        files.swap_folder(complete, run_folder)
    except (OSError, tarfile.TarError) as error:
        raise StorageError(f"{archive}: not readable as a packed run ({error})") from error
    finally:
        shutil.rmtree(complete, ignore_errors=True)
    return len(digests)


def _write(stream: IO[bytes], folder: Path, names: list[str], index: bytes) -> None:
    """The same bytes for the same files: no times, no owners."""
    with tarfile.open(fileobj=stream, mode="w") as tar:
        first = tarfile.TarInfo(INDEX)
        first.size = len(index)
        tar.addfile(first, io.BytesIO(index))
        for name in names:
            member = tarfile.TarInfo(name)
            with (folder / name).open("rb") as content:
                member.size = os.fstat(content.fileno()).st_size
                tar.addfile(member, content)


def _index(tar: tarfile.TarFile, archive: Path) -> dict[str, str]:
    """The files that the archive promises, with their digests."""
    first = tar.next()
    content = tar.extractfile(first) if first and first.isfile() else None
    if first is None or content is None or first.name != INDEX or first.size > LIMIT_INDEX_BYTES:
        raise StorageError(f"{archive}: it does not begin with {INDEX}, so pack did not write it")
    try:
        stored: Mapping[str, Any] = json.loads(content.read())
        if stored["schema"] != SCHEMA:
            raise StorageError(f"{archive}: of another schema; upgrade pytest-mltrainer")
        digests = {str(name): str(digest) for name, digest in stored["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StorageError(f"{archive}: its {INDEX} cannot be read ({error})") from error
    for name in digests:
        check_name(name)
    return digests


def _extract(tar: tarfile.TarFile, digests: Mapping[str, str], folder: Path, archive: Path) -> None:
    """Write each promised file and compare its digest; nothing else is written."""
    missing = dict(digests)
    while (member := tar.next()) is not None:
        wanted = missing.pop(member.name, None)
        content = tar.extractfile(member) if wanted and member.isfile() else None
        if content is None:
            raise StorageError(f"{archive}: {member.name[:80]!r} does not belong in it")
        target = folder / member.name
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as stream:
            shutil.copyfileobj(content, stream)
        if sha256_file(target) != wanted:
            raise StorageError(f"{archive}: {member.name} is damaged; pack and send it again")
    if missing:
        raise StorageError(f"{archive}: {sorted(missing)[0]} is missing; pack and send it again")
