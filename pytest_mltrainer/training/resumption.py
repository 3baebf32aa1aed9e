"""Resumes a training from one of its checkpoints in a fresh process, for a few steps."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.core.work import WorkRequest
from pytest_mltrainer.launchers.local import LocalLauncher
from pytest_mltrainer.training.checkpoints import Checkpoint
from pytest_mltrainer.training.run import TrainingRun
from pytest_mltrainer.training.session import TrainingSession
from pytest_mltrainer.training.task import load_task
from pytest_mltrainer.training.telemetry import STEPS_FILE, read_steps

RESUMED = "resumed"
TIMEOUT_S = 600.0


def resumable_checkpoint(run: TrainingRun, steps: int) -> tuple[str, int] | None:
    """The latest periodic checkpoint with `steps` recorded steps behind it, and its step count."""
    total = len(run.telemetry.steps)
    for path in sorted(run.folder.path.glob("checkpoints/epoch_*.pt"), reverse=True):
        step = run.checkpoint(path.stem).step
        if total - step >= steps:
            return path.stem, step
    return None


def resume_afresh(
    run: TrainingRun, config: Config, checkpoint: str, steps: int
) -> "np.ndarray[Any, Any]":
    """The step records of `steps` updates behind a checkpoint, trained again in a fresh process.

    Raises UserError when that process fails.
    """
    with tempfile.TemporaryDirectory(prefix="mltrainer-resume-") as folder:
        request = WorkRequest(
            entry="pytest_mltrainer.training.resumption:resume",
            phase=run.phase,
            project_root=str(run.project.root),
            attempt=folder,
            config=config.to_json(),
            seed=run.config.seed,
            threads=run.config.threads,
            arguments={
                "checkpoint": str(run.folder.artifact(f"checkpoints/{checkpoint}.pt")),
                "steps": steps,
            },
        )
        request.save()
        result = LocalLauncher().start(request, timeout_s=TIMEOUT_S).result()
        if result.status != "done":
            raise UserError(
                f"resuming from {checkpoint} failed: {result.message}"
                + "".join(f"\n    {frame}" for frame in result.traceback)
            )
        return read_steps(Path(folder) / RESUMED / STEPS_FILE)


def resume(request: WorkRequest) -> dict[str, Any]:
    """The worker's entry: go on from a checkpoint for a number of steps."""
    project = Project.load(Path(request.project_root))
    config = Config.from_json(request.config)
    checkpoint = Checkpoint.load(Path(request.arguments["checkpoint"]))
    output = request.folder / RESUMED
    session = TrainingSession.open(project, config, request.phase, load_task(project.task), output)
    session.identity = checkpoint.identity
    session.resume(checkpoint)
    session.observer.limit_steps = checkpoint.step + int(request.arguments["steps"])
    session.run()
    return {}
