"""Training by several processes: which of them this is, and what they exchange.

Each process, a rank, has the whole model and its share of every batch. Gradients are averaged when
the optimizer is about to step, all at once: unlike torch's DistributedDataParallel nothing of that
overlaps with the backward pass. For that it works with any model, any number of forward passes, and
whatever the task makes of them.
"""

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from torch import nn

from pytest_mltrainer.core import files
from pytest_mltrainer.core.errors import PeerLostError, UserError
from pytest_mltrainer.core.work import WorkRequest
from pytest_mltrainer.training.reproducibility import derive_seed, digest_tensors

RANKS_FILE = "ranks.json"
LIMIT_BUCKET_BYTES = 32 * 2**20
"""Gradients that travel together; a larger bucket costs memory and saves nothing."""
BACKENDS = {"cpu": "gloo", "cuda": "cpu:gloo,cuda:nccl"}
OF_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "ROLE_RANK")

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes that train together. `Ranks()` is one that trains alone: nothing is sent.

    Every method that exchanges something must be called by all ranks in the same order. It raises
    PeerLostError when another one is gone.
    """

    rank: int = 0
    size: int = 1
    device: torch.device | None = None

    @classmethod
    def join(cls, request: WorkRequest, device: torch.device) -> Self:
        """Meet the other processes of the request; `device` is the kind that each is to use.

        On CUDA each process of a node takes the GPU of its number there. Raises UserError where
        there are fewer of them, or the device has no way to exchange tensors.
        """
        if request.ranks == 1:
            return cls()
        own = _own_device(device)
        minutes = float(request.config["budgets"]["worker_timeout_minutes"])
        with _told():
            torch.distributed.init_process_group(
                BACKENDS[own.type],
                rank=request.rank,
                world_size=request.ranks,
                # The launcher ends what takes too long; whoever waits for a slow rank is not lost.
                timeout=timedelta(minutes=minutes),
            )
        # What is started from here on, a worker or a framework, is no rank of this training.
        for name in OF_TORCHRUN:
            os.environ.pop(name, None)
        return cls(request.rank, request.ranks, own)

    def leave(self) -> None:
        """Nothing is exchanged any more; the first rank may go on alone."""
        if self.size > 1:
            torch.distributed.destroy_process_group()

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that validates, saves and reports."""
        return self.rank == 0

    def seed(self, seed: int) -> int:
        """The seed of what each rank draws for itself; the first one draws as if it were alone."""
        return derive_seed(seed, "rank", self.rank) if self.rank else seed

    def share(self, indices: Sequence[int]) -> list[int]:
        """This rank's part of a batch; samples are repeated so that all ranks have as many."""
        each = -(-len(indices) // self.size)
        return [indices[place % len(indices)] for place in self._places(each)]

    def _places(self, each: int) -> range:
        return range(self.rank, each * self.size, self.size)

    def broadcast(self, value: Value) -> Value:
        """What the first rank has, on the CPU; the others' values are not looked at.

        Tensors and plain values, as a checkpoint holds them.
        """
        if self.size == 1:
            return value
        box = [_packed(value) if self.is_first else b""]
        with _told():
            torch.distributed.broadcast_object_list(box, src=0)
        return value if self.is_first else _unpacked(box[0])

    def gather(self, value: Value) -> list[Value]:
        """The values of all ranks in their order, on the first rank's CPU; nothing on the others.

        Tensors and plain values, as a checkpoint holds them.
        """
        if self.size == 1:
            return [value]
        found = [b""] * self.size if self.is_first else None
        with _told():
            torch.distributed.gather_object(_packed(value), found)
        return [_unpacked(content) for content in found or ()]

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """The mean over the ranks of a tensor of one shape, in double precision."""
        if self.size == 1:
            return value
        total = value.detach().double().clone()
        self._add_up(total)
        return total / self.size

    def average_gradients(self, model: nn.Module) -> None:
        """Replace each gradient of the model by its mean over the ranks.

        A parameter without one on this rank counts 0 where another rank has one. Not finite on one
        rank is not finite on all. Raises UserError for sparse gradients.
        """
        if self.size == 1:
            return
        named = [(name, part) for name, part in model.named_parameters() if part.requires_grad]
        is_there = torch.tensor([part.grad is not None for _, part in named], dtype=torch.int32)
        self._add_up(is_there)
        gradients = [
            _gradient(name, parameter)
            for (name, parameter), count in zip(named, is_there.tolist(), strict=True)
            if count
        ]
        for bucket in _buckets(gradients):
            # Divided first: a sum in half precision may be too large where the mean is not.
            whole = torch.cat([part.reshape(-1) for part in bucket]).div_(self.size)
            self._add_up(whole)
            parts = whole.split([part.numel() for part in bucket])
            for gradient, part in zip(bucket, parts, strict=True):
                gradient.copy_(part.view_as(gradient))

    def first_described(self, fault: dict[str, Any] | None) -> dict[str, Any] | None:
        """Of the ranks' descriptions of one fault the first that found its place; else rank 0's.

        All ranks meet a value that is not finite at the same update, but only those whose share of
        the batch makes it can see where. On the other ranks: their own.
        """
        if self.size == 1 or fault is None:
            return fault
        found = [told for told in self.gather(fault) if told is not None]
        for rank, told in enumerate(found):
            if told["module"] or not (told["inputs_finite"] and told["targets_finite"]):
                return {**told, "rank": rank}
        return found[0] if found else fault

    def write_digests(self, model: nn.Module, folder: Path) -> None:
        """Write `ranks.json`: the digest of the parameters on each rank, for the gate to compare.

        Buffers are left out: a running mean is of the samples that a rank has seen.
        """
        if self.size == 1:
            return
        digests = self.gather(digest_tensors(dict(model.named_parameters())))
        if self.is_first:
            files.write_json(folder / RANKS_FILE, {"ranks": self.size, "parameters": digests})

    def _add_up(self, tensor: torch.Tensor) -> None:
        with _told():
            torch.distributed.all_reduce(tensor)


ALONE = Ranks()
"""The only process of a training."""


class AveragedUpdates:
    """A watcher of updates that refuses those whose gradients were not averaged over the ranks."""

    def __init__(self) -> None:
        """Nothing is averaged yet."""
        self.is_averaged = False

    def before_update(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Raise UserError where the loop steps its optimizer itself."""
        if not self.is_averaged:
            raise UserError(
                "the training loop steps its optimizer itself, so each process would train a "
                "model of its own: call session.update() instead, or train in one process "
                "(training_config.yaml launch.kind: local)"
            )

    def after_update(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """The next update wants gradients of its own."""
        self.is_averaged = False


def _own_device(device: torch.device) -> torch.device:
    if device.type not in BACKENDS:
        raise UserError(
            f"training_config.yaml device: found {device.type} with launch.kind torchrun, wanted "
            "cpu or cuda: write device: cpu, or launch.kind: local"
        )
    if device.type == "cpu":
        return device
    number, there = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= there:
        raise UserError(
            f"training_config.yaml launch.processes: found more than the {there} GPUs of this "
            f"node, wanted one for each process: write processes: {there}"
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def _gradient(name: str, parameter: nn.Parameter) -> torch.Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    if parameter.grad.is_sparse:
        raise UserError(
            f"the gradient of {name} is sparse, and those are not averaged over processes: make "
            "its layer with sparse=False, or write launch.kind: local in training_config.yaml"
        )
    gradient = parameter.grad.detach()
    return torch.view_as_real(gradient) if gradient.is_complex() else gradient


def _buckets(gradients: Iterable[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Gradients of one type and device, in lists that stay below the limit of bytes."""
    kinds: dict[tuple[torch.dtype, torch.device], list[torch.Tensor]] = {}
    for gradient in gradients:
        kinds.setdefault((gradient.dtype, gradient.device), []).append(gradient)
    for alike in kinds.values():
        bucket: list[torch.Tensor] = []
        size = 0
        for gradient in alike:
            if bucket and size + gradient.nbytes > LIMIT_BUCKET_BYTES:
                yield bucket
                bucket, size = [], 0
            bucket.append(gradient)
            size += gradient.nbytes
        yield bucket


def _packed(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _unpacked(content: bytes) -> Any:
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


@contextmanager
def _told() -> Iterator[None]:
    """What torch says of a connection that broke, as the error of a lost peer."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise PeerLostError(
            f"another process of the training is gone ({reason}); the next run starts it again"
        ) from error
