"""The order of samples, loaders whose draws are fixed, and the sealed test set."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler, Subset, TensorDataset, get_worker_info

from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.errors import SealedTestSetError
from pytest_mltrainer.training.ranks import ALONE, Ranks
from pytest_mltrainer.training.reproducibility import derive_seed, fix_seeds
from pytest_mltrainer.training.task import Splits, Task

Batch = tuple[int, int, list[int]]
"""Epoch, number of the batch in it, and the indices of its samples."""
RowsOf = Callable[[torch.Tensor], list[torch.Tensor]]
"""Makes a batch of the rows of these numbers."""


class EpochBatches(Sampler[Batch]):
    """Batches of indices; the order is a pure function of (seed, epoch)."""

    def __init__(
        self,
        samples: int,
        batch_size: int,
        *,
        seed: int,
        shuffle: bool,
        ranks: Ranks = ALONE,
    ) -> None:
        """`samples` indices in batches of `batch_size`, the last one may be smaller.

        With several `ranks`: this one's share of each batch.
        """
        self.ranks = ranks
        self.samples = samples
        self.batch_size = batch_size
        self.seed = seed
        self.shuffle = shuffle
        self.epoch = 0
        self.start = 0
        self._kept: tuple[int, list[list[int]]] | None = None

    def __len__(self) -> int:
        """Batches in an epoch."""
        return -(-self.samples // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        """The batches of `self.epoch` from number `self.start` on."""
        for number, indices in enumerate(self.batches(self.epoch)):
            if number >= self.start:
                yield self.epoch, number, indices

    def batches(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch, or this rank's shares of them; those asked for last are kept."""
        if self._kept is None or self._kept[0] != epoch:
            self._kept = epoch, self._made(epoch)
        return self._kept[1]

    def _made(self, epoch: int) -> list[list[int]]:
        if self.shuffle:
            generator = torch.Generator().manual_seed(derive_seed(self.seed, "order", epoch))
            order = torch.randperm(self.samples, generator=generator).tolist()
        else:
            order = list(range(self.samples))
        size = self.batch_size
        starts = range(0, self.samples, size)
        return [self.ranks.share(order[start : start + size]) for start in starts]


class CollatedBatches(Dataset[Any]):
    """Batches of a data set, made where they are asked for.

    In a loader's worker each batch has seeds of its own, from (seed, epoch, number): the worker may
    start at any batch and draws what it would have drawn. In the main process the draws of data and
    model are one stream, which a checkpoint holds.
    """

    def __init__(self, task: Task, dataset: Dataset[Any], seed: int) -> None:
        """`task.collate` makes batches from samples of `dataset`."""
        self._collated = Collated(task, dataset)
        self._seed = seed

    def __getitem__(self, batch: Batch) -> Any:
        """What `collate` makes of the batch's samples."""
        epoch, number, indices = batch
        if get_worker_info() is not None:
            fix_seeds(derive_seed(self._seed, "batch", epoch, number))
        return self._collated(indices)


class Collated:
    """Makes batches of the samples of a data set.

    Where the samples are rows of tensors and torch's own collation makes the batch, each tensor is
    indexed once, to the bits that collating row by row would give: a sixth of a small model's step.
    """

    def __init__(self, task: Task, dataset: Dataset[Any]) -> None:
        """`task.collate` makes batches from samples of `dataset`."""
        self._collate = task.collate
        self._dataset = dataset
        self._in_bulk = _rows_of_tensors(dataset) if type(task).collate is Task.collate else None

    def __call__(self, indices: Sequence[int]) -> Any:
        """The batch of the samples of these numbers."""
        if self._in_bulk is not None:
            return self._in_bulk(torch.tensor(indices))
        return self._collate(self._samples(indices))

    def _samples(self, indices: Sequence[int]) -> list[Any]:
        # The same offer that torch's loader makes to data sets which read faster in bulk.
        in_bulk = getattr(self._dataset, "__getitems__", None)
        if in_bulk is not None:
            return list(in_bulk(indices))
        return [self._dataset[index] for index in indices]


def _rows_of_tensors(dataset: Dataset[Any]) -> RowsOf | None:
    """Rows of the tensors of a TensorDataset, or of a Subset of one; None for other data sets.

    None too for tensors of a kind or layout that an index would treat otherwise than a stack.
    """
    if type(dataset) is Subset:
        rows_of = _rows_of_tensors(dataset.dataset)
        chosen = torch.as_tensor(dataset.indices)
        return rows_of and partial(_chosen, rows_of, chosen)
    if type(dataset) is not TensorDataset or not all(map(_is_plain, dataset.tensors)):
        return None
    return partial(_indexed, dataset.tensors)


# Functions rather than lambdas: a loader's workers get them by pickle where they are spawned.
def _indexed(tensors: tuple[torch.Tensor, ...], rows: torch.Tensor) -> list[torch.Tensor]:
    return [tensor.index_select(0, rows) for tensor in tensors]


def _chosen(rows_of: RowsOf, chosen: torch.Tensor, rows: torch.Tensor) -> list[torch.Tensor]:
    return rows_of(chosen[rows])


def _is_plain(tensor: torch.Tensor) -> bool:
    return (
        type(tensor) is torch.Tensor
        and tensor.layout is torch.strided
        and tensor.is_contiguous()
        and not tensor.requires_grad
    )


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
        ranks: Ranks = ALONE,
    ) -> None:
        """Batch size, shuffling and, unless given here, worker count come from `training`."""
        training = config.training
        self.order = EpochBatches(
            len(dataset),  # type: ignore[arg-type]
            training.batch_size,
            seed=seed,
            shuffle=training.shuffle,
            ranks=ranks,
        )
        self._generator = torch.Generator()
        self._loader: DataLoader[Any] = DataLoader(
            CollatedBatches(task, dataset, ranks.seed(seed)),
            batch_size=None,
            sampler=self.order,
            collate_fn=_as_it_is,
            num_workers=training.loader_workers if workers is None else workers,
            generator=self._generator,
            pin_memory=pin_memory,
        )

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.order)

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """The batches of an epoch from number `start` on."""
        self.order.epoch, self.order.start = epoch, start
        self._generator.manual_seed(derive_seed(self.order.seed, "loader", epoch))
        return iter(self._loader)


def _as_it_is(batch: Any) -> Any:
    return batch


def evaluation_batches(task: Task, dataset: Dataset[Any], config: Config) -> Iterator[Any]:
    """The samples of a split in their own order, in batches large enough to be quick."""
    collated = Collated(task, dataset)
    samples = len(dataset)  # type: ignore[arg-type]
    size = max(config.training.batch_size, 256)
    for start in range(0, samples, size):
        yield collated(range(start, min(start + size, samples)))


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
