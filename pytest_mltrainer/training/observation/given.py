"""Data that a user gives beside a model of their own loop: scored, profiled, compared."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset, default_collate

from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.evaluation.metrics import METRICS
from pytest_mltrainer.evaluation.references import linear_reference
from pytest_mltrainer.evaluation.trivial import trivial_predictions
from pytest_mltrainer.training.batches import to_device
from pytest_mltrainer.training.data.profile import profile_data
from pytest_mltrainer.training.evaluate import predict_split
from pytest_mltrainer.training.observation.activation_facts import dead_units
from pytest_mltrainer.training.reproducibility import RngState
from pytest_mltrainer.training.task import Kind, Splits, Task

LIMIT_TRAIN_ROWS = 2_048
"""Training samples scored each epoch, evenly spaced."""
LIMIT_REFERENCE_ROWS = 5_000
PROBE_ROWS = 256

Loss = Callable[[Any, torch.Tensor], torch.Tensor]
Predict = Callable[[nn.Module, Any], torch.Tensor]


class GivenData:
    """The training and validation data of a run, either of which may be missing.

    Data sets are read beside the user's own loop: the global generators are as before afterwards;
    a data set that draws from a generator of its own would draw once more.
    """

    def __init__(
        self,
        *,
        kind: Kind,
        train: Any = None,
        validation: Any = None,
        loss: Loss | None = None,
        predict: Predict | None = None,
    ) -> None:
        """`train`, `validation`: a map-style data set of (input, target), or a DataLoader of one.

        Raises UserError for anything else.
        """
        self._sets = {"train": _dataset("train", train)}
        self._sets["validation"] = _dataset("validation", validation)
        collate = next(
            (part.collate_fn for part in (train, validation) if isinstance(part, DataLoader)),
            default_collate,
        )
        self._task = _task(kind, loss, predict, collate)

    def has(self, split: str) -> bool:
        """Whether the split was given and has samples."""
        return self._sets[split] is not None and len(self._sets[split]) > 0

    def scores(self, model: nn.Module, split: str) -> dict[str, float]:
        """Loss and every metric of the kind on a split, in evaluation mode; of training a part.

        Empty when the split was not given.
        """
        if not self.has(split):
            return {}
        dataset = self._sets[split]
        if split == "train":
            dataset = Subset(dataset, _spread(len(dataset), LIMIT_TRAIN_ROWS))
        device = next(model.parameters()).device
        with _evaluating(model):
            predictions, loss = predict_split(self._task, model, dataset, Config(), device)
            found = self._task.metrics(predictions.outputs, predictions.targets)
        return {"loss": loss, **found}

    def profile(self) -> dict[str, Any] | None:
        """The measured facts of the data; None without training data."""
        if not self.has("train"):
            return None
        parts = {name: part if self.has(name) else Nothing() for name, part in self._sets.items()}
        rng = RngState.capture()
        _, profile = profile_data(self._task, Splits(**parts, test=Nothing()))
        rng.restore()
        return profile

    def trained(self, model: nn.Module) -> dict[str, Any] | None:
        """`dead_units` of the model as it is, as `training/diagnosing/evidence.py` defines them.

        None without training data.
        """
        if not self.has("train"):
            return None
        dataset = self._sets["train"]
        rows = _spread(len(dataset), PROBE_ROWS)
        device = next(model.parameters()).device
        with _evaluating(model):
            inputs, _ = to_device(self._task.collate([dataset[row] for row in rows]), device)
            dead = dead_units(model, lambda: self._task.predict(model, inputs))
        return {"dead_units": dead, "dead_units_rows": len(rows)}

    def references(self, metric: str) -> dict[str, float]:
        """What a trivial and a linear model score; empty unless both splits and metric are known.

        The linear model is missing where inputs are no equal arrays of finite numbers.
        """
        known = METRICS.get(metric)
        if known is None or not (self.has("train") and self.has("validation")):
            return {}
        rng = RngState.capture()
        (train_inputs, train_targets), (inputs, targets) = (
            _table(self._sets[name]) for name in ("train", "validation")
        )
        rng.restore()
        kind = self._task.kind
        trivial = trivial_predictions(kind, train_targets, targets)
        found = {"trivial": known.score(trivial.outputs, trivial.targets)}
        if train_inputs is not None and inputs is not None:
            linear = linear_reference(
                kind, train_inputs, train_targets, inputs, targets, known, LIMIT_REFERENCE_ROWS
            )
            found |= linear or {}
        return found


class Nothing(Dataset[Any]):
    """A split that was not given."""

    def __len__(self) -> int:
        """No samples."""
        return 0


def _task(kind: Kind, loss: Loss | None, predict: Predict | None, collate: Any) -> Task:
    """A task as far as scoring needs one."""
    members: dict[str, Any] = {"kind": kind, "collate": lambda _, samples: collate(list(samples))}
    if loss is not None:
        members["loss"] = lambda _, outputs, targets, config: loss(outputs, targets)
    if predict is not None:
        members["predict"] = lambda _, model, inputs: predict(model, inputs)
    made: type[Task] = type("observe", (Task,), members)
    return made()


def _dataset(name: str, given: Any) -> Any:
    dataset = given.dataset if isinstance(given, DataLoader) else given
    if given is None or (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        return dataset
    raise UserError(
        f"observe({name}=...): found {type(given).__name__}, wanted a data set with __len__ and "
        "__getitem__ of (input, target), or a DataLoader of one: leave it out, and pass your own "
        "numbers to run.epoch(train={...}, validation={...})"
    )


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; modes of modules and generators as before afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    rng = RngState.capture()
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        rng.restore()


def _spread(count: int, limit: int) -> Sequence[int]:
    return [int(row) for row in np.linspace(0, count - 1, min(count, limit))]


def _table(dataset: Any) -> Any:
    """Inputs as rows of numbers (None when they are no equal arrays), and targets."""
    samples = [dataset[row] for row in _spread(len(dataset), LIMIT_REFERENCE_ROWS)]
    targets = np.stack([np.asarray(target) for _, target in samples])
    arrays = [value for value, _ in samples if isinstance(value, torch.Tensor | np.ndarray)]
    if len(arrays) < len(samples) or len({tuple(array.shape) for array in arrays}) > 1:
        return None, targets
    return np.stack([np.asarray(array, dtype=np.float64).reshape(-1) for array in arrays]), targets
