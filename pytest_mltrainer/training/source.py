"""The source that trained: its commit, and a patch that makes the tree out of it again."""

import contextlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_mltrainer.core.digests import digest_source
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.training.environment import URL_CREDENTIALS

LIMIT_UNTRACKED_BYTES = 5_000_000
"""Untracked files above this are data, not source: named by path and left out of the patch."""
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceState:
    """`facts` for `source.json`; `patch` from the commit to the tree; without git neither."""

    facts: dict[str, Any]
    patch: bytes = b""


@dataclass(frozen=True, slots=True)
class ScratchGit:
    """Git with an index and new objects of its own: nothing of the user's moves."""

    top: Path
    environment: dict[str, str] = field(repr=False)

    def text(self, *arguments: str) -> str:
        """The output of a git command, stripped. Raises GitError."""
        return self.bytes(*arguments).decode(errors="replace").strip()

    def bytes(self, *arguments: str, given: bytes | None = None) -> bytes:
        """The output of a git command. Raises GitError."""
        return _git(self.top, *arguments, environment=self.environment, given=given)


class GitError(Exception):
    """Git is not installed, there is no repository, or a command failed."""


def capture_source(project: Project) -> SourceState:
    """Commit, branch and tree of the project as it is now, with what is not committed.

    Ignored files are left out, as git leaves them out. Works in a shallow clone.
    """
    try:
        with scratch_git(project.root) as git:
            commit = git.text("rev-parse", "HEAD")
            skipped = _add_everything(git, project.root)
            tree = git.text("write-tree")
            patch = git.bytes("diff-tree", "-p", "--binary", "--full-index", commit, tree)
            facts = {
                "git": True,
                "commit": commit,
                "branch": git.text("rev-parse", "--abbrev-ref", "HEAD"),
                "remote": _remote(git),
                "tree": tree,
                "patched": bool(patch),
                "left_out": skipped,
                "authors": _authors(git, is_patched=bool(patch)),
            }
    except GitError as error:
        return SourceState(facts={"git": False, "reason": str(error)})
    return SourceState(facts=facts, patch=patch)


def rebuilt_tree(project: Project, commit: str, patch: bytes) -> str:
    """The tree that the patch makes of the commit. Raises GitError when it does not apply."""
    with scratch_git(project.root) as git:
        return _rebuild(git, commit, patch)


def sources_at(project: Project, commit: str, patch: bytes, names: list[str]) -> dict[str, str]:
    """Source digests of files of the project in the rebuilt tree; `missing` for those not there.

    Raises GitError when the patch does not apply.
    """
    found = {}
    with scratch_git(project.root) as git, tempfile.TemporaryDirectory() as folder:
        _rebuild(git, commit, patch)
        prefix = project.root.relative_to(git.top)
        for name in names:
            path = Path(folder) / Path(name).name
            path.unlink(missing_ok=True)
            with contextlib.suppress(GitError):
                path.write_bytes(git.bytes("show", f":{(prefix / name).as_posix()}"))
            found[name] = digest_source(path)
    return found


def _rebuild(git: ScratchGit, commit: str, patch: bytes) -> str:
    git.text("read-tree", commit)
    if patch:
        git.bytes("apply", "--cached", "--whitespace=nowarn", "-", given=patch)
    return git.text("write-tree")


@contextmanager
def scratch_git(folder: Path) -> Iterator[ScratchGit]:
    """Git with the index of HEAD; what it writes goes away with it. Raises GitError."""
    top = Path(_git(folder, "rev-parse", "--show-toplevel").decode().strip())
    objects = Path(_git(folder, "rev-parse", "--git-path", "objects").decode().strip())
    with tempfile.TemporaryDirectory(prefix="mltrainer-git-") as scratch:
        (Path(scratch) / "objects").mkdir()
        git = ScratchGit(
            top,
            {
                **os.environ,
                "GIT_INDEX_FILE": f"{scratch}/index",
                "GIT_OBJECT_DIRECTORY": f"{scratch}/objects",
                "GIT_ALTERNATE_OBJECT_DIRECTORIES": str((folder / objects).resolve()),
            },
        )
        git.text("read-tree", "HEAD")
        yield git


def _add_everything(git: ScratchGit, folder: Path) -> list[str]:
    """Put the folder into the index; returns the untracked files that are too large for source."""
    listed = git.bytes("ls-files", "--others", "--exclude-standard", "-z", "--", str(folder))
    names = [name for name in listed.decode(errors="surrogateescape").split("\0") if name]
    large = [name for name in names if (git.top / name).stat().st_size > LIMIT_UNTRACKED_BYTES]
    excluded = [f":(exclude,top,literal){name}" for name in large]
    git.bytes("add", "--all", "--", str(folder), *excluded)
    return sorted(large)


def _remote(git: ScratchGit) -> str:
    try:
        return URL_CREDENTIALS.sub("***@", git.text("config", "--get", "remote.origin.url"))
    except GitError:
        return ""


def _authors(git: ScratchGit, *, is_patched: bool) -> list[str]:
    """Mail addresses of who wrote the commit, and of who is about to write the next one."""
    trailer = "%(trailers:key=Co-authored-by,valueonly)"
    written = git.text("show", "-s", f"--format=%ae%n%ce%n{trailer}", "HEAD").splitlines()
    names = [line.rpartition("<")[2].rstrip(">").strip() for line in written]
    if is_patched:
        with contextlib.suppress(GitError):
            names.append(git.text("config", "--get", "user.email"))
    return sorted({name for name in names if name})


def _git(
    folder: Path,
    *arguments: str,
    environment: dict[str, str] | None = None,
    given: bytes | None = None,
) -> bytes:
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env=environment,
            input=given,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GitError(f"git cannot be run ({error})") from error
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().partition("\n")[0]
        raise GitError(f"git {arguments[0]}: {reason or done.returncode}")
    return done.stdout
