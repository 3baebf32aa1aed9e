"""What coarser numbers cost on the whole test set: in the metric, and in single values."""

from dataclasses import dataclass

import numpy as np

from pytest_mltrainer.core.measurement import Measurement
from pytest_mltrainer.evaluation.intervals import paired_difference
from pytest_mltrainer.evaluation.predictions import Predictions
from pytest_mltrainer.export.parity import Predict
from pytest_mltrainer.export.serving import test_batches
from pytest_mltrainer.training.run import TrainingRun


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundingCost:
    """`loss`: what the file's metric is worse by, as a share of the model's, with its interval.

    `noise`: the root mean square of the differences, over that of the model's own errors; None
    where outputs are no values of the targets.
    """

    score: float
    rounded_score: float
    loss: Measurement
    noise: float | None


def rounding_cost(run: TrainingRun, predict: Predict) -> RoundingCost:
    """The cost on the test set, whose samples both answer: the interval is that of pairs."""
    own = run.evaluation.test.predictions
    outputs = np.concatenate([predict(inputs) for inputs in test_batches(run)])
    rounded = Predictions(outputs=outputs, targets=own.targets)
    score = run.metric.score(own.outputs, own.targets)
    pair = (own, rounded) if run.maximize else (rounded, own)
    return RoundingCost(
        score=score,
        rounded_score=run.metric.score(rounded.outputs, rounded.targets),
        loss=paired_difference(run.metric, *pair).scaled(1 / (abs(score) or 1.0), ""),
        noise=_noise(own, rounded) if run.task.kind == "regression" else None,
    )


def largest_noise(loss: float) -> float:
    """The noise that makes a root mean square error larger by the share `loss`.

    sqrt((1 + loss)^2 - 1): differences that know nothing of the errors add to them as squares. The
    metric itself does not tell this from luck when there are few samples.
    """
    return float(np.sqrt((1 + loss) ** 2 - 1))


def _noise(own: Predictions, rounded: Predictions) -> float:
    targets = own.targets.reshape(own.outputs.shape)
    errors = float(np.sqrt(np.mean((own.outputs - targets) ** 2)))
    apart = float(np.sqrt(np.mean((rounded.outputs - own.outputs) ** 2)))
    return apart / errors if errors else float(apart > 0)
