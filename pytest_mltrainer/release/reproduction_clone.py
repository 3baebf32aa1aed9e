"""The tree that trained, made again elsewhere from what was recorded: commit, patch, data."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_mltrainer.core.artifacts import RunFolder
from pytest_mltrainer.core.digests import MISSING, digest_source, sha256_file
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.inputs import PACKAGED
from pytest_mltrainer.training.run import TrainingRun

TIMEOUT_S = 300.0
RUN_FOLDER = ".mltrainer"


class NotRebuilt(UserError):
    """What was recorded does not suffice to make the tree again; the text names what is missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clone:
    """A project made again. `source` says from what, `tree` is git's name of it where there is."""

    root: Path
    source: str
    tree: str = ""

    @property
    def run_folder(self) -> Path:
        """Where the planning that permits to train lies; inside, wherever the original has its."""
        return self.root / RUN_FOLDER


def make_clone(run: TrainingRun, inputs: Mapping[str, str], folder: Path) -> Clone:
    """Make the project of a run again in `folder`, from the inputs of its training.

    The commit and the patch that planning recorded; without git the sources that it stored, with
    the configuration as it is. Data files that git does not hold are linked in, each with the
    digest that the training recorded; the planning that permitted it is copied. Raises NotRebuilt.
    """
    recorded = run.planned("source.json")
    clone = (
        _from_git(run, folder, recorded) if recorded["git"] else _from_sources(run, inputs, folder)
    )
    _mount_data(run, inputs, clone.root)
    planning = RunFolder(run.project.run_folder).phase("planning").path
    shutil.copytree(planning, clone.run_folder / "planning", dirs_exist_ok=True)
    return clone


def _from_git(run: TrainingRun, folder: Path, recorded: dict[str, str]) -> Clone:
    project = run.project.root
    top = Path(_git(project, "rev-parse", "--show-toplevel"))
    # --shared: the objects stay where they are, also those of a commit that no branch holds.
    _git(project, "clone", "--quiet", "--no-checkout", "--shared", str(top), str(folder / "clone"))
    made = folder / "clone"
    _git(made, "checkout", "--quiet", "--detach", recorded["commit"])
    patch = run.run_folder.phase("planning").artifact("source.patch")
    if patch.stat().st_size:
        _git(made, "apply", "--index", "--whitespace=nowarn", str(patch.resolve()))
    return Clone(
        root=made / project.relative_to(top.resolve()),
        source=f"commit {recorded['commit'][:12]}"
        + (f" and a patch of {patch.stat().st_size} bytes" if patch.stat().st_size else ""),
        tree=_git(made, "write-tree"),
    )


def _from_sources(run: TrainingRun, inputs: Mapping[str, str], folder: Path) -> Clone:
    made = folder / "project"
    stored = run.run_folder.phase("planning").path / "sources"
    made.mkdir()
    if stored.is_dir():
        shutil.copytree(stored, made, dirs_exist_ok=True)
    count = sum(path.is_file() for path in made.rglob("*"))
    for path in (run.project.root / "pyproject.toml", run.project.config_path):
        _put(path, made / run.project.relative(path))
    for name, digest in _recorded(inputs, "code"):
        if not (made / name).exists():
            _same(run.project.root / name, digest_source(run.project.root / name), digest)
            _put(run.project.root / name, made / name)
    return Clone(root=made, source=f"{count} stored sources (no git)")


def _mount_data(run: TrainingRun, inputs: Mapping[str, str], root: Path) -> None:
    for name, digest in _recorded(inputs, "data"):
        if (root / name).exists():
            continue
        original = run.project.root / name
        _same(original, sha256_file(original), digest)
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(original.resolve())


def _recorded(inputs: Mapping[str, str], kind: str) -> list[tuple[str, str]]:
    """Files of the project that the training used, with their digests.

    Files elsewhere, and those of installed packages, are where they were.
    """
    return [
        (name.partition("/")[2], digest)
        for name, digest in inputs.items()
        if name.startswith(f"{kind}/") and not name.startswith((f"{kind}//", f"{kind}/{PACKAGED}"))
    ]


def _same(path: Path, found: str, recorded: str) -> None:
    if found != recorded:
        what = "is missing" if found == MISSING else "is not what the final training used"
        raise NotRebuilt(f"{path}: it {what}: bring it back, or run the phases again")


def _put(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def _git(folder: Path, *arguments: str) -> str:
    # Variables that a hook of git sets would lead these commands to another repository.
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env=kept,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotRebuilt(f"git cannot be run ({error}): install it, it was there before") from error
    if done.returncode:
        reason = " ".join(done.stderr.split())[:300] or f"exit status {done.returncode}"
        raise NotRebuilt(f"git {arguments[0]}: {reason}")
    return done.stdout.strip()
