"""Is the winner better than what it is compared with, by more than chance, and at no one's cost?"""

from collections.abc import Mapping

import numpy as np
from pytest_mltrainer.gates.common import optimized, says_the_same

from pytest_mltrainer.core.digests import digest_value, sha256_file
from pytest_mltrainer.core.inputs import CurrentInputs
from pytest_mltrainer.core.judge import Judge, guided_by
from pytest_mltrainer.core.steps import STEPS
from pytest_mltrainer.evaluation.improvement import Improvement
from pytest_mltrainer.evaluation.predictions import Array, Predictions
from pytest_mltrainer.training.optimization.comparison import PREDICTIONS, fresh_seeds, seed_pairs
from pytest_mltrainer.training.optimization.optimization_report import IMPROVEMENT
from pytest_mltrainer.training.optimization.optimized import RoundFound
from pytest_mltrainer.training.optimization.trials import BASELINE, Trial, trial_run
from pytest_mltrainer.training.run import TrainingRun

FEWEST_SEEDS = 3


def test_same_data_same_evaluation(training_run: TrainingRun, judge: Judge) -> None:
    """The trials saw planning's splits, and their code, data and numerics are the baseline's.

    The splits are read anew with every seed and data section that a finished trial had. The raw
    predictions of each must be about the baseline's validation targets, which are predicted anew.
    """
    found = optimized(training_run)
    before = found.baseline.manifest.steps["train"].inputs
    ours = training_run.manifest.steps["search"].inputs
    for name in sorted(before.keys() & ours.keys()):
        if name.startswith(("code/", "data/", "numerics/")) and before[name] != ours[name]:
            judge.equal(ours[name], before[name], what=f"{name} in the trials, and in the baseline")
    inputs = CurrentInputs(training_run.project, training_run.whole_config, training_run.run_folder)
    changes = inputs.changes(STEPS["optimization"][0], "optimization", ours)
    judge.equal([change.text() for change in changes], [], what=f"changes of {len(ours)} inputs")
    finished = [trial for trial in found.trials.values() if trial.status == "finished"]
    planned = training_run.planned("splits.json")["splits"]
    for own in _with_other_data(training_run, finished):
        again = own.profiled[0]["splits"]
        for split in ("train", "validation"):
            judge.equal(
                again[split]["digest"],
                planned[split]["digest"],
                what=f"digest of {split} as {own.folder.path.name} reads it",
            )
    targets = found.baseline.evaluation.validation.predictions.targets
    strangers = [
        trial.id
        for trial in finished
        if not _equal(_stored(trial_run(training_run, trial.id)).targets, targets)
    ]
    judge.equal(strangers, [], what=f"trials of {len(finished)} with other validation targets")


def test_compared_with_baseline(training_run: TrainingRun, judge: Judge) -> None:
    """Winner and baseline were predicted on the same validation ids, and both come out again.

    For each trial of a comparison the best checkpoint, whose digest must be the recorded one,
    predicts validation anew; the stored raw predictions may differ by 1e-4 of their scale. The
    baseline must be one side on each fresh seed that a winner has.
    """
    found = optimized(training_run)
    compared = [entry for entry in found.rounds if entry.winner is not None]
    if not compared:
        judge.not_applicable("no trial was better than the baseline on validation")
    for entry in compared:
        own = [seed for seed, origin in _seeds_of(found.trials, entry) if origin == entry.winner]
        beside = [seed for seed, origin in _seeds_of(found.trials, entry) if origin == BASELINE]
        judge.equal(
            beside, own, what=f"seeds of the baseline beside {entry.winner}, round by round"
        )
    names = dict.fromkeys(name for entry in compared for name in entry.round.comparison)
    for name in [name for name in names if found.trials[name].status == "finished"]:
        _predicted_anew(trial_run(training_run, name), name, judge)


def _predicted_anew(own: TrainingRun, name: str, judge: Judge) -> None:
    stored, again = _stored(own), own.evaluation.validation.predictions
    judge.equal(stored.outputs.shape, again.outputs.shape, what=f"shape of predictions of {name}")
    judge.equal(
        _equal(stored.targets, again.targets), True, what=f"targets of {name} are validation's"
    )
    scale = max(float(np.abs(np.nan_to_num(again.outputs)).max()), 1.0)
    judge(
        float(np.abs(stored.outputs - again.outputs).max()),
        what=f"largest difference between stored and repeated predictions of {name}",
        at_most=1e-4 * scale,
        artifact=own.described(PREDICTIONS),
    )


def test_improvement_quantified(training_run: TrainingRun, judge: Judge) -> None:
    """The stored gain of each round is the recomputed one, absolute and relative, with intervals.

    From the raw predictions on the fresh seeds; beside it the smallest gain that so many seeds and
    samples could have shown. Cannot be judged where the seeds gave no interval.
    """
    found = optimized(training_run)
    gains = [entry.gain for entry in found.rounds if entry.gain is not None]
    stored = training_run.json(IMPROVEMENT)
    says_the_same(judge, stored, found.gains, what=f"{IMPROVEMENT}, computed anew")
    if not gains:
        judge.not_applicable("no trial was better than the baseline on validation")
    for gain in gains:
        if gain.smallest is None or gain.absolute.low is None:
            judge.cannot(f"{gain.text()}: no interval")
        judge(
            gain.smallest,
            what=f"smallest {gain.metric} gain that {len(gain.seeds)} seeds and "
            f"{gain.absolute.n} samples could show",
            above=0.0,
            artifact=training_run.described(IMPROVEMENT),
        )
        judge.note(gain.text())


