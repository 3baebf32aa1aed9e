"""Doing a phase's work: prepare the attempt, follow the worker, put the artifacts in place."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from pytest_mltrainer.core import files
from pytest_mltrainer.core.artifacts import JUDGEMENTS, MANIFEST, RunFolder
from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.core.work import (
    EVENTS,
    KEPT,
    LOG,
    REQUEST,
    RESULT,
    Launcher,
    WorkEvent,
    WorkRequest,
    WorkResult,
)


class WorkFailed(UserError):
    """The worker ended without finishing the phase. Nothing of it counts."""

    def __init__(self, phase: str, result: WorkResult, log: Path) -> None:
        """`result` says how it ended; its text becomes the error's."""
        lines = [f"{phase} was not finished: {result.message}"]
        lines += [f"    {frame}" for frame in result.traceback]
        lines.append(f"The worker's output: {log}")
        super().__init__("\n".join(lines))
        self.result = result


def do_phase(
    project: Project,
    config: Config,
    phase: str,
    steps: Sequence[str],
    launcher: Launcher,
    on_event: Callable[[WorkEvent], None],
) -> None:
    """Run `steps` of a phase in a worker; the others' artifacts are kept.

    An attempt that was killed is continued when the request is the same. Raises WorkFailed.
    """
    run = RunFolder(project.run_folder)
    request = WorkRequest(
        entry=f"pytest_mltrainer.phases.{phase}:work",
        phase=phase,
        project_root=str(project.root),
        attempt=str(run.attempt(phase)),
        config=config.to_json(),
        seed=config.seed,
        threads=config.threads,
        steps=tuple(steps),
    )
    _prepare(request, run)
    timeout_s = config.budgets.worker_timeout_minutes * 60
    work = launcher.start(request, timeout_s=timeout_s)
    try:
        for event in work.events():
            on_event(event)
        result = work.result()
    except BaseException:
        work.cancel()
        raise
    if result.status != "done":
        raise WorkFailed(phase, result, request.folder / LOG)
    _take_over(request, run)


def _prepare(request: WorkRequest, run: RunFolder) -> None:
    """Keep an interrupted attempt at the same work, else start from the artifacts that stay."""
    folder = request.folder
    if not _is_same_attempt(request):
        shutil.rmtree(folder, ignore_errors=True)
        request.output.mkdir(parents=True)
        current = run.phase(request.phase)
        manifest = current.manifest() if request.steps and current.path.exists() else None
        for name, record in manifest.steps.items() if manifest else ():
            if name not in request.steps:
                for artifact in record.outputs:
                    target = request.output / artifact
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(current.artifact(artifact), target)
        if manifest:
            files.write_json(request.output / KEPT, manifest.to_json())
    for name in (RESULT, EVENTS):
        (folder / name).unlink(missing_ok=True)
    request.save()


def _is_same_attempt(request: WorkRequest) -> bool:
    try:
        return (request.folder / REQUEST).exists() and WorkRequest.load(request.folder) == request
    except (UserError, TypeError, KeyError):
        return False


def _take_over(request: WorkRequest, run: RunFolder) -> None:
    """Swap the finished artifacts into the phase's folder; the ledger of judgements goes along."""
    output = request.output
    if not (output / MANIFEST).exists():
        raise UserError(f"{output}: the worker said done but wrote no manifest")
    target = run.phase(request.phase).path
    judgements = target / JUDGEMENTS
    if judgements.exists():
        shutil.copy2(judgements, output / JUDGEMENTS)
    files.swap_folder(output, target)
    shutil.rmtree(request.folder, ignore_errors=True)
