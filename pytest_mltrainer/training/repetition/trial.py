"""A rehearsal in chosen worlds: trained, resumed from its middle, and trained once more.

One trial in which everything is another that must not matter is part of every planning. The
others look for the cause when that one differs, one source at a time.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from pytest_mltrainer.core import files
from pytest_mltrainer.core.config import Config, apply_patch
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.core.work import WorkRequest, WorkResult
from pytest_mltrainer.launchers import LocalLauncher
from pytest_mltrainer.training.checkpoints import STEP, Checkpoint
from pytest_mltrainer.training.repetition.disturbance import SHIFTED, controlled
from pytest_mltrainer.training.repetition.left_behind import Remains, iterated_sets
from pytest_mltrainer.training.repetition.rehearsal import loader_digests, told, trained_steps
from pytest_mltrainer.training.repetition.sightings import Sighting, Watch, read_sightings
from pytest_mltrainer.training.reproducibility import make_deterministic
from pytest_mltrainer.training.task import load_task

ENTRY = "pytest_mltrainer.training.repetition.trial:run_trial"
FOUND = "rehearsal.json"
AT_ONCE = 2
TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """The worlds to rehearse in; `other_hashes`: texts hash to other numbers.

    `digests_state`: also what the training leaves in the user's modules and objects, which is dear
    where these hold much data.
    """

    name: str
    worlds: dict[str, int] = field(default_factory=dict)
    other_hashes: bool = False
    digests_state: bool = True

    def request(self, like: WorkRequest, folder: Path) -> WorkRequest:
        """The work of this trial for the project that `like` is about."""
        return replace(
            like,
            entry=ENTRY,
            attempt=str(folder),
            # Nothing but the hashes of texts comes from the seed of a request.
            seed=like.seed + self.other_hashes,
            arguments={
                "role": self.name,
                "worlds": self.worlds,
                "digests_state": self.digests_state,
            },
        )


SHIFTED_TRIAL = Trial(name="shifted", worlds=SHIFTED, other_hashes=True, digests_state=False)
"""Everything that must not matter is another."""


def run_trial(request: WorkRequest) -> dict[str, Any]:
    """The worker's entry: rehearse in `arguments.worlds`, write digests and what was seen."""
    project = Project.load(Path(request.project_root))
    config = Config.from_json(request.config).for_phase("planning")
    watch = Watch(project.root, request.folder / "seen.jsonl")
    make_deterministic(threads=config.threads, exceptions=config.training.deterministic_exceptions)
    with controlled(request.arguments["worlds"], watch) as modules_are_imported, told():
        load_task(project.task)
        modules_are_imported()
        remains = Remains(watch) if request.arguments["digests_state"] else None
        found, state = _rehearsed(project, config, request.folder, remains)
    seen = [*read_sightings(request.folder / "seen.jsonl"), *iterated_sets(watch), *state]
    found["seen"] = [asdict(entry) for entry in dict.fromkeys(seen)]
    files.write_json(request.folder / FOUND, found)
    return {}


def run_trials(like: WorkRequest, trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """What each trial found in a process of its own, two at a time; `failure` where one failed."""
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="mltrainer-trial-") as folder:
        for start in range(0, len(trials), AT_ONCE):
            works = []
            try:
                for trial in trials[start : start + AT_ONCE]:
                    attempt = Path(folder) / f"rehearsal-{trial.name}"
                    attempt.mkdir()
                    request = trial.request(like, attempt)
                    request.save()
                    works.append((attempt, LocalLauncher().start(request, timeout_s=TIMEOUT_S)))
                found += [outcome(work.result(), attempt) for attempt, work in works]
            finally:
                for _, work in works:
                    work.cancel()
    return found


def outcome(result: WorkResult, folder: Path) -> dict[str, Any]:
    """What a trial has written, or how it failed."""
    if result.status == "done":
        stored: dict[str, Any] = files.read_json(folder / FOUND)
        return stored
    return {"failure": "; ".join([result.message, *result.traceback])}


def _rehearsed(
    project: Project, config: Config, folder: Path, remains: Remains | None
) -> tuple[dict[str, Any], list[Sighting]]:
    """The digests of a training, of one resumed and of a second one; what the first one changed."""
    steps = config.limits.probe_steps
    middle = steps // 2 + 1
    saving = apply_patch(
        config, {"training.checkpoint_steps": middle, "training.checkpoint_every": 1}
    )
    task = load_task(project.task)
    trained, session = trained_steps(
        task, saving, folder / "main", steps, prepared=remains.before if remains else None
    )
    threads = torch.get_num_threads()
    state = remains.after(session) if remains else []
    loaders = loader_digests(task, config, session)
    # A new task and a new session, as in another process, but for what the modules hold.
    checkpoint = _within(folder / "main/checkpoints", len(trained))
    resumed = None
    if checkpoint is not None:
        behind, _ = trained_steps(
            load_task(project.task), config, folder / "resumed", steps, checkpoint=checkpoint
        )
        resumed = {"from": checkpoint.step, "steps": behind}
    again, _ = trained_steps(load_task(project.task), config, folder / "again", middle)
    return {
        "steps": trained,
        "loaders": loaders,
        "threads": threads,
        "resumed": resumed,
        "again": {"to": middle, "steps": again},
    }, state


def _within(folder: Path, steps: int) -> Checkpoint | None:
    """A checkpoint with steps behind it, in the middle where there is one; None without any."""
    for path in (folder / STEP, *sorted(folder.glob("epoch_*.pt"))):
        if path.is_file():
            checkpoint = Checkpoint.load(path)
            if 0 < checkpoint.step < steps:
                return checkpoint
    return None
