"""The scores of an epoch: of its training batches as they went, and of validation after them."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.evaluation.metrics import Metric
from pytest_mltrainer.evaluation.predictions import Array, Predictions
from pytest_mltrainer.training.kept_outputs import Kept, KeptOutputs
from pytest_mltrainer.training.ranks import Ranks
from pytest_mltrainer.training.task import Task


class EpochScores:
    """Gathers what a task's metrics need, and computes them when the epoch ends."""

    def __init__(self, task: Task, metric: Metric, ranks: Ranks) -> None:
        """`metric` is the objective's."""
        self._task = task
        self._metric = metric
        self._losses: list[Array] = []
        self._kept = KeptOutputs(ranks)

    def add_losses(self, losses: Array) -> None:
        """Losses of further updates of the present epoch."""
        self._losses.append(losses)

    def add_batch(self, outputs: torch.Tensor, targets: torch.Tensor) -> None:
        """Outputs of a training batch, as they were when it was trained on."""
        self._kept.add(outputs.detach(), targets)

    def so_far(self) -> Kept | None:
        """The outputs and targets of the present epoch, for a checkpoint within it."""
        return self._kept.whole()

    def training(self) -> dict[str, float]:
        """Mean loss and metrics of the epoch's updates; the next epoch begins empty."""
        scores: dict[str, float] = {}
        if self._losses:
            scores["loss"] = float(np.concatenate(self._losses).mean())
            self._losses.clear()
        if kept := self._kept.take():
            outputs, targets = kept[0].float().cpu().numpy(), kept[1].cpu().numpy()
            scores |= scored(self._task, self._metric, outputs, targets)
        return scores

    def validation(self, predictions: Predictions, loss: float) -> dict[str, float]:
        """Loss and metrics of the validation split."""
        scores = self._task.metrics(predictions.outputs, predictions.targets)
        return {"loss": loss, **as_floats(scores, self._task)}

    def monitored(self, validation: Mapping[str, float]) -> float:
        """The score that selects checkpoints and stops early: the objective's metric."""
        try:
            return validation[self._metric.name]
        except KeyError:
            raise UserError(
                f"{type(self._task).__name__}.metrics(): found {', '.join(validation)}, wanted "
                f"'{self._metric.name}', the objective's metric, among them"
            ) from None


def scored(task: Task, metric: Metric, outputs: Array, targets: Array) -> dict[str, float]:
    """The task's own metrics; of ours the objective's alone, which is all that is looked at often.

    Raises UserError for a score that is no number.
    """
    if type(task).metrics is Task.metrics:
        return {metric.name: metric.score(outputs, targets)}
    return as_floats(task.metrics(outputs, targets), task)


def as_floats(scores: Mapping[str, Any], task: Task) -> dict[str, float]:
    """Scores of any numeric type as floats. Raises UserError for what is no number."""
    plain = {}
    for name, value in scores.items():
        try:
            if isinstance(value, str | bytes):
                raise TypeError
            plain[name] = float(np.asarray(value).item() if hasattr(value, "item") else value)
        except (TypeError, ValueError):
            raise UserError(
                f"{type(task).__name__}.metrics(): found {name} = {value!r}, wanted a number"
            ) from None
    return plain
