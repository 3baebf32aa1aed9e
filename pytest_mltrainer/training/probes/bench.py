"""A fresh model, real samples and fixed seeds: what every probe measures with."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from pytest_mltrainer.core.config import Config, apply_patch
from pytest_mltrainer.training.batches import to_device
from pytest_mltrainer.training.reproducibility import RngState, derive_seed, fix_seeds
from pytest_mltrainer.training.session import TrainingSession
from pytest_mltrainer.training.task import Task

MOST_ROWS, LEAST_ROWS = 64, 16


class CannotProbe(Exception):
    """This probe does not apply; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bench:
    """Samples drawn from the training split, as one batch, and models to try on it.

    `config` is without label smoothing, so that the best outputs have the least loss. `state` is
    that of the model after the rehearsal, None when nothing was updated.
    """

    task: Task
    config: Config
    device: torch.device
    samples: list[Any]
    others: list[Any]
    inputs: Any
    targets: torch.Tensor
    state: dict[str, Any] | None
    updates_per_epoch: int
    model_rng: RngState
    rng: RngState

    @classmethod
    def of(cls, task: Task, config: Config, session: TrainingSession) -> Self:
        """16 to 64 rows, as many as a training batch has, and as many others."""
        dataset = session.splits.train
        count = len(dataset)  # type: ignore[arg-type]
        size = min(MOST_ROWS, max(LEAST_ROWS, config.training.batch_size), max(1, count // 2))
        model_rng = seeded(config.seed, "model")
        rng = seeded(config.seed, "probe")
        # Drawn at random: evenly spaced rows of data in a regular order may hold one class only.
        draw = np.random.default_rng(derive_seed(config.seed, "probe"))
        samples = [dataset[int(row)] for row in draw.permutation(count)[: 2 * size]]
        inputs, targets = to_device(task.collate(samples[:size]), session.device)
        state = session.model.state_dict() if session.observer.step else None
        return cls(
            task=task,
            config=apply_patch(config, {"training.label_smoothing": 0.0}),
            device=session.device,
            samples=samples[:size],
            others=samples[size:],
            inputs=inputs,
            targets=targets,
            state=state,
            updates_per_epoch=session.updates_per_epoch,
            model_rng=model_rng,
            rng=rng,
        )

    @property
    def size(self) -> int:
        """Samples in the batch."""
        return len(self.samples)

    def fresh(self) -> nn.Module:
        """The model with the initial weights that training starts from."""
        self.model_rng.restore()
        return self.task.model(self.config).to(self.device)

    def stepped(self) -> nn.Module:
        """The model with the weights after the rehearsal; fresh where nothing was updated."""
        model = self.fresh()
        if self.state is not None:
            model.load_state_dict(self.state)
        return model

    def predict(self, model: nn.Module, inputs: Any) -> torch.Tensor:
        """Outputs without gradients; whatever draws numbers draws the same ones each time."""
        self.rng.restore()
        with torch.no_grad():
            return self.task.predict(model, inputs)

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor | None = None) -> float:
        """The task's loss as a number."""
        with torch.no_grad():
            found = self.task.loss(
                outputs, self.targets if targets is None else targets, self.config
            )
        return float(found)

    def collated(self, samples: list[Any]) -> Any:
        """The inputs of a batch of samples."""
        return to_device(self.task.collate(samples), self.device)[0]


def seeded(seed: int, *purpose: object) -> RngState:
    """The generators right after seeding; putting them back is quicker than seeding again."""
    fix_seeds(derive_seed(seed, *purpose))
    return RngState.capture()


def number(value: object) -> float | None:
    """A finite number, or None: JSON has no word for others."""
    read = float(value)  # type: ignore[arg-type]
    return read if math.isfinite(read) else None


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Every tensor of a nesting, in the order in which `map_tensors` meets them."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [tensor for part in value for tensor in tensors_in(part)]
    return []


def first_tensor(value: Any) -> torch.Tensor | None:
    """The first tensor of a nesting, or None."""
    return next(iter(tensors_in(value)), None)


def is_batched(value: Any, size: int) -> bool:
    """Whether every tensor of the nesting has one row for each of `size` samples."""
    if isinstance(value, torch.Tensor):
        return value.ndim > 0 and len(value) == size
    if isinstance(value, dict):
        return all(is_batched(part, size) for part in value.values())
    return isinstance(value, list | tuple) and all(is_batched(part, size) for part in value)


def map_tensors(value: Any, change: Any) -> Any:
    """The nesting with `change` applied to each tensor."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: map_tensors(part, change) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(part, change) for part in value))
    if isinstance(value, list | tuple):
        return type(value)(map_tensors(part, change) for part in value)
    return value


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """The model in training mode but for dropout."""
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
    yield
