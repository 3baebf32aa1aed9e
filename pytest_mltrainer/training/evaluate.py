"""Predictions of a model over a split, with the mean loss."""

import math
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.evaluation.predictions import Predictions
from pytest_mltrainer.training.batches import evaluation_batches, to_device
from pytest_mltrainer.training.task import Task


def predict_split(
    task: Task, model: nn.Module, dataset: Dataset[Any], config: Config, device: torch.device
) -> tuple[Predictions, float]:
    """Raw outputs and targets in the split's own order, and the mean loss over its samples.

    The model must be in evaluation mode, gradients off.
    """
    outputs, targets, losses, count = [], [], 0.0, 0
    for batch in evaluation_batches(task, dataset, config):
        inputs, wanted = to_device(batch, device)
        predicted = task.predict(model, inputs)
        _check_outputs(task, predicted, wanted)
        losses += float(task.loss(predicted, wanted, config)) * len(wanted)
        count += len(wanted)
        outputs.append(predicted.float().cpu())
        targets.append(wanted.cpu())
    predictions = Predictions(
        outputs=_joined(task, "outputs", outputs), targets=_joined(task, "targets", targets)
    )
    return predictions, losses / count if count else math.nan


def _joined(task: Task, what: str, parts: list[torch.Tensor]) -> Any:
    shapes = sorted({tuple(part.shape[1:]) for part in parts})
    if len(shapes) > 1:
        raise UserError(
            f"{type(task).__name__}: {what} of a sample have shape {shapes[0]} in one batch and "
            f"{shapes[-1]} in another, wanted one for the whole split: pad all samples to one "
            "length in data() (targets of padding are -100)"
        )
    return torch.cat(parts).numpy()


def _check_outputs(task: Task, outputs: Any, targets: Any) -> None:
    name = type(task).__name__
    if not isinstance(outputs, torch.Tensor):
        raise UserError(
            f"{name}.predict(): found {type(outputs).__name__}, wanted a tensor: "
            "define predict(model, inputs) so that it returns the logits or values"
        )
    if not isinstance(targets, torch.Tensor) or len(outputs) != len(targets):
        found = len(targets) if hasattr(targets, "__len__") else type(targets).__name__
        raise UserError(
            f"{name}: {len(outputs)} outputs for {found} targets in a batch; wanted one each"
        )
