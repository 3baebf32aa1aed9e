"""What a gate repeated where its run trained, for machines that compute otherwise and cannot."""

from collections.abc import Iterator, Mapping

from pytest_mltrainer.core import files
from pytest_mltrainer.core.artifacts import WITNESSED, PhaseFolder, file_names
from pytest_mltrainer.core.digests import sha256_bytes, sha256_file
from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.core.verdict import CheckResult, Verdict, load_verdict


def witnessed_by(before: Verdict | None, results: Mapping[str, CheckResult]) -> dict[str, str]:
    """Digests of what the checks repeated by name, those of the verdict `before` among them.

    Where nothing was repeated, as on another machine, they stay what they were.
    """
    kept = dict(before.witnessed) if before else {}
    return kept | {name: sha256_bytes(content) for name, content in _repeated(results)}


def store_witnessed(folder: PhaseFolder, results: Mapping[str, CheckResult]) -> None:
    """Write what the checks repeated, beside the verdict that is bound to it."""
    for name, content in _repeated(results):
        (folder.path / WITNESSED).mkdir(exist_ok=True)
        files.write_bytes(folder.artifact(f"{WITNESSED}/{name}"), content)


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


def _repeated(results: Mapping[str, CheckResult]) -> Iterator[tuple[str, bytes]]:
    for result in results.values():
        yield from result.witnessed.items()


def witness_problems(folder: PhaseFolder, verdict: Verdict) -> Iterator[str]:
    """What lies among the repetitions and is not what the verdict is bound to."""
    there = file_names(folder.path / WITNESSED)
    for name in sorted({*verdict.witnessed, *there}):
        path = folder.artifact(f"{WITNESSED}/{name}")
        if sha256_file(path) != verdict.witnessed.get(name):
            yield f"{folder.phase}/{WITNESSED}/{name} is not what the verdict is bound to"
