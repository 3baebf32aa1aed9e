"""What the user writes: a `Task` with a model and data. Every other method has a default."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import Dataset, default_collate

from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.errors import ConfigError, UserError
from pytest_mltrainer.core.project import missing_task
from pytest_mltrainer.evaluation.metrics import all_metrics
from pytest_mltrainer.training.optimizers import make_optimizer

if TYPE_CHECKING:
    from pytest_mltrainer.training.session import TrainingSession

Kind = Literal["classification", "multilabel", "regression", "sequence", "custom"]
IGNORED_TARGET = -100


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Three map-style data sets whose samples are `(input, target)`."""

    train: Dataset[Any]
    validation: Dataset[Any]
    test: Dataset[Any]


class Task:
    """A model, its data and its loss. The least task is `model` and `data`.

    A batch is what `collate` makes of samples: `(inputs, targets)`. Inputs may be a tensor or
    any nesting of tensors that `predict` understands.
    """

    kind: ClassVar[Kind] = "classification"
    class_weights: torch.Tensor | None = None
    """Set by the session where `training.class_weights` is `balanced`."""

    def model(self, config: Config) -> nn.Module:
        """A fresh model; its initial weights come from the fixed seed."""
        raise NotImplementedError(f"{type(self).__name__}.model(config) must return a nn.Module")

    def data(self, config: Config) -> Splits:
        """The three splits."""
        raise NotImplementedError(f"{type(self).__name__}.data(config) must return Splits")

    def predict(self, model: nn.Module, inputs: Any) -> torch.Tensor:
        """Outputs for a batch of inputs: logits, values, or scores a position."""
        return cast("torch.Tensor", model(inputs))

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor, config: Config) -> torch.Tensor:
        """The scalar that is minimised, by kind: cross entropy, BCE with logits, or MSE."""
        if self.kind == "classification":
            smoothing = config.training.label_smoothing
            weights = self.class_weights
            if weights is not None:
                # Classes beyond those of the training split have no weight, and no sample either.
                beyond = outputs.shape[1] - len(weights)
                weights = functional.pad(weights, (0, beyond)).to(outputs.device)
            return functional.cross_entropy(outputs, targets, weights, label_smoothing=smoothing)
        if self.kind == "sequence":
            return functional.cross_entropy(
                outputs.flatten(0, -2), targets.flatten(), ignore_index=IGNORED_TARGET
            )
        if self.kind == "multilabel":
            return functional.binary_cross_entropy_with_logits(outputs, targets.float())
        if self.kind == "regression":
            return functional.mse_loss(outputs.reshape(targets.shape), targets)
        raise NotImplementedError(f"a task of kind '{self.kind}' must define loss()")

    def metrics(
        self, outputs: "np.ndarray[Any, Any]", targets: "np.ndarray[Any, Any]"
    ) -> Mapping[str, float]:
        """Scores of a whole split, by name; every metric of the kind by default."""
        return all_metrics(self.kind, outputs, targets)

    def collate(self, samples: Sequence[Any]) -> Any:
        """A batch from samples."""
        return default_collate(list(samples))

    def optimizer(self, model: nn.Module, config: Config) -> torch.optim.Optimizer:
        """The optimizer over the trainable parameters, from `training.optimizer`."""
        return make_optimizer(model, config)

    def sample_key(self, split: str, index: int) -> str | None:
        """The identity of a sample before augmentation (id, group, time); None: its content."""
        return None

    def slice_key(self, split: str, index: int) -> str | None:
        """The part of the data that a sample belongs to, judged by itself (a site, a device).

        None: to none. A slice must not get worse by more than its metric's margin.
        """
        return None

    def data_files(self, config: Config) -> Sequence[Path] | None:
        """The files behind the data; None: those that `data` is seen to open."""
        return None

    def example_input(self, splits: Splits) -> Any:
        """Inputs for export and probes: the first two samples of validation."""
        samples = [splits.validation[index] for index in range(2)]
        return self.collate(samples)[0]

    def train(self, session: "TrainingSession") -> None:
        """Train `session.model`. The built-in loop by default; override it for one of your own.

        A loop of one's own goes over `session.epochs()` and `session.batches()`, steps
        `session.optimizer`, and ends each epoch by `session.finish_epoch(epoch)`, which validates,
        records and saves.
        """
        session.fit()


def load_task(path: str) -> Task:
    """The task at `module:Class`. Raises UserError when it is not there or not a Task."""
    module_name, _, class_name = path.partition(":")
    where = f"pyproject.toml tool.mltrainer.task: '{path}'"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not f"{module_name}.".startswith(f"{error.name}."):
            raise
        raise ConfigError([missing_task(path)]) from error
    found = getattr(module, class_name, None)
    if not isinstance(found, type) or not issubclass(found, Task):
        tasks = [
            name for name, value in vars(module).items()
            if isinstance(value, type) and issubclass(value, Task) and value is not Task
        ]  # fmt: skip
        there = f"; it has {', '.join(tasks)}" if tasks else ""
        raise ConfigError([f"{where}: '{class_name}' is not a Task in {module.__file__}{there}"])
    return found()


def checked_splits(task: Task, config: Config) -> Splits:
    """`task.data(config)`, with an error that says what is wrong when it is not three data sets."""
    splits = task.data(config)
    if not isinstance(splits, Splits):
        raise UserError(
            f"{type(task).__name__}.data(): found {type(splits).__name__}, wanted "
            "Splits(train=..., validation=..., test=...)"
        )
    for name in ("train", "validation", "test"):
        part = getattr(splits, name)
        if not hasattr(part, "__len__") or not hasattr(part, "__getitem__"):
            raise UserError(
                f"{type(task).__name__}.data(): {name} is a {type(part).__name__}, wanted a "
                "map-style data set with __len__ and __getitem__"
            )
        if len(part) == 0:
            raise UserError(f"{type(task).__name__}.data(): {name} is empty")
    return splits
