"""A training made again from commit, patch and data by digest, in a repository of its own."""

import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from support import PROJECTS, QUIET, inside, run_pytest

from pytest_mltrainer.core.config import load_config
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.release.reproduction import reproduce
from pytest_mltrainer.release.reproduction_clone import Clone, NotRebuilt, make_clone
from pytest_mltrainer.training.observation.digests import DIGESTS_FILE, read_digests
from pytest_mltrainer.training.run import TrainingRun

IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@example.org")
STEPS = 20


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *IDENTITY, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a trained project: data ignored, the helper not committed. A real run."""
    top = tmp_path_factory.mktemp("repository")
    project = top / "models" / "clouds"
    shutil.copytree(
        PROJECTS / "own_files", project, ignore=shutil.ignore_patterns("__pycache__", "helper.py")
    )
    (project / ".gitignore").write_text("rows.csv\n.mltrainer/\n__pycache__/\n")
    git(top, "init", "--quiet")
    git(top, "add", ".")
    git(top, "commit", "--quiet", "-m", "without the helper")
    shutil.copy(PROJECTS / "own_files" / "helper.py", project)
    done = run_pytest(project, "--phase=baseline", *QUIET)
    assert done.returncode == 0, done.stdout
    return top


@pytest.fixture
def spoilable(repository: Path, tmp_path: Path) -> Path:
    shutil.copytree(repository, tmp_path / "copy", symlinks=True)
    return tmp_path / "copy" / "models" / "clouds"


def run_in(project: Path) -> TrainingRun:
    loaded = Project.load(project)
    return TrainingRun(loaded, load_config(loaded.config_path), "baseline")


def inputs(run: TrainingRun) -> Mapping[str, str]:
    return run.manifest.steps["train"].inputs


def clone_of(project: Path, folder: Path) -> Clone:
    run = run_in(project)
    return make_clone(run, inputs(run), folder)


def recorded(run: TrainingRun) -> object:
    return read_digests(run.folder.artifact(DIGESTS_FILE))[:STEPS].tolist()


def test_commit_patch_and_data_train_the_same_steps(repository: Path) -> None:
    project = repository / "models" / "clouds"
    with inside(project):
        run = run_in(project)
        found = reproduce(run, inputs(run), STEPS)
    assert found.clone.source.startswith(f"commit {git(repository, 'rev-parse', 'HEAD')[:12]} and")
    assert found.clone.tree == run.planned("source.json")["tree"]
    assert found.strays == ()
    assert found.digests.tolist() == recorded(run)


def test_what_was_changed_and_committed_since_does_not_matter(spoilable: Path) -> None:
    (spoilable / "helper.py").write_text("raise SystemExit\n")
    (spoilable / "task.py").write_text("raise SystemExit\n")
    git(spoilable, "add", ".")
    git(spoilable, "commit", "--quiet", "-m", "another task")
    run = run_in(spoilable)
    assert reproduce(run, inputs(run), STEPS).digests.tolist() == recorded(run)


def test_a_commit_that_is_gone_is_named(spoilable: Path, tmp_path: Path) -> None:
    shutil.rmtree(spoilable.parents[1] / ".git")
    git(spoilable.parents[1], "init", "--quiet")
    with pytest.raises(NotRebuilt, match=r"git (checkout|clone)"):
        clone_of(spoilable, tmp_path)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.unlink(), r"rows\.csv: it is missing"),
        (lambda path: path.write_text("1,2,0\n"), r"rows\.csv: it is not what the final training"),
    ],
    ids=["missing", "another"],
)
def test_data_that_is_not_the_recorded_is_refused(
    spoilable: Path, tmp_path: Path, spoil: Callable[[Path], None], says: str
) -> None:
    spoil(spoilable / "rows.csv")
    with pytest.raises(NotRebuilt, match=says):
        clone_of(spoilable, tmp_path / "clone")


def test_making_a_clone_leaves_the_repository_alone(spoilable: Path, tmp_path: Path) -> None:
    before = git(spoilable, "status", "--porcelain"), git(spoilable, "worktree", "list")
    (tmp_path / "clone").mkdir()
    clone = clone_of(spoilable, tmp_path / "clone")
    assert (clone.root / "rows.csv").is_symlink()
    assert (clone.root / "helper.py").is_file()
    assert before == (git(spoilable, "status", "--porcelain"), git(spoilable, "worktree", "list"))
