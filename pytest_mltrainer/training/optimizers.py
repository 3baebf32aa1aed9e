"""Optimizers and learning-rate schedules by their names in `training_config.yaml`."""

import math
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.errors import ConfigError, UserError


def make_optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """The optimizer named by `training.optimizer` over all parameters that want a gradient."""
    training = config.training
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise UserError("the model has no trainable parameter: nothing can be optimised")
    options: dict[str, Any] = {"lr": training.learning_rate, "weight_decay": training.weight_decay}
    if training.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=training.momentum, **options)
    if training.optimizer == "adam":
        return torch.optim.Adam(parameters, **options)
    if training.optimizer == "adamw":
        return torch.optim.AdamW(parameters, **options)
    raise ConfigError(
        ["training_config.yaml training.optimizer: 'task' wants a task that defines optimizer()"]
    )


def make_scheduler(
    optimizer: torch.optim.Optimizer, config: Config, *, updates_per_epoch: int, maximize: bool
) -> LRScheduler | ReduceLROnPlateau | None:
    """The schedule named by `training.scheduler`; all but `plateau` advance with each update.

    None for a constant rate: a schedule that changes nothing still costs 1 % of a small step.
    """
    training = config.training
    total = updates_per_epoch * training.epochs
    if training.warmup_steps and training.scheduler in ("plateau", "onecycle"):
        raise ConfigError(
            [
                f"training_config.yaml training.warmup_steps: found {training.warmup_steps} with "
                f"scheduler {training.scheduler}, which has no warm-up of ours: write 0"
            ]
        )
    if training.scheduler == "plateau":
        return ReduceLROnPlateau(
            optimizer,
            mode="max" if maximize else "min",
            factor=training.scheduler_gamma,
            patience=training.scheduler_patience,
        )
    if training.scheduler == "onecycle":
        try:
            return OneCycleLR(optimizer, max_lr=training.learning_rate, total_steps=total)
        except ValueError as error:
            raise ConfigError(
                [
                    "training_config.yaml training.scheduler: onecycle does not fit the task's "
                    f"optimizer ({error}): choose another schedule"
                ]
            ) from error
    if training.scheduler == "none" and not training.warmup_steps:
        return None
    decay_every = updates_per_epoch * training.scheduler_step_epochs

    def factor(update: int) -> float:
        warm = min(1.0, (update + 1) / training.warmup_steps) if training.warmup_steps else 1.0
        if training.scheduler == "step":
            return float(warm * training.scheduler_gamma ** (update // decay_every))
        if training.scheduler == "cosine":
            return warm * 0.5 * (1 + math.cos(math.pi * min(update / total, 1.0)))
        return warm

    return LambdaLR(optimizer, factor)
