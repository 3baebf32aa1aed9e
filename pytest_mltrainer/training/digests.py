"""Digests of every step, so that two runs can be compared and the first difference be named.

`digests.rec` is append-only; numpy reads it in one line: `np.fromfile(path, DIGEST)`. A torn last
record is dropped. Of each step the cheap parts (generators, samples of the batch, bits of the
loss, some 20 us together); gradients and parameters, which cost 1 to 3 % of a step, of every
`training.digest_every`-th step, of the last one of an epoch, and where a checkpoint is saved.
"""

from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
import xxhash

from pytest_mltrainer.core import files
from pytest_mltrainer.training.generators import Generators
from pytest_mltrainer.training.observer import Scalar, named_gradients
from pytest_mltrainer.training.telemetry import BLOCK_STEPS

if TYPE_CHECKING:
    from pytest_mltrainer.training.session import TrainingSession

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


class StepDigests:
    """Watches the updates of a session and appends their digests to `digests.rec`.

    Of several processes that train together the first one writes, about its own share.
    """

    def __init__(self, session: "TrainingSession", *, every: int) -> None:
        """Each `every`-th step is digested in full, the first one with it."""
        self.every = every
        self._session = session
        self._path = session.output / DIGESTS_FILE
        self._rows: list[tuple[int, ...]] = []
        self._losses: list[Scalar] = []
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
            gradients = named_gradients(self._session.model, optimizer)
            self._gradients = digest_in_order(gradients.values())

    def after_update(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Record the step."""
        session = self._session
        batch, samples = self._batch()
        parameters = self._parameters() if self._gradients else 0
        self._rows.append(
            (
                step,
                session.observer.epoch,
                self._generators.digest(),
                batch,
                samples,
                0,
                self._gradients,
                parameters,
            )
        )
        self._losses.append(session.observer.last_loss)
        self._gradients = 0
        if len(self._rows) >= BLOCK_STEPS:
            self.flush()

    def checkpointed(self) -> None:
        """Digest the parameters that a checkpoint is about to hold, and write what is there."""
        if self._rows and not self._rows[-1][-1]:
            self._rows[-1] = (*self._rows[-1][:-1], self._parameters())
        self.flush()

    def flush(self) -> None:
        """Fetch the losses from the device and append the block."""
        if not self._rows:
            return
        rows = np.array(self._rows, DIGEST)
        rows["loss"] = _bits_of(self._losses)
        self._rows.clear()
        self._losses.clear()
        if not self._session.ranks.is_first:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab") as stream:
                stream.write(rows.tobytes())
        except OSError as error:
            raise files.storage_error("append to", self._path, error) from error

    def truncate(self, steps: int) -> None:
        """Forget the steps from number `steps` on; a training that is resumed does them again."""
        if not self._session.ranks.is_first:
            return
        found = read_digests(self._path)
        files.write_bytes(self._path, found[found["step"] < steps].tobytes())

    def _is_full(self, step: int) -> bool:
        drawn = self._session.drawn
        is_last = bool(drawn) and drawn[-1] + 1 == len(self._session.loader)
        return is_last or step % self.every == 0

    def _parameters(self) -> int:
        model = self._session.model
        return digest_in_order([*model.parameters(), *model.buffers()])

    def _batch(self) -> tuple[int, int]:
        """Digest of the ids of the samples drawn for this update, and their number; 0 for none."""
        epoch, drawn = self._session.observer.epoch, self._session.drawn
        if not drawn:
            return 0, 0
        batches = self._session.loader.order.batches(epoch)
        ids = tuple(chain.from_iterable([batches[number] for number in drawn]))
        drawn.clear()
        return _never_zero(hash(ids)), len(ids)


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
