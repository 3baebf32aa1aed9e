"""The bodies of checks that several gates share."""

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pytest_mltrainer.diagnostics import detectors
from pytest_mltrainer.diagnostics.readings import can_patch

from pytest_mltrainer.core.config import Config, apply_patch, flatten, load_config
from pytest_mltrainer.core.hooks import offered, plugin_manager
from pytest_mltrainer.core.judge import Judge
from pytest_mltrainer.core.proposal import places
from pytest_mltrainer.documents.compare import differences
from pytest_mltrainer.training.diagnosing.diagnosis import Examination, examine
from pytest_mltrainer.training.optimization.optimized import Optimized, examine_optimization
from pytest_mltrainer.training.progress import Progress
from pytest_mltrainer.training.ranks import RANKS_FILE
from pytest_mltrainer.training.run import TrainingRun
from pytest_mltrainer.training.task import Task


def training_completed(run: TrainingRun, judge: Judge) -> None:
    """As many updates as planned, or as many epochs as early stopping, re-evaluated, asks for."""
    ranks_agree(run, judge)
    if type(run.task).train is not Task.train:
        judge.not_applicable("the task trains by a loop of its own, whose length is not planned")
    training = run.config.training
    batches = -(-len(run.splits.train) // training.batch_size)  # type: ignore[arg-type]
    updates = -(-batches // training.accumulate)
    done = len(run.telemetry.steps)
    wanted = updates * stopping_epoch(run)
    ending = "the run turned non-finite" if run.has("fault.json") else "the run ended early"
    judge.that(
        done == wanted,
        what="updates recorded",
        measured=f"{done}" if done == wanted else f"{done} ({ending})",
        wanted=f"{wanted} ({updates} an epoch, {stopping_epoch(run)} of {training.epochs} epochs)",
        artifact=run.described("telemetry/steps.rec"),
    )


def ranks_agree(run: TrainingRun, judge: Judge) -> None:
    """Where several processes trained together, all of them ended with the same parameters."""
    launch = run.config.launch
    ranks = launch.processes * launch.nodes
    if ranks == 1:
        return
    digests = run.json(RANKS_FILE)["parameters"]
    judge.equal(len(digests), ranks, what="processes that trained together")
    different = [rank for rank, digest in enumerate(digests) if digest != digests[0]]
    judge.equal(
        different,
        [],
        what=f"processes whose parameters are not those of the first of {ranks}",
        artifact=run.described(RANKS_FILE),
    )


def stopping_epoch(run: TrainingRun) -> int:
    """How many epochs are asked for, early stopping re-evaluated on what was logged."""
    training = run.config.training
    progress = Progress()
    for record in run.telemetry.epochs:
        value = record.validation[run.metric.name]
        progress.update(
            record.epoch, value, maximize=run.maximize, stopping=training.early_stopping
        )
        if progress.stopped_early:
            return progress.epochs_done
    return training.epochs


def best_is_best(run: TrainingRun, judge: Judge) -> None:
    """The best checkpoint loads safely, fits the model, and is of the best logged epoch."""
    best = run.best_logged_epoch()
    if best is None:
        judge.cannot("no epoch has a finite validation metric, so there is no best one")
    checkpoint = run.checkpoint("best")
    run.model(checkpoint)
    judge.equal(
        checkpoint.epoch,
        best,
        what=f"epoch of the best checkpoint, by the logged validation {run.metric.name}",
        artifact=run.described("checkpoints/best.pt"),
    )


def metric_recomputed(run: TrainingRun, judge: Judge) -> None:
    """The metric of the best checkpoint, predicted anew, is the one that was logged."""
    best = run.best_logged_epoch()
    if best is None:
        judge.cannot("no epoch has a finite validation metric")
    logged = run.telemetry.epochs[best].validation[run.metric.name]
    validation = run.evaluation.validation
    found = validation.scores[run.metric.name]
    one_sample = 1 / len(validation.predictions.targets) if run.metric.scale == "proportion" else 0
    judge(
        abs(found - logged),
        what=f"validation {run.metric.name} recomputed {found:.6f} against logged {logged:.6f}",
        at_most=max(one_sample, run.config.limits.max_metric_difference * abs(logged)),
        artifact=run.described("checkpoints/best.pt"),
    )


@lru_cache(maxsize=1)
def optimized(run: TrainingRun) -> Optimized:
    """The optimization computed anew; the checks of one gate share it."""
    return examine_optimization(run)


@lru_cache(maxsize=1)
def examined(run: TrainingRun) -> Examination:
    """The diagnosis computed anew; the checks of one gate share it."""
    return examine(
        run, detectors() | offered(plugin_manager(run.project), "mltrainer_detectors"), can_patch
    )


def config_is_patched(
    run: TrainingRun, judge: Judge, name: str, config: Config, patch: Mapping[str, Any]
) -> None:
    """The proposed configuration, read strictly, is `config` with the patch and nothing else."""
    after = flatten(load_config(run.folder.artifact(name)).to_json())
    wanted = flatten(apply_patch(config, places(config, patch)).to_json())
    different = [key for key in sorted({*after, *wanted}) if after.get(key) != wanted.get(key)]
    judge.that(
        not different,
        what=f"keys of {name} beside the {len(patch)} patched that differ",
        measured=", ".join(
            f"{key}: {after.get(key)} instead of {wanted.get(key)}" for key in different[:3]
        )
        or "none",
        wanted="none",
        artifact=run.described(name),
    )


def says_the_same(judge: Judge, found: object, again: object, *, what: str) -> None:
    """Stored values are those computed again: texts exactly, numbers within 1e-6."""
    one, other = (
        json.dumps(value, indent=1, sort_keys=True, default=str) for value in (found, again)
    )
    different = [
        f"found {entry.found.strip()} instead of {entry.recomputed.strip()}"
        for entry in differences(one, other)
    ]
    judge.that(
        not different,
        what=what,
        measured="; ".join(different[:3]) or "the same",
        wanted="the recorded values",
    )
