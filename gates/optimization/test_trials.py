"""Was everything tried that was recommended, and did every trial end well or say why not?"""

import numpy as np
from pytest_mltrainer.gates.common import (
    config_is_patched,
    optimized,
    says_the_same,
    stopping_epoch,
)
from pytest_mltrainer.gates.repetition import repeats

from pytest_mltrainer.core.digests import sha256_file
from pytest_mltrainer.core.files import read_json
from pytest_mltrainer.core.judge import Judge, guided_by
from pytest_mltrainer.training.optimization.optimization_report import CONFIG
from pytest_mltrainer.training.optimization.search_space import ALWAYS
from pytest_mltrainer.training.optimization.trials import (
    BASELINE,
    BY_HAND,
    TRIAL_FILE,
    TRIALS,
    Tried,
    trial_run,
)
from pytest_mltrainer.training.run import TrainingRun
from pytest_mltrainer.training.task import Task


def test_config_from_recommendations(training_run: TrainingRun, judge: Judge) -> None:
    """`optimization_config.yaml` is the baseline's configuration with the winner's patch alone.

    The winner is found anew from the raw predictions. Its patch may change only what was
    recommended, what `optimization.search` names, and learning rate and weight decay, which a
    search around the best patch varies as well. Every other key of the file must be equal.
    """
    found = optimized(training_run)
    wanted = {"id": found.best, "patch": found.patch}
    says_the_same(judge, training_run.json("winner.json"), wanted, what="winner.json")
    known = {
        key
        for entry in found.rounds
        for tried in entry.round.recommendations
        for key in tried.patch
    }
    known |= {*ALWAYS, *training_run.config.optimization.search}
    strange = sorted(set(found.patch) - known)
    judge.equal(strange, [], what="changed keys that nobody recommended or searched")
    config_is_patched(training_run, judge, CONFIG, training_run.whole_config, found.patch)


def test_recommendations_covered(training_run: TrainingRun, judge: Judge) -> None:
    """Each recommendation of the diagnosis was tried, or skipped with a reason.

    Those of the first round are the stored ones of the diagnostics phase. A trial that tried one
    must hold its patch; only what has no patch may be left to a person.
    """
    found = optimized(training_run)
    diagnosed = training_run.run_folder.phase("diagnostics")
    asked = read_json(diagnosed.artifact("recommendations.json"))
    first = found.rounds[0].round.recommendations
    says_the_same(
        judge,
        [[entry.instruction, dict(entry.patch)] for entry in first],
        [[entry["instruction"], entry["patch"]] for entry in asked],
        what="recommendations of the first round, against those of the diagnosis",
    )
    every = [tried for entry in found.rounds for tried in entry.round.recommendations]
    open_ends = [problem for tried in every if (problem := _not_covered(training_run, tried))]
    judge.that(
        not open_ends,
        what=f"recommendations of {len(every)} that were neither tried nor skipped with a reason",
        measured="; ".join(open_ends[:3]) or "none",
        wanted="none",
        artifact=training_run.described("rounds.json"),
    )


def _not_covered(run: TrainingRun, tried: Tried) -> str:
    """What is wrong with the account of one recommendation; empty if nothing is."""
    if tried.status == "skipped":
        if not tried.reason.strip():
            return f"'{tried.instruction}' was skipped without a reason"
        if tried.patch and tried.reason.startswith(BY_HAND):
            return f"'{tried.instruction}' has a patch, so it needs no person"
        return ""
    trial = optimized(run).trials.get(tried.trial or "")
    if trial is None:
        return f"'{tried.instruction}' was tried by {tried.trial}, which does not exist"
    if any(trial.patch.get(key, tried) != value for key, value in tried.patch.items()):
        return f"{trial.id} changes other values than '{tried.instruction}'"
    return ""


def test_training_completed(training_run: TrainingRun, judge: Judge) -> None:
    """Every trial ended with a status, and what is there of it is what was recorded.

    Every folder of a trial belongs to a round. A trial that did not finish says why; one that did
    has as many epochs as planned, or as early stopping, re-evaluated, asks for.
    """
    trials = optimized(training_run).trials
    folders = sorted(
        path.parent.name for path in training_run.folder.path.glob(f"{TRIALS}/*/{TRIAL_FILE}")
    )
    judge.equal(folders, sorted(trials), what="trials with a folder, against those of the rounds")
    built_in = type(training_run.task).train is Task.train
    for name, trial in trials.items():
        own = trial_run(training_run, name)
        changed = [
            artifact
            for artifact, digest in trial.artifacts.items()
            if not own.has(artifact) or sha256_file(own.folder.artifact(artifact)) != digest
        ]
        judge.equal(changed, [], what=f"artifacts of {name} that are not those recorded")
        if trial.status != "finished":
            judge.that(
                bool(trial.reason), what=f"reason for {trial.status} of {name}",
                measured=trial.reason or "none", wanted="one",
            )  # fmt: skip
        elif built_in:
            judge.equal(
                len(own.telemetry.epochs), stopping_epoch(own), what=f"epochs of trial {name}"
            )
    counts = [trial.status for trial in trials.values()]
    judge.note(", ".join(f"{counts.count(status)} {status}" for status in sorted({*counts})))


@guided_by("nan_loss", "exploding_gradients")
def test_training_stable(training_run: TrainingRun, judge: Judge) -> None:
    """No trial that counts had a loss or a gradient norm that is not finite.

    All that are called finished count, those on fresh seeds among them; broken ones do not.
    """
    counted = [
        trial for trial in optimized(training_run).trials.values() if trial.status == "finished"
    ]
    if not counted:
        judge.cannot("no trial has finished")
    for trial in counted:
        own = trial_run(training_run, trial.id)
        steps = own.telemetry.steps
        bad = ~(np.isfinite(steps["loss"]) & np.isfinite(steps["gradient_norm"]))
        judge.that(
            not bad.any() and not own.is_broken,
            what=f"steps of trial {trial.id} that are not finite",
            measured=f"{int(bad.sum())} of {len(steps)}",
            wanted="0",
        )


def test_reproducible(training_run: TrainingRun, judge: Judge) -> None:
    """A fresh process repeats the first `probe_steps` steps of the winner bit for bit.

    Generators, batch, loss, gradient norm and learning rate of each step, and the gradients and
    parameters wherever the trial took their digest. Without a winner there is the baseline, whose
    own gate has proven it.
    """
    found = optimized(training_run)
    winners = [entry.winner for entry in found.rounds if entry.winner is not None]
    name = found.best if found.best != BASELINE else winners[-1] if winners else None
    if name is None:
        judge.not_applicable("no trial was better than the baseline on validation")
    own = trial_run(training_run, name)
    steps = min(training_run.config.limits.probe_steps, len(own.telemetry.steps))
    repeats(own, judge, None, start=0, steps=steps)
