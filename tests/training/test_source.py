"""The source that trained can be made again from a commit and a patch."""

import subprocess
from pathlib import Path

import pytest

from pytest_mltrainer.core.digests import MISSING, digest_source
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.training.source import (
    LIMIT_UNTRACKED_BYTES,
    GitError,
    capture_source,
    rebuilt_tree,
    sources_at,
)

IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@example.org")


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *IDENTITY, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def project_in(folder: Path) -> Project:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text('[tool.mltrainer]\ntask = "task:MyTask"\n')
    (folder / "task.py").write_text("value = 1\n")
    return Project.load(folder)


@pytest.fixture
def committed(tmp_path: Path) -> Project:
    """A project whose files are committed, in a folder of a larger repository."""
    git(tmp_path, "init", "--quiet")
    project = project_in(tmp_path / "models" / "digits")
    (tmp_path / "elsewhere.txt").write_text("not of the project")
    git(tmp_path, "add", "models")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    return project


def test_what_is_committed_needs_no_patch(committed: Project) -> None:
    source = capture_source(committed)
    assert source.facts["git"] is True
    assert source.facts["commit"] == git(committed.root, "rev-parse", "HEAD")
    assert source.facts["patched"] is False
    assert source.patch == b""
    assert source.facts["tree"] == git(committed.root, "rev-parse", "HEAD^{tree}")


def test_changed_new_binary_and_deleted_files_are_in_the_patch(committed: Project) -> None:
    root = committed.root
    (root / "task.py").write_text("value = 2\n")
    (root / "hélper é.py").write_text("helps = True\n")
    (root / "weights.bin").write_bytes(bytes(range(256)))
    (root / "pyproject.toml").unlink()
    before = git(root, "status", "--porcelain")
    source = capture_source(committed)
    assert source.facts["patched"] is True
    assert rebuilt_tree(committed, source.facts["commit"], source.patch) == source.facts["tree"]
    names = ["task.py", "hélper é.py", "pyproject.toml"]
    found = sources_at(committed, source.facts["commit"], source.patch, names)
    assert found == {
        "task.py": digest_source(root / "task.py"),
        "hélper é.py": digest_source(root / "hélper é.py"),
        "pyproject.toml": MISSING,
    }
    assert git(root, "status", "--porcelain") == before
    assert b"elsewhere" not in source.patch


def test_nothing_is_left_in_the_repository(committed: Project) -> None:
    (committed.root / "task.py").write_text("value = 3\n")
    objects = git(committed.root, "count-objects", "-v")
    capture_source(committed)
    assert git(committed.root, "count-objects", "-v") == objects


def test_ignored_files_stay_out_and_large_ones_are_named(committed: Project) -> None:
    (committed.root / ".gitignore").write_text("secret.txt\n")
    (committed.root / "secret.txt").write_text("hunter2")
    (committed.root / "data.bin").write_bytes(b"0" * (LIMIT_UNTRACKED_BYTES + 1))
    source = capture_source(committed)
    assert source.facts["left_out"] == ["models/digits/data.bin"]
    assert b"hunter2" not in source.patch
    assert len(source.patch) < 10_000


def test_a_shallow_clone_will_do(
    committed: Project, tmp_path_factory: pytest.TempPathFactory
) -> None:
    top = git(committed.root, "rev-parse", "--show-toplevel")
    clone = tmp_path_factory.mktemp("shallow") / "clone"
    git(committed.root, "clone", "--quiet", "--depth=1", f"file://{top}", str(clone))
    project = Project.load(clone / "models" / "digits")
    (project.root / "task.py").write_text("value = 4\n")
    source = capture_source(project)
    assert rebuilt_tree(project, source.facts["commit"], source.patch) == source.facts["tree"]


def test_credentials_of_the_remote_are_redacted(committed: Project) -> None:
    git(committed.root, "remote", "add", "origin", "https://me:hunter2@example.org/models.git")
    assert capture_source(committed).facts["remote"] == "https://***@example.org/models.git"


@pytest.mark.parametrize("kind", ["no repository", "no commit", "no git"])
def test_without_git_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    project = project_in(tmp_path / "project")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    if kind == "no commit":
        git(project.root, "init", "--quiet")
    if kind == "no git":
        monkeypatch.setenv("PATH", str(tmp_path))
    source = capture_source(project)
    assert source.facts["git"] is False
    assert "git" in source.facts["reason"]


def test_a_patch_of_something_else_does_not_apply(committed: Project) -> None:
    (committed.root / "task.py").write_text("value = 5\n")
    source = capture_source(committed)
    other = source.patch.replace(b"-value = 1", b"-value = 9")
    with pytest.raises(GitError, match="git apply"):
        rebuilt_tree(committed, source.facts["commit"], other)