def test_improvement_significant(training_run: TrainingRun, judge: Judge) -> None:
    """Whether the gain is significant is said as it is, of one preselected winner, on fresh seeds.

    Significant: the lower bound of the 95 % interval over seeds and samples is above 0. That it is
    not is a fact for the decision, no failure. The check fails where the claim is another one,
    where the winner is not the trial with the best validation score, or where a seed of the
    comparison is one that trials were chosen by.
    """
    found = optimized(training_run)
    chosen_by = {trial.seed for trial in found.trials.values() if trial.kind != "seed"}
    chosen_by.add(found.baseline.config.seed)
    fresh = fresh_seeds(training_run.config)
    for entry, stored in zip(found.rounds, training_run.json(IMPROVEMENT), strict=True):
        number = entry.round.number
        judge.equal(
            entry.round.winner,
            entry.winner,
            what=f"winner of round {number}, against the best trial on validation",
            artifact=training_run.described("rounds.json"),
        )
        used = [seed for seed, _ in _seeds_of(found.trials, entry)]
        stale = sorted(seed for seed in {*used} if seed in chosen_by or seed not in fresh)
        judge.equal(stale, [], what=f"seeds of round {number} that are not fresh")
        judge.equal(
            stored["is_significant"] if stored else None,
            entry.gain.is_significant if entry.gain else None,
            what=f"significance claimed for round {number}: {_shown(entry.gain)}",
            artifact=training_run.described(IMPROVEMENT),
        )


def test_seeds_repeated(training_run: TrainingRun, judge: Judge) -> None:
    """Winner and incumbent were trained on the same 3 or more fresh seeds, each another training.

    Counted are seeds on which both have finished. Their best checkpoints must differ from seed to
    seed, and all trainings of a round must be within `budgets.seeds_minutes`.
    """
    found = optimized(training_run)
    compared = [entry for entry in found.rounds if entry.winner is not None]
    if not compared:
        judge.not_applicable("no trial was better than the baseline on validation")
    optimization, budgets = training_run.config.optimization, training_run.config.budgets
    for entry in compared:
        what = f"fresh seeds of {entry.winner} and {entry.incumbent} in round {entry.round.number}"
        pairs = seed_pairs(training_run, found.trials, str(entry.winner), entry.incumbent)
        judge(len(pairs), what=what, at_least=FEWEST_SEEDS)
        judge.equal(
            entry.gain and [one.seed for one in entry.gain.seeds],
            [pair.seed for pair in pairs],
            what=f"seeds compared in round {entry.round.number}",
        )
        trials = [found.trials[name] for name in entry.round.comparison]
        same = [trial for trial in trials if trial.origin == entry.winner]
        weights = {_weights(training_run, trial) for trial in same if trial.status == "finished"}
        judge.equal(len(weights), len(pairs), what=f"distinct models of {entry.winner}")
        new = [trial for trial in trials if trial.round == entry.round.number]
        judge(
            sum(trial.duration_s for trial in new) / 60 / optimization.jobs,
            what=f"trainings on fresh seeds in round {entry.round.number}",
            at_most=budgets.seeds_minutes,
            unit="minutes",
        )


@guided_by("overfitting", "resource_inefficiency")
def test_guards_hold(training_run: TrainingRun, judge: Judge) -> None:
    """What was accepted lost nothing that is guarded, against the baseline on the fresh seeds.

    Guards: the metrics of `objective.guards` within their margins; the objective on every slice of
    `Task.slice_key` within `objective.margin`; the advantage of training over validation within
    `max_train_val_gap_points` (regression: `_sd`) or the baseline's; the shortest epoch within
    `max_time_ratio` and peak memory within `max_memory_ratio`. A guard fails where its whole
    interval lies beyond its limit. Slices of fewer than `min_samples_per_class` samples, and the
    time of epochs under a second, decide nothing.
    """
    found = optimized(training_run)
    accepted = training_run.json("winner.json")["id"]
    entry = next((one for one in reversed(found.rounds) if one.winner == accepted), None)
    if entry is None:
        judge.not_applicable("no winner was accepted: the baseline's configuration stays")
    if not entry.guards:
        judge.cannot(f"{entry.winner} and the baseline have no fresh seed in common")
    for guard in entry.guards:
        if guard.undecided:
            judge.note(guard.text())
        elif guard.bound == "at least":
            judge(guard.measured, what=guard.name, at_least=guard.limit, by=guard.by)
        else:
            judge(guard.measured, what=guard.name, at_most=guard.limit, by=guard.by)


def _with_other_data(run: TrainingRun, trials: list[Trial]) -> list[TrainingRun]:
    """One run for each seed and data section among the trials: what decides what data they read."""
    found: dict[str, TrainingRun] = {}
    for trial in trials:
        own = trial_run(run, trial.id)
        found.setdefault(digest_value([own.config.seed, own.config.data.plain()]), own)
    return list(found.values())


def _seeds_of(trials: Mapping[str, Trial], entry: RoundFound) -> list[tuple[int, str]]:
    """Seed and origin of each training of a round's comparison."""
    return [(trials[name].seed, trials[name].origin) for name in entry.round.comparison]


def _stored(own: TrainingRun) -> Predictions:
    return Predictions.load(own.folder.artifact(PREDICTIONS))


def _weights(run: TrainingRun, trial: Trial) -> str:
    return sha256_file(trial_run(run, trial.id).folder.artifact("checkpoints/best.pt"))


def _equal(one: Array, other: Array) -> bool:
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


def _shown(gain: Improvement | None) -> str:
    return gain.text() if gain else "nothing was compared"
