"""Digests of every step, so that two runs can be compared and the first difference be named.

`digests.rec` is append-only; numpy reads it in one line: `np.fromfile(path, DIGEST)`. A torn last
record is dropped. Of each step the cheap parts (generators, samples of the batch, bits of the
loss, some 20 us together); gradients and parameters, which cost 1 to 3 % of a step, of every
`training.digest_every`-th step, of the last one of an epoch, and where a checkpoint is saved.
"""

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch
import xxhash
from torch import nn

from pytest_mltrainer.core import files
from pytest_mltrainer.training.batches import TrainingLoader
from pytest_mltrainer.training.observation.generators import Generators, States, digest_of
from pytest_mltrainer.training.observation.observer import Observer, Scalar, named_gradients
from pytest_mltrainer.training.observation.telemetry import BLOCK_STEPS

DIGEST = np.dtype(
    [
        ("step", "<u4"),
        ("epoch", "<u4"),
        ("rng", "<u8"),
        ("batch", "<u8"),
        ("samples", "<u4"),
        ("loss", "<u8"),
        ("gradients", "<u8"),
        ("parameters", "<u8"),
    ]
)
"""`loss` holds the bits of a float64; 0 in a digest means that it was not taken."""
DIGESTS_FILE = "telemetry/digests.rec"
_WORD = 2**64 - 1


class Drawn(Protocol):
    """What a loop draws for its updates."""

    def ends_epoch(self) -> bool:
        """Whether the present update is the last one of its epoch."""
        ...

    def take(self) -> tuple[int, ...]:
        """The numbers of the batches since the last update."""
        ...

    def digest(self, epoch: int, numbers: tuple[int, ...]) -> tuple[int, int]:
        """Digest of the ids of the samples in these batches, and their number; 0: unknown."""
        ...


class DrawnBatches:
    """The batches of our own loader, by their numbers in the order of an epoch."""

    def __init__(self, loader: TrainingLoader) -> None:
        """Nothing was drawn yet."""
        self._loader = loader
        self._numbers: list[int] = []

    def add(self, number: int) -> None:
        """A batch was drawn."""
        self._numbers.append(number)

    def ends_epoch(self) -> bool:
        """Whether the last batch of the epoch is among those of the present update."""
        return bool(self._numbers) and self._numbers[-1] + 1 == len(self._loader)

    def take(self) -> tuple[int, ...]:
        """The numbers of the batches since the last update."""
        numbers = tuple(self._numbers)
        self._numbers.clear()
        return numbers

    def digest(self, epoch: int, numbers: tuple[int, ...]) -> tuple[int, int]:
        """Digest of the ids of the samples in these batches, and their number."""
        if not numbers:
            return 0, 0
        batches = self._loader.order.batches(epoch)
        ids = tuple(chain.from_iterable([batches[number] for number in numbers]))
        return _never_zero(hash(ids)), len(ids)


class UnknownDraws:
    """The draws of a loop that is not ours: which samples it took is not known."""

    def ends_epoch(self) -> bool:
        """Nobody knows."""
        return False

    def take(self) -> tuple[int, ...]:
        """Nothing."""
        return ()

    def digest(self, epoch: int, numbers: tuple[int, ...]) -> tuple[int, int]:
        """Unknown."""
        return 0, 0


