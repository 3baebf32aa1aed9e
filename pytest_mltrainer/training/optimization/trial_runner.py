"""Runs one trial: a worker of its own, followed to its end, its folder put in place whole."""

import contextlib
import errno
import math
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_mltrainer.core import files
from pytest_mltrainer.core.artifacts import file_names
from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.digests import sha256_file
from pytest_mltrainer.core.errors import StorageError, UserError
from pytest_mltrainer.core.work import (
    EVENTS,
    RESULT,
    TRAIN,
    Launcher,
    Work,
    WorkRequest,
    WorkResult,
)
from pytest_mltrainer.training.observation.telemetry import Telemetry
from pytest_mltrainer.training.optimization.trials import (
    PHASE,
    TRIAL_FILE,
    TRIALS,
    Kind,
    Trial,
    TrialStatus,
    read_trial,
    trial_config,
)

ENTRY = "pytest_mltrainer.phases.trial:work"
LEAST_FREE_BYTES = 2**24
FULL = (errno.ENOSPC, errno.EDQUOT)
CHECKPOINTS: Mapping[TrialStatus, tuple[str, ...]] = {
    "finished": ("best.pt", "last.pt"),
    "broken": ("best.pt", "last.pt"),
    "pruned": (),
    "failed": (),
}
"""What is kept of a trial; of one on a fresh seed the best alone."""
OnEpoch = Callable[[int, float], str]
"""What is called behind each epoch (from 1 on) with the metric; why to end the trial, or empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPlan:
    """A trial that is to be run."""

    id: str
    round: int
    kind: Kind
    origin: str
    patch: Mapping[str, Any]
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialRunner:
    """Runs trials of one optimization. `run` may be called from several threads.

    `request` is that of the phase, whose attempt the trials live in; `before` the folder of an
    earlier optimization, whose trials count if they are of the same training. `identify` gives the
    digest of all that a training with a configuration depends on, `entry` is what a worker calls.
    """

    request: WorkRequest
    config: Config
    metric: str
    launcher: Launcher
    identify: Callable[[Config], str]
    before: Path
    entry: str = ENTRY

    def run(
        self,
        plan: TrialPlan,
        *,
        left_s: float = math.inf,
        on_epoch: OnEpoch = lambda epoch, value: "",
    ) -> Trial:
        """Run a trial, or go on with one that was killed.

        Whatever goes wrong in the trial becomes its status, taking longer than `left_s` included.
        Raises StorageError where the trial cannot be kept, a full disk among the reasons.
        """
        config = trial_config(self.config, plan.patch, plan.seed)
        identity = self.identify(config)
        request = self._request(plan, config, identity)
        _prepare(request)
        limit_s = config.budgets.worker_timeout_minutes * 60
        start = time.perf_counter()
        work = self.launcher.start(request, timeout_s=min(left_s, limit_s))
        try:
            why_ended = _follow(work, on_epoch)
            result = work.result()
        except BaseException:
            work.cancel()
            raise
        if result.status == "timeout" and left_s < limit_s:
            result = replace(result, message="stopped: the minutes of the budget are used up")
        trial = self._told(plan, request, identity, result, why_ended)
        return self._put(replace(trial, worker_s=time.perf_counter() - start), request.output)

    def identity(self, patch: Mapping[str, Any], seed: int) -> str:
        """What tells the training with a patch from every other one. Raises ConfigError."""
        return self.identify(trial_config(self.config, patch, seed))

    def done(self, plan: TrialPlan) -> Trial | None:
        """The trial if it is done already, here or in the optimization before; None else."""
        folder = self.folder(plan.id)
        identity = self.identity(plan.patch, plan.seed)
        with contextlib.suppress(StorageError):
            trial = read_trial(folder)
            if trial.identity == identity:
                return trial
        shutil.rmtree(folder, ignore_errors=True)
        return self._from_before(plan, identity)

    def folder(self, trial_id: str) -> Path:
        """Where a trial that is done has its artifacts."""
        return self.request.output / TRIALS / trial_id

    def _from_before(self, plan: TrialPlan, identity: str) -> Trial | None:
        """The same training from the optimization before, copied under its new id."""
        for folder in sorted((self.before / TRIALS).glob("*")):
            with contextlib.suppress(StorageError):
                trial = read_trial(folder)
                is_seed = (trial.kind == "seed", plan.kind == "seed")
                if trial.identity != identity or trial.status != "finished" or len({*is_seed}) > 1:
                    continue
                copied = self.request.folder / TRIALS / plan.id / "copied"
                shutil.rmtree(copied, ignore_errors=True)
                shutil.copytree(folder, copied)
                same = {name: getattr(plan, name) for name in plan.__slots__}
                return self._put(replace(trial, **same, worker_s=0.0), copied)
        return None

    def _request(self, plan: TrialPlan, config: Config, identity: str) -> WorkRequest:
        return WorkRequest(
            entry=self.entry,
            phase=PHASE,
            project_root=self.request.project_root,
            attempt=str(self.request.folder / TRIALS / plan.id),
            config=config.to_json(),
            seed=plan.seed,
            threads=config.threads,
            steps=(TRAIN,),
            arguments={"identity": identity},
        )

    def _told(
        self,
        plan: TrialPlan,
        request: WorkRequest,
        identity: str,
        result: WorkResult,
        why_ended: str,
    ) -> Trial:
        """The trial as its worker has left it, without the checkpoints that nobody needs."""
        status, reason = _status(result, why_ended)
        if status == "failed":
            _refuse_full_disk(request.folder, reason)
        values = result.values if result.status == "done" else {}
        output = request.output
        output.mkdir(parents=True, exist_ok=True)
        _drop_checkpoints(output, ("best.pt",) if plan.kind == "seed" else CHECKPOINTS[status])
        telemetry = _telemetry(output)
        return Trial(
            **{name: getattr(plan, name) for name in plan.__slots__},
            identity=identity,
            status=status,
            reason=reason,
            value=values.get("value"),
            progress=_progress(telemetry, self.metric),
            duration_s=sum(epoch.duration_s for epoch in telemetry.epochs) if telemetry else 0.0,
            memory=values.get("memory", {}),
        )

    def _put(self, trial: Trial, folder: Path) -> Trial:
        """Write `trial.json`, then rename the folder into the artifacts: now the trial is done."""
        digests = {
            name: sha256_file(folder / name) for name in file_names(folder) if name != TRIAL_FILE
        }
        trial = replace(trial, artifacts=digests)
        files.write_json(folder / TRIAL_FILE, trial.to_json())
        target = self.folder(trial.id)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(target)
            files.sync_folder(target.parent)
        except OSError as error:
            raise files.storage_error("write", target, error) from error
        return trial


def _prepare(request: WorkRequest) -> None:
    """Keep an interrupted attempt at the same training, else start afresh."""
    folder = request.folder
    if not _is_same(request):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        request.output.mkdir(parents=True, exist_ok=True)
        for name in (RESULT, EVENTS):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise files.storage_error("write", folder, error) from error
    request.save()


def _is_same(request: WorkRequest) -> bool:
    try:
        return WorkRequest.load(request.folder) == request
    except (UserError, TypeError, KeyError):
        return False


def _follow(work: Work, on_epoch: OnEpoch) -> str:
    """Follow a trial to its end; why it was ended from here, or an empty text."""
    for event in work.events():
        if event.kind != "epoch":
            continue
        why = on_epoch(int(event.values["epoch"]), float(event.values["value"]))
        if why:
            work.cancel()
            return why
    return ""


def _status(result: WorkResult, why_ended: str) -> tuple[TrialStatus, str]:
    if result.status == "done":
        return result.values["status"], result.values["reason"]
    if why_ended and result.status == "cancelled":
        return "pruned", why_ended
    return "failed", "\n".join([result.message, *result.traceback])


def _refuse_full_disk(folder: Path, reason: str) -> None:
    """A trial that failed because nothing can be written any more says nothing of its patch.

    A quota, or another disk that the task writes to, shows in the error of the trial alone.
    """
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE_BYTES or any(os.strerror(number) in reason for number in FULL):
        raise StorageError(
            f"{folder}: the disk is full ({free / 2**20:,.0f} MiB free). The study and every "
            "finished trial are kept: make room, then run again, and it goes on from here"
        )


def _drop_checkpoints(output: Path, kept: tuple[str, ...]) -> None:
    for path in (output / "checkpoints").glob("*.pt"):
        if path.name not in kept:
            path.unlink()


def _telemetry(output: Path) -> Telemetry | None:
    try:
        return Telemetry.read(output)
    except StorageError:
        return None


def _progress(telemetry: Telemetry | None, metric: str) -> tuple[float | None, ...]:
    values = [
        epoch.validation.get(metric, math.nan) for epoch in (telemetry.epochs if telemetry else ())
    ]
    return tuple(value if math.isfinite(value) else None for value in values)
