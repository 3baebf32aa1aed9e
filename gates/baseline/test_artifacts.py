"""Is everything there that proves the run, and does it say what was measured?"""

import numpy as np
from pytest_mltrainer.gates.common import best_is_best, metric_recomputed
from pytest_mltrainer.gates.repetition import resumes

from pytest_mltrainer.core.inputs import CurrentInputs
from pytest_mltrainer.core.judge import Judge
from pytest_mltrainer.core.ledger import OPENING, since_planning
from pytest_mltrainer.core.steps import STEPS
from pytest_mltrainer.documents.compare import differences, missing_sections
from pytest_mltrainer.training.observation.telemetry import Telemetry
from pytest_mltrainer.training.reproducibility import digest_tensors
from pytest_mltrainer.training.results import BASELINE_SECTIONS, baseline_results
from pytest_mltrainer.training.run import TrainingRun


def test_metrics_recomputed(training_run: TrainingRun, judge: Judge) -> None:
    """The validation metric of the best checkpoint, predicted anew, equals the logged one.

    Within `max_metric_difference` (1e-6 relative), or one sample where the metric is a proportion:
    another machine may round one undecided sample to the other side.
    """
    metric_recomputed(training_run, judge)


def test_best_checkpoint(training_run: TrainingRun, judge: Judge) -> None:
    """The best checkpoint loads safely with strict keys and is of the best logged epoch.

    Of equally good epochs the first is the best.
    """
    best_is_best(training_run, judge)


def test_last_checkpoint_resumes(training_run: TrainingRun, judge: Judge) -> None:
    """A fresh process resumes from the latest checkpoint and repeats `probe_steps` steps exactly.

    Taken is the latest periodic checkpoint with that many recorded steps behind it; loss, gradient
    norm and learning rate of each step must be equal bit for bit.
    """
    resumes(training_run, judge)


def test_periodic_checkpoints(training_run: TrainingRun, judge: Judge) -> None:
    """Every checkpoint that was due is there, loads, is of its epoch, and has its own weights.

    Due is one every `training.checkpoint_every` epochs that were done.
    """
    every = training_run.config.training.checkpoint_every
    done = len(training_run.telemetry.epochs)
    due = [f"epoch_{epoch:04d}" for epoch in range(every, done + 1, every)]
    missing = [name for name in due if not training_run.has(f"checkpoints/{name}.pt")]
    judge.equal(missing, [], what=f"missing of {len(due)} periodic checkpoints")
    weights = set()
    for name in due:
        checkpoint = training_run.checkpoint(name)
        judge.equal(checkpoint.epoch + 1, int(name[6:]), what=f"epoch of {name}.pt")
        weights.add(digest_tensors(checkpoint.model))
    judge.equal(len(weights), len(due), what="distinct weights in the periodic checkpoints")


def test_telemetry_complete(training_run: TrainingRun, telemetry: Telemetry, judge: Judge) -> None:
    """Every step and every epoch is recorded once, in order, and epochs end where steps say.

    Steps count from 0 without a gap; each epoch record names the number of steps behind it.
    """
    steps = telemetry.steps
    if not len(steps) or not telemetry.epochs:
        judge.cannot(f"{len(steps)} steps and {len(telemetry.epochs)} epochs are recorded")
    gaps = np.flatnonzero(steps["step"] != np.arange(len(steps)))
    judge.that(
        not gaps.size,
        what=f"{len(steps)} steps in order",
        measured=f"step {steps['step'][gaps[0]]} in place {gaps[0]}" if gaps.size else "no gap",
        wanted="no gap",
        artifact=training_run.described("telemetry/steps.rec"),
    )
    epochs = [record.epoch for record in telemetry.epochs]
    judge.equal(epochs, list(range(len(epochs))), what="epochs recorded")
    for record in telemetry.epochs:
        behind = int((steps["epoch"] <= record.epoch).sum())
        judge.equal(record.steps, behind, what=f"steps behind epoch {record.epoch}")


def test_environment_unchanged(training_run: TrainingRun, judge: Judge) -> None:
    """Code, configuration, data and numerics are planning's, and still are what trained.

    What planning and training recorded is compared by name; then all of it is read once more.
    """
    planned = training_run.run_folder.phase("planning").manifest()
    if planned is None:
        judge.cannot("planning is not there to be compared with")
    before = planned.steps["rehearse"].inputs
    trained = training_run.manifest.steps["train"].inputs
    for name in sorted(before.keys() & trained.keys()):
        if before[name] != trained[name]:
            judge.equal(trained[name], before[name], what=f"{name} at training, against planning")
    inputs = CurrentInputs(
        training_run.project,
        training_run.whole_config,
        training_run.run_folder,
    )
    changes = inputs.changes(STEPS["baseline"][0], "baseline", trained)
    judge.equal(
        [change.text() for change in changes], [], what=f"changes of {len(trained)} inputs since"
    )


def test_test_set_untouched(training_run: TrainingRun, judge: Judge) -> None:
    """The ledger shows no opening of the test set by anything but finalization since planning.

    An opening is a prediction on the test set by a model; choosing by it would spoil it.
    """
    openings = [
        entry["phase"]
        for entry in since_planning(training_run.run_folder)
        if entry["event"] == OPENING and entry["phase"] != "finalization"
    ]
    judge(len(openings), what="openings of the test set since planning", at_most=0)


def test_results_reported(training_run: TrainingRun, judge: Judge) -> None:
    """`baseline_results.md` has its sections, and each number in it equals the recomputed one.

    The document is written once more from the checkpoint, the data and the telemetry, and compared
    line by line; numbers may differ by 1e-6.
    """
    name = "baseline_results.md"
    found = training_run.text(name)
    judge.equal(missing_sections(found, BASELINE_SECTIONS), [], what=f"missing sections of {name}")
    different = [entry.text() for entry in differences(found, baseline_results(training_run))]
    judge.that(
        not different,
        what=f"lines of {name} that differ from what is recomputed",
        measured="; ".join(different[:3]) or "none",
        wanted="none",
        artifact=training_run.described(name),
    )
    judge.equal(training_run.has("plots/learning_curves.svg"), True, what="learning curves exist")


def test_decision_recorded(training_run: TrainingRun, judge: Judge) -> None:
    """The recorded decision is the one that follows from the target and the recomputed interval.

    sufficient: the whole interval meets the target; insufficient: none of it; undecided: it
    straddles. Where the target is missed, the diagnostics must have been asked.
    """
    wanted = training_run.decide().to_json()
    judge.equal(training_run.json("decision.json"), wanted, what="decision.json")
    judge.equal(dict(training_run.manifest.decision or {}), wanted, what="decision in the manifest")
    asked = training_run.json("diagnoses.json")
    judge.that(
        bool(asked["silent"] or asked["diagnoses"]),
        what=f"diagnostics asked; the decision is {wanted['status']}, next {wanted['next']}",
        measured=f"{len(asked['silent']) + len(asked['diagnoses'])}",
        wanted="all that there are",
    )
