"""What a gate repeated where its run trained, for machines that compute otherwise and cannot."""

from collections.abc import Iterator, Mapping
from hashlib import sha256

from pytest_mltrainer.core import files
from pytest_mltrainer.core.artifacts import WITNESSED, PhaseFolder, file_names
from pytest_mltrainer.core.digests import sha256_file
from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.core.verdict import CheckResult, Verdict, load_verdict


def store_witnessed(
    folder: PhaseFolder, before: Verdict | None, results: Mapping[str, CheckResult]
) -> dict[str, str]:
    """Write what the checks repeated; returns digests by name, those of `before` among them.

    Where nothing was repeated, as on another machine, they stay what they were.
    """
    digests = dict(before.witnessed) if before else {}
    for result in results.values():
        for name, content in result.witnessed.items():
            (folder.path / WITNESSED).mkdir(exist_ok=True)
            files.write_bytes(folder.artifact(f"{WITNESSED}/{name}"), content)
            digests[name] = sha256(content).hexdigest()
    return digests


def read_witnessed(folder: PhaseFolder, name: str) -> bytes | None:
    """What the gate repeated where the run trained; None where its verdict has none.

    Raises StorageError when it is not what that verdict was bound to.
    """
    verdict = load_verdict(folder)
    if verdict is None or name not in verdict.witnessed:
        return None
    path = folder.artifact(f"{WITNESSED}/{name}")
    if sha256_file(path) != verdict.witnessed[name]:
        raise StorageError(f"{path}: it is not what the verdict of {folder.phase} is bound to")
    return path.read_bytes()


def witness_problems(folder: PhaseFolder, verdict: Verdict) -> Iterator[str]:
    """What lies among the repetitions and is not what the verdict is bound to."""
    there = file_names(folder.path / WITNESSED)
    for name in sorted({*verdict.witnessed, *there}):
        path = folder.artifact(f"{WITNESSED}/{name}")
        if sha256_file(path) != verdict.witnessed.get(name):
            yield f"{folder.phase}/{WITNESSED}/{name} is not what the verdict is bound to"
