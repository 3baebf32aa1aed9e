"""Two runs on disk compared: environments, inputs, steps, and the window in which they part."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

from pytest_mltrainer.core.artifacts import Manifest, PhaseFolder, RunFolder
from pytest_mltrainer.core.errors import StorageError, UserError
from pytest_mltrainer.core.overlay import effective_config
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.core.work import TRAIN, WorkRequest
from pytest_mltrainer.training.checkpoints import Checkpoint
from pytest_mltrainer.training.observation.digests import DIGESTS_FILE, read_digests
from pytest_mltrainer.training.observation.observed import is_observed, observed_numerics
from pytest_mltrainer.training.repetition.divergence import (
    Divergence,
    EnvironmentDifference,
    environment_differences,
    first_divergence,
)
from pytest_mltrainer.training.repetition.window import Replay, replay_both

LIMIT_REPLAYED_STEPS = 5_000
WORKERS_KEY = "config/training.loader_workers"


@dataclass(frozen=True, kw_only=True)
class RecordedRun:
    """One of the two runs: its folder, what it was made from, and its digests.

    `project` is None where the run folder lies in no project, so that nothing can be replayed, and
    for a loop of the user's own that `observe()` recorded in the folder.
    """

    path: Path
    folder: PhaseFolder
    project: Project | None

    @classmethod
    def open(cls, path: Path, phase: str) -> "RecordedRun":
        """The run in a project, in a run folder, or observed. Raises UserError for none."""
        if is_observed(path):
            return cls(path=path, folder=PhaseFolder(path), project=None)._with_digests()
        project = _project_of(path)
        run = project.run_folder if project and path.resolve() == project.root else path
        found = cls(path=path, folder=RunFolder(run).phase(phase), project=project)
        if found.manifest is None:
            raise UserError(
                f"{found.folder.path}: there is no finished {phase}: name a project or its run "
                f"folder, or run `pytest --phase={phase}` there first"
            )
        return found._with_digests()

    def _with_digests(self) -> Self:
        """This run. Raises UserError where no step of it was digested."""
        if not len(self.digests):
            raise UserError(
                f"{self.folder.path / DIGESTS_FILE}: no digests are recorded there: train again"
            )
        return self

    @cached_property
    def manifest(self) -> Manifest | None:
        """The manifest of the phase."""
        return self.folder.manifest()

    @cached_property
    def digests(self) -> "np.ndarray[Any, Any]":
        """The records of `digests.rec`."""
        return read_digests(self.folder.artifact(DIGESTS_FILE))

    @property
    def environment(self) -> dict[str, str]:
        """The numerics fingerprint of the training, and its loader workers."""
        if is_observed(self.path):
            return observed_numerics(self.path)
        inputs = self.inputs
        found = {
            name.removeprefix("numerics/"): value
            for name, value in inputs.items()
            if name.startswith("numerics/")
        }
        return found | {"loader workers": inputs.get(WORKERS_KEY, "(unknown)")}

    @property
    def inputs(self) -> Mapping[str, str]:
        """What the training was made from, by name."""
        return self.manifest.steps["train"].inputs if self.manifest else {}

    @cached_property
    def checkpoints(self) -> dict[int, str]:
        """The readable checkpoints by the number of updates that they hold."""
        found = {}
        for path in self.folder.path.glob("checkpoints/*.pt"):
            with contextlib.suppress(StorageError):
                found[Checkpoint.load(path).step] = str(path.resolve())
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDifference:
    """What is not the same in two runs. They are equal when no step of them differs.

    `inputs` are code, configuration, data and artifacts upstream that differ. `why_not_replayed`
    is blank where the window was replayed, or where there is none.
    """

    steps: tuple[int, int]
    environment: list[EnvironmentDifference] = field(default_factory=list)
    inputs: list[EnvironmentDifference] = field(default_factory=list)
    divergence: Divergence | None = None
    replay: Replay | None = None
    why_not_replayed: str = ""

    @property
    def is_equal(self) -> bool:
        """Whether every step that both recorded is the same, and both recorded as many."""
        return self.divergence is None

    def to_json(self) -> dict[str, Any]:
        """The difference for programs."""
        return {
            "equal": self.is_equal,
            "steps": list(self.steps),
            "environment": [_as_json(entry) for entry in self.environment],
            "inputs": [_as_json(entry) for entry in self.inputs],
            "divergence": self.divergence.to_json() if self.divergence else None,
            "replay": self.replay.to_json() if self.replay else None,
            "why_not_replayed": self.why_not_replayed,
        }


def compare_runs(one: RecordedRun, other: RecordedRun) -> RunDifference:
    """Compare environments, then inputs, then steps; replay the window where the steps part."""
    divergence = first_divergence(one.digests, other.digests)
    replay, why_not = None, ""
    if divergence is not None:
        try:
            replay = replay_both(*_requests(one, other, divergence), divergence.step)
        except UserError as error:
            why_not = str(error)
    return RunDifference(
        steps=(len(one.digests), len(other.digests)),
        environment=environment_differences(one.environment, other.environment),
        inputs=environment_differences(_others(one.inputs), _others(other.inputs)),
        divergence=divergence,
        replay=replay,
        why_not_replayed=why_not,
    )


def _requests(
    one: RecordedRun, other: RecordedRun, divergence: Divergence
) -> tuple[WorkRequest, WorkRequest]:
    """What to replay. Raises UserError that says why nothing can be."""
    if divergence.part == "length":
        raise UserError("all steps that both recorded are the same")
    window = divergence.equal_until + 1
    # Both from the same step, since digests are compared step by step; without one, from 0.
    common = one.checkpoints.keys() & other.checkpoints.keys()
    start = max((step for step in common if step <= window), default=0)
    if divergence.step - start > LIMIT_REPLAYED_STEPS:
        raise UserError(
            f"both have no checkpoint nearer before step {window} than step {start}, and more than "
            f"{LIMIT_REPLAYED_STEPS} steps are not replayed: set training.checkpoint_every lower"
        )
    return _request(one, one.checkpoints.get(start)), _request(other, other.checkpoints.get(start))


def _request(run: RecordedRun, checkpoint: str | None) -> WorkRequest:
    project = run.project
    if is_observed(run.path):
        raise UserError(f"{run.path}: a loop of your own was observed there, not one of ours")
    if project is None:
        raise UserError(f"{run.path}: the project's code is not there, only its run folder")
    config = effective_config(project)
    if config.launch.nodes > 1:
        # Both windows at once would meet at the one rendezvous of their nodes.
        raise UserError(f"{project.config_path}: a training by several nodes is not replayed")
    own = config.for_phase(run.folder.phase)
    return WorkRequest(
        entry="",
        phase=run.folder.phase,
        project_root=str(project.root),
        attempt=str(RunFolder(project.run_folder).attempt(run.folder.phase)),
        config=config.to_json(),
        seed=own.seed,
        threads=own.threads,
        steps=(TRAIN,),
        arguments={"checkpoint": checkpoint},
    )


def _project_of(path: Path) -> Project | None:
    """The project in a folder, or the one around a run folder."""
    if (path / "pyproject.toml").is_file():
        return Project.load(path)
    parent = path.resolve().parent
    if (parent / "pyproject.toml").is_file():
        project = Project.load(parent)
        return project if project.run_folder.resolve() == path.resolve() else None
    return None


def _others(inputs: Mapping[str, str]) -> dict[str, str]:
    """Inputs that are no part of the environment, digests in short."""
    return {
        name: value if name.startswith("config/") else value[:12]
        for name, value in inputs.items()
        if not name.startswith("numerics/") and name != WORKERS_KEY
    }


def _as_json(entry: EnvironmentDifference) -> dict[str, str]:
    return {"name": entry.name, "one": entry.one, "other": entry.other}
