"""The order of samples, loaders whose draws are fixed, and the sealed test set."""

from collections.abc import Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.errors import SealedTestSetError
from pytest_mltrainer.training.reproducibility import derive_seed
from pytest_mltrainer.training.task import Splits, Task


class EpochBatches(Sampler[list[int]]):
    """Batches of indices; the order is a pure function of (seed, epoch)."""

    def __init__(self, samples: int, batch_size: int, *, seed: int, shuffle: bool) -> None:
        """`samples` indices in batches of `batch_size`, the last one may be smaller."""
        self.samples = samples
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-self.samples // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of `self.epoch`."""
        return iter(self.batches(self.epoch))

    def batches(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch."""
        if self.shuffle:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", epoch))
            order = torch.randperm(self.samples, generator=generator).tolist()
        else:
            order = list(range(self.samples))
        size = self.batch_size
        return [order[start : start + size] for start in range(0, self.samples, size)]


class TrainingLoader:
    """The training batches of an epoch, drawn alike each time it is asked for the same epoch."""

    def __init__(
        self,
        task: Task,
        dataset: Dataset[Any],
        config: Config,
        *,
        seed: int,
        pin_memory: bool = False,
        workers: int | None = None,
    ) -> None:
        """Batch size, shuffling and, unless given here, worker count come from `training`."""
        training = config.training
        self.order = EpochBatches(
            len(dataset),  # type: ignore[arg-type]
            training.batch_size,
            seed=seed,
            shuffle=training.shuffle,
        )
        self._generator = torch.Generator()
        self._loader: DataLoader[Any] = DataLoader(
            dataset,
            batch_sampler=self.order,
            collate_fn=task.collate,
            num_workers=training.loader_workers if workers is None else workers,
            generator=self._generator,
            pin_memory=pin_memory,
        )

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.order)

    def epoch(self, epoch: int) -> Iterator[Any]:
        """The batches of an epoch; worker seeds are a pure function of (seed, epoch) too."""
        self.order.epoch = epoch
        self._generator.manual_seed(derive_seed(self.order.seed, "loader", epoch))
        return iter(self._loader)


def evaluation_loader(task: Task, dataset: Dataset[Any], config: Config) -> "DataLoader[Any]":
    """The samples of a split in their own order, in batches large enough to be quick."""
    # A generator of its own: evaluating must not draw from the stream that training draws from.
    return DataLoader(
        dataset,
        batch_size=max(config.training.batch_size, 256),
        collate_fn=task.collate,
        generator=torch.Generator().manual_seed(0),
    )


class SealedSplits:
    """Splits whose test set raises SealedTestSetError: only finalization may open it."""

    def __init__(self, splits: Splits) -> None:
        """Keep train and validation; the test set is not kept at all."""
        self.train = splits.train
        self.validation = splits.validation

    @property
    def test(self) -> Dataset[Any]:
        """Raises SealedTestSetError."""
        raise SealedTestSetError(
            "the test set is sealed until finalization: choose by validation, "
            "and let `pytest --phase=finalization` open the test set once"
        )


def to_device(value: Any, device: torch.device) -> Any:
    """Move every tensor of a nesting to the device."""
    if isinstance(value, torch.Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, dict):
        return {key: to_device(part, device) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(to_device(part, device) for part in value))
    if isinstance(value, list | tuple):
        return type(value)(to_device(part, device) for part in value)
    return value


def balanced_class_weights(dataset: Dataset[Any]) -> torch.Tensor:
    """One weight a class, inverse to its frequency in the training targets, with mean 1 a sample.

    The formula is scikit-learn's `balanced`: n / (classes * count). Absent classes weigh 0.
    """
    targets = torch.tensor([int(dataset[row][1]) for row in range(len(dataset))])  # type: ignore[arg-type]
    counts = torch.bincount(targets).float()
    weights = len(targets) / (torch.count_nonzero(counts) * counts)
    return torch.where(counts > 0, weights, torch.zeros_like(counts))