class StepDigests:
    """Watches the updates of `model` and appends their digests to `digests.rec`."""

    def __init__(
        self, model: nn.Module, observer: Observer, folder: Path, *, every: int, drawn: Drawn
    ) -> None:
        """Each `every`-th step is digested in full, the first one with it."""
        self.every = every
        self.is_written = True
        """Of several processes that train together the first one writes, about its own share."""
        self._model = model
        self._observer = observer
        self._drawn = drawn
        self._path = folder / DIGESTS_FILE
        self._rows: list[tuple[int, ...]] = []
        self._states: list[States] = []
        self._losses: list[Scalar] = []
        self._batches: list[tuple[int, ...]] = []
        self._gradients = 0
        self._generators = Generators()

    def __enter__(self) -> Self:
        """Record while the block runs."""
        return self

    def __exit__(self, *_: object) -> None:
        """Write what is left."""
        self.flush()

    def before_update(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Digest the gradients where the step is to be digested in full."""
        if self._is_full(step):
            self._generators.find()
            gradients = named_gradients(self._model, optimizer)
            self._gradients = digest_in_order(gradients.values())

    def after_update(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Record the step."""
        self._states.append(self._generators.states())
        parameters = self._parameters() if self._gradients else 0
        self._rows.append((step, self._observer.epoch, 0, 0, 0, 0, self._gradients, parameters))
        self._batches.append(self._drawn.take())
        self._losses.append(self._observer.last_loss)
        self._gradients = 0
        if len(self._rows) >= BLOCK_STEPS:
            self.flush()

    def checkpointed(self) -> None:
        """Digest the parameters that a checkpoint is about to hold, and write what is there."""
        if self._rows and not self._rows[-1][-1]:
            self._rows[-1] = (*self._rows[-1][:-1], self._parameters())
        self.flush()

    def flush(self) -> None:
        """Fetch the losses from the device, digest generators and batches, append the block."""
        if not self._rows:
            return
        rows = np.array(self._rows, DIGEST)
        rows["rng"] = [digest_of(states) for states in self._states]
        rows["loss"] = _bits_of(self._losses)
        drawn = zip(rows["epoch"].tolist(), self._batches, strict=True)
        rows["batch"], rows["samples"] = zip(
            *[self._drawn.digest(epoch, numbers) for epoch, numbers in drawn], strict=True
        )
        self._rows.clear()
        self._states.clear()
        self._losses.clear()
        self._batches.clear()
        if not self.is_written:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as stream:
                stream.write(rows.tobytes())
        except OSError as error:
            raise files.storage_error("append to", self._path, error) from error

    def truncate(self, steps: int) -> None:
        """Forget the steps from number `steps` on; a training that is resumed does them again."""
        if not self.is_written:
            return
        found = read_digests(self._path)
        files.write_bytes(self._path, found[found["step"] < steps].tobytes())

    def _is_full(self, step: int) -> bool:
        return step % self.every == 0 or self._drawn.ends_epoch()

    def _parameters(self) -> int:
        return digest_in_order([*self._model.parameters(), *self._model.buffers()])


def read_digests(path: Path) -> "np.ndarray[Any, Any]":
    """The records of a file; none when it is missing."""
    try:
        return np.fromfile(path, DIGEST, count=path.stat().st_size // DIGEST.itemsize)
    except FileNotFoundError:
        return np.empty(0, DIGEST)
    except OSError as error:
        raise files.storage_error("read", path, error) from error


def digest_in_order(tensors: Iterable[torch.Tensor]) -> int:
    """64 bits over the bytes of each tensor (xxh3_64), combined in their order; never 0."""
    each = [xxhash.xxh3_64_intdigest(_bytes_of(tensor)) for tensor in tensors]
    return _never_zero(xxhash.xxh3_64_intdigest(np.array(each, "<u8").tobytes()))


def _bytes_of(tensor: torch.Tensor) -> Any:
    plain = tensor.detach()
    if plain.layout is not torch.strided:
        plain = plain.to_dense()
    # NumPy has no bfloat16: bytes instead of numbers.
    return plain.cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _bits_of(losses: list[Scalar]) -> "np.ndarray[Any, Any]":
    if all(isinstance(loss, float) for loss in losses):
        return np.array(losses, "<f8").view("<u8")
    stacked = torch.stack([torch.as_tensor(loss).double() for loss in losses])
    return stacked.cpu().numpy().astype("<f8").view("<u8")


def _never_zero(digest: int) -> int:
    return (digest & _WORD) or 1
