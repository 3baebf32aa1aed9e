"""Was the final model trained whole, chosen on validation alone, and can it be resumed?"""

from pytest_mltrainer.gates.common import best_is_best, metric_recomputed, training_completed
from pytest_mltrainer.gates.repetition import resumes

from pytest_mltrainer.core.judge import Judge, guided_by
from pytest_mltrainer.training.run import TrainingRun


@guided_by("nan_loss")
def test_final_training_completed(training_run: TrainingRun, judge: Judge) -> None:
    """As many updates were recorded as the final training planned, early stopping re-evaluated.

    Where several processes trained together, all of them ended with the same parameters.
    """
    training_completed(training_run, judge)


def test_best_checkpoint(training_run: TrainingRun, judge: Judge) -> None:
    """The best checkpoint is of the best logged epoch; its metric, recomputed, is the logged one.

    Chosen on validation alone: the test set takes no part in either.
    """
    best_is_best(training_run, judge)
    metric_recomputed(training_run, judge)


def test_last_checkpoint_resumes(training_run: TrainingRun, judge: Judge) -> None:
    """A fresh process resumes from the latest checkpoint and repeats recorded steps exactly."""
    resumes(training_run, judge)
