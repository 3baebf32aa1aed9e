"""Repeats a few steps of a training in a fresh process, from a checkpoint or its beginning."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.core.work import TRAIN, WorkRequest
from pytest_mltrainer.launchers import choose
from pytest_mltrainer.training.checkpoints import Checkpoint
from pytest_mltrainer.training.observation.digests import DIGESTS_FILE, read_digests
from pytest_mltrainer.training.observation.telemetry import STEPS_FILE, read_steps
from pytest_mltrainer.training.ranks import Ranks
from pytest_mltrainer.training.reproducibility import choose_device
from pytest_mltrainer.training.run import TrainingRun
from pytest_mltrainer.training.session import TrainingSession
from pytest_mltrainer.training.task import load_task

RESUMED = "resumed"
TIMEOUT_S = 600.0


def resumable_checkpoint(run: TrainingRun, steps: int) -> tuple[str, int] | None:
    """The latest checkpoint with `steps` recorded steps behind it, and its step count."""
    total = len(run.telemetry.steps)
    paths = run.folder.path.glob("checkpoints/*.pt")
    names = [path.stem for path in paths if path.stem == "step" or path.stem.startswith("epoch_")]
    found = [(name, run.checkpoint(name).step) for name in names]
    behind = [entry for entry in found if total - entry[1] >= steps]
    return max(behind, key=lambda entry: entry[1], default=None)


def resume_afresh(
    run: TrainingRun, config: Config, checkpoint: str | None, steps: int
) -> tuple["np.ndarray[Any, Any]", "np.ndarray[Any, Any]"]:
    """Step records and digests of `steps` updates behind a checkpoint, in a fresh process.

    Without a checkpoint they are the first ones. Raises UserError when that process fails.
    """
    path = None if checkpoint is None else run.folder.artifact(f"checkpoints/{checkpoint}.pt")
    with _attempt(run, config) as folder:
        request = WorkRequest(
            entry="pytest_mltrainer.training.repetition.resumption:resume",
            phase=run.phase,
            project_root=str(run.project.root),
            attempt=folder,
            config=config.to_json(),
            seed=run.config.seed,
            threads=run.config.threads,
            steps=(TRAIN,),
            arguments={
                "checkpoint": None if path is None else str(path),
                "steps": steps,
            },
        )
        request.save()
        result = choose(config, request.steps).start(request, timeout_s=TIMEOUT_S).result()
        if result.status != "done":
            raise UserError(
                f"resuming from {checkpoint or 'the beginning'} failed: {result.message}"
                + "".join(f"\n    {frame}" for frame in result.traceback)
            )
        output = Path(folder) / RESUMED
        return read_steps(output / STEPS_FILE), read_digests(output / DIGESTS_FILE)


@contextmanager
def _attempt(run: TrainingRun, config: Config) -> Iterator[str]:
    """A folder that is gone afterwards; with several nodes where all of them see it."""
    attempts = run.run_folder.attempt(RESUMED).parent
    if config.launch.nodes > 1:
        attempts.mkdir(exist_ok=True)
    where = attempts if config.launch.nodes > 1 else None
    with tempfile.TemporaryDirectory(prefix="mltrainer-resume-", dir=where) as folder:
        yield folder


def resume(request: WorkRequest) -> dict[str, Any]:
    """The worker's entry: go on from a checkpoint, or begin, for a number of steps."""
    project = Project.load(Path(request.project_root))
    config = Config.from_json(request.config)
    where, steps = request.arguments["checkpoint"], int(request.arguments["steps"])
    checkpoint = None if where is None else Checkpoint.load(Path(where))
    output = request.folder / RESUMED
    ranks = Ranks.join(request, choose_device(config.for_phase(request.phase).device))
    session = TrainingSession.open(
        project, config, request.phase, load_task(project.task), output, ranks=ranks
    )
    if checkpoint is not None:
        session.identity = checkpoint.identity
        session.resume(checkpoint)
    session.observer.limit_steps = (checkpoint.step if checkpoint else 0) + steps
    session.run()
    ranks.leave()
    return {}
