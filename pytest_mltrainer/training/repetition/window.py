"""Replays the window in which two runs part, in two fresh processes, and names what differs."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.core.work import WorkRequest
from pytest_mltrainer.launchers import choose
from pytest_mltrainer.training.checkpoints import Checkpoint
from pytest_mltrainer.training.observation.digests import DIGESTS_FILE, read_digests
from pytest_mltrainer.training.ranks import Ranks
from pytest_mltrainer.training.repetition.divergence import (
    Divergence,
    columns,
    environment_differences,
    first_divergence,
)
from pytest_mltrainer.training.repetition.kept_step import Cause, KeptStep, StepKeeper, first_cause
from pytest_mltrainer.training.reproducibility import choose_device
from pytest_mltrainer.training.session import TrainingSession
from pytest_mltrainer.training.task import load_task

REPLAYED = "replayed"
KEPT_STEP = "step.pt"
TIMEOUT_S = 600.0
MOST_PASSES = 3
"""Of what comes and goes, a replay may show an earlier step first: then that one is replayed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What two fresh processes did in the window: `cause` is None where they agreed.

    `step` is the step whose tensors were compared, `failure` why that could not be done.
    """

    step: int
    cause: Cause | None = None
    failure: str = ""

    def text(self) -> str:
        """One sentence."""
        if self.failure:
            return f"not replayed: {self.failure}"
        if self.cause is None:
            return (
                f"replayed up to step {self.step} in two fresh processes, which agreed this time: "
                "what differs does not come every time"
            )
        return f"replayed, step {self.step}: {self.cause.text()}"

    def to_json(self) -> dict[str, Any]:
        """The replay as it is stored."""
        return {**asdict(self), "text": self.text()}


def replay_both(one: WorkRequest, other: WorkRequest, step: int) -> Replay:
    """Replay two trainings up to `step` at the same time, and compare that step tensor by tensor.

    The requests name what to train; `arguments.checkpoint` is where to go on from, None for the
    beginning. Where the replays part earlier, they are replayed up to there.
    """
    for number in range(MOST_PASSES):
        with tempfile.TemporaryDirectory(prefix="mltrainer-replay-") as folder:
            try:
                attempts = _trained_again((one, other), step, Path(folder), number)
                found = [read_digests(path / REPLAYED / DIGESTS_FILE) for path in attempts]
                divergence = first_divergence(*found)
                if divergence is None or divergence.step >= step:
                    kept = [KeptStep.load(path / KEPT_STEP) for path in attempts]
                    return Replay(step=step, cause=first_cause(*kept))
            except UserError as error:
                return Replay(step=step, failure=str(error))
        step = divergence.step
    return Replay(step=step, failure=f"{MOST_PASSES} replays parted at different steps")


def explain_rehearsals(
    requests: Sequence[WorkRequest], first: dict[str, Any], second: dict[str, Any]
) -> dict[str, Any] | None:
    """Why two rehearsals differ, replayed; None when their steps are the same."""
    divergence = rehearsals_divergence(first, second)
    if divergence is None:
        return None
    differences = environment_differences(first["environment"], second["environment"])
    replayed = None
    if divergence.part != "length":
        replayed = replay_both(requests[0], requests[1], divergence.step).to_json()
    return {
        "environment": [entry.text() for entry in differences],
        "divergence": divergence.to_json(),
        "replay": replayed,
    }


def rehearsals_divergence(first: dict[str, Any], second: dict[str, Any]) -> Divergence | None:
    """The first difference in the steps of two rehearsals."""
    return first_divergence(columns(first["steps"]), columns(second["steps"]))


def replay(request: WorkRequest) -> dict[str, Any]:
    """The worker's entry: train up to `arguments.step`, digest each step, keep the last."""
    project = Project.load(Path(request.project_root))
    config = Config.from_json(request.config)
    task, output = load_task(project.task), request.folder / REPLAYED
    step, checkpoint = int(request.arguments["step"]), request.arguments.get("checkpoint")
    own = config.for_phase(request.phase)
    ranks = Ranks.join(request, choose_device(own.device))
    if request.phase == "planning":
        session = TrainingSession.rehearse(own, task, output, steps=step + 1)
    else:
        session = TrainingSession.open(project, config, request.phase, task, output, ranks=ranks)
    if checkpoint is not None:
        loaded = Checkpoint.load(Path(checkpoint))
        session.identity = loaded.identity
        session.resume(loaded)
    session.observer.limit_steps = step + 1
    session.digests.every = 1
    keeper = StepKeeper(session, step)
    session.observer.watchers.append(keeper)
    session.run()
    if ranks.is_first:
        keeper.kept.save(request.folder / KEPT_STEP)
    ranks.leave()
    return {}


def _trained_again(
    requests: Sequence[WorkRequest], step: int, folder: Path, number: int
) -> list[Path]:
    """Replay each request in a process of its own. Raises UserError when one fails."""
    started = []
    try:
        for name, request in zip(("one", "other"), requests, strict=True):
            # Named after the attempt that it repeats, for tasks that look at their command line.
            attempt = folder / name / f"{request.folder.name}-replay-{number}"
            attempt.mkdir(parents=True)
            again = replace(
                request,
                entry="pytest_mltrainer.training.repetition.window:replay",
                attempt=str(attempt),
                arguments={**request.arguments, "step": step},
            )
            again.save()
            launcher = choose(Config.from_json(again.config), again.steps)
            started.append((attempt, launcher.start(again, timeout_s=TIMEOUT_S)))
        for _, work in started:
            result = work.result()
            if result.status != "done":
                raise UserError("\n    ".join([result.message, *result.traceback]))
    finally:
        for _, work in started:
            work.cancel()
    return [attempt for attempt, _ in started]
