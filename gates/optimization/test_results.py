"""Are the results there, are they what was measured, and does the decision follow?"""

from pytest_mltrainer.diagnostics import detectors
from pytest_mltrainer.diagnostics.readings import can_patch
from pytest_mltrainer.gates.common import best_is_best, metric_recomputed, optimized, says_the_same

from pytest_mltrainer.core.artifacts import MANIFEST
from pytest_mltrainer.core.config import flatten
from pytest_mltrainer.core.hooks import offered, plugin_manager
from pytest_mltrainer.core.judge import Judge
from pytest_mltrainer.core.ledger import ROUND, since_planning
from pytest_mltrainer.documents.compare import differences, missing_sections
from pytest_mltrainer.documents.markdown import written
from pytest_mltrainer.training.optimization.optimization_report import (
    CONFIG,
    CURVES_PLOT,
    RESULTS,
    SECTIONS,
    changes_of,
    optimization_plots,
    optimization_report,
)
from pytest_mltrainer.training.optimization.optimized import Optimized
from pytest_mltrainer.training.optimization.rediagnosis import diagnose_again
from pytest_mltrainer.training.optimization.trials import BASELINE, trial_run
from pytest_mltrainer.training.run import TrainingRun


def test_best_and_last_checkpoints(training_run: TrainingRun, judge: Judge) -> None:
    """Of each winner the best checkpoint is of its best epoch, and the last one of its last step.

    Both load safely with strict keys; the validation metric of the best one, predicted anew, is the
    logged one (`max_metric_difference`, or one sample).
    """
    found = optimized(training_run)
    winners = dict.fromkeys(entry.winner for entry in found.rounds if entry.winner is not None)
    if not winners:
        judge.not_applicable("no trial was better than the baseline on validation")
    for name in winners:
        own = trial_run(training_run, name)
        best_is_best(own, judge)
        metric_recomputed(own, judge)
        last = own.checkpoint("last")
        own.model(last)
        judge.equal(
            last.step,
            len(own.telemetry.steps),
            what=f"step of the last checkpoint of {name}",
            artifact=own.described("checkpoints/last.pt"),
        )


def test_changes_documented(training_run: TrainingRun, judge: Judge) -> None:
    """What the report says was changed is how the best trial's configuration really differs.

    The configuration that the trial ran with is compared key by key with that of an unpatched one;
    the keys must be those of the patch that report and decision show. In the proposed file each of
    them has a comment that says so.
    """
    found = optimized(training_run)
    before = flatten(training_run.config.to_json())
    own = training_run if found.best == BASELINE else trial_run(training_run, found.best)
    after = flatten(own.config.to_json())
    real = {key: value for key, value in after.items() if before.get(key) != value}
    patch = flatten(found.patch)
    claimed = {key: value for key, value in patch.items() if before.get(key) != value}
    judge.equal(real, claimed, what=f"differences of {found.best} from the baseline")
    shown = written(changes_of(found.patch))
    judge.equal(
        shown in training_run.text(RESULTS), True, what=f"{RESULTS} names the changes: {shown}"
    )
    decided = (training_run.manifest.decision or {}).get("patch")
    judge.equal(decided, found.patch, what=f"patch of the decision in {MANIFEST}")
    lines = training_run.text(CONFIG).splitlines()
    bare = [
        key
        for key in found.patch
        if not any(
            key.rpartition(".")[2] in line and ("# NEW" in line or "# CHANGED" in line)
            for line in lines
        )
    ]
    judge.equal(bare, [], what=f"changed keys without a comment in {CONFIG}")


def test_curves_compared(training_run: TrainingRun, judge: Judge) -> None:
    """The plot of both learning curves is there, and shows what both trainings recorded.

    It is drawn again from the telemetry of the baseline and of the best trial, byte for byte.
    """
    judge.equal(training_run.has(CURVES_PLOT), True, what="plot of both learning curves exists")
    _redrawn(training_run, CURVES_PLOT, judge)


def test_results_reported(training_run: TrainingRun, judge: Judge) -> None:
    """`optimization_results.md` has its sections, and each number in it equals the recomputed one.

    The document is written once more from raw predictions, telemetry and checkpoints, trials that
    were worse or broke included, and compared line by line; numbers may differ by 1e-6. Its other
    plots are drawn again, byte for byte.
    """
    found = training_run.text(RESULTS)
    judge.equal(missing_sections(found, SECTIONS), [], what=f"missing sections of {RESULTS}")
    again = optimization_report(optimized(training_run))
    different = [entry.text() for entry in differences(found, again)]
    judge.that(
        not different,
        what=f"lines of {RESULTS} that differ from what is recomputed",
        measured="; ".join(different[:3]) or "none",
        wanted="none",
        artifact=training_run.described(RESULTS),
    )
    for name in optimization_plots(optimized(training_run)):
        if name != CURVES_PLOT:
            _redrawn(training_run, name, judge)


def test_decision_recorded(training_run: TrainingRun, judge: Judge) -> None:
    """The decision of each round is the one that follows from what was measured anew.

    target met; next round; diagnose again; diminishing returns, below 2 %; accepted short of
    target, where the rounds are used up or a new diagnosis of the best configuration has nothing
    untried. The last decision is that of the phase. Rounds count when they start, in the ledger,
    and are at most `optimization.rounds`.
    """
    found = optimized(training_run)
    for entry in found.rounds:
        says_the_same(
            judge,
            entry.round.decision,
            entry.decision.to_json(),
            what=f"decision of round {entry.round.number}",
        )
    wanted = found.decision
    says_the_same(judge, training_run.json("decision.json"), wanted, what="decision.json")
    recorded = dict(training_run.manifest.decision or {})
    says_the_same(judge, recorded, wanted, what=f"decision in {MANIFEST}")
    judge.equal(wanted["next"], "finalization", what="phase behind the last round")
    judge(len(found.rounds), what="rounds started", at_most=training_run.config.optimization.rounds)
    entered = {
        entry["round"]
        for entry in since_planning(training_run.run_folder)
        if entry["event"] == ROUND
    }
    missing = [entry.round.number for entry in found.rounds if entry.round.number not in entered]
    judge.equal(missing, [], what="rounds that the ledger does not know")
    if not found.rounds[-1].round.something_left:
        judge.equal(_untried(training_run, found), [], what="recommendations left untried")


def _untried(run: TrainingRun, found: Optimized) -> list[str]:
    """What a new diagnosis of the best configuration recommends and no trial has tried."""
    own = found.baseline if found.best == BASELINE else trial_run(run, found.best)
    every = detectors() | offered(plugin_manager(run.project), "mltrainer_detectors")
    _, advice = diagnose_again(own, every, can_patch)
    tried = [dict(trial.patch) for trial in found.trials.values()]
    patches = [{**found.patch, **entry["patch"]} for entry in advice if entry["patch"]]
    return [changes_of(patch) for patch in patches if patch not in tried]


def _redrawn(run: TrainingRun, name: str, judge: Judge) -> None:
    """The stored plot is the one that is drawn anew."""
    again = optimization_plots(optimized(run))[name]
    there = run.has(name) and run.folder.artifact(name).read_bytes() == again
    judge.equal(there, True, what=f"{name} shows the recorded values")
