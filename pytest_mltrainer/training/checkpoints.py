"""Checkpoints: everything that training goes on from, loaded without running any code in them."""

import io
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from pytest_mltrainer.core import files
from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.training.ranks import ALONE, Ranks
from pytest_mltrainer.training.reproducibility import RngState

SCHEMA = 2
LIMIT_EXPANSION = 4
LAST = "last.pt"
STEP = "step.pt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The state behind `step` updates, in `epoch`.

    `position`: how many batches of the epoch are done; None at its end, when it is validated.
    `identity` digests what the training was made from: another identity must not be resumed.
    `progress` holds the counters of early stopping and the best epoch so far. `kept`: outputs and
    targets of the epoch so far, for its training metric. `others`: the states of what the task
    registered with the session, by name. `peers`: generators, buffers and `kept` of the further
    processes of the training, in their order.
    """

    identity: str
    step: int
    epoch: int
    model: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    rng: RngState
    progress: dict[str, Any]
    position: int | None = None
    kept: tuple[torch.Tensor, torch.Tensor] | None = None
    others: dict[str, Any] = field(default_factory=dict)
    peers: list[dict[str, Any]] = field(default_factory=list)

    def of_rank(self, rank: int) -> "Checkpoint":
        """The checkpoint as one of several processes goes on from it."""
        if not rank or not self.peers:
            return self
        peer = self.peers[rank - 1]
        return replace(
            self,
            rng=RngState(*peer["rng"]),
            model={**self.model, **peer["buffers"]},
            kept=peer["kept"],
        )

    def save(self, path: Path) -> None:
        """Replace `path` by this checkpoint at once."""
        files.write_bytes(path, self.content())

    def content(self) -> bytes:
        """The checkpoint as the bytes of a torch file."""
        buffer = io.BytesIO()
        torch.save(self.to_plain(), buffer)
        return buffer.getvalue()

    def to_plain(self) -> dict[str, Any]:
        """The checkpoint as tensors and plain values."""
        return {
            "schema": SCHEMA,
            "identity": self.identity,
            "step": self.step,
            "epoch": self.epoch,
            "model": self.model,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "rng": self.rng.to_list(),
            "progress": self.progress,
            "position": self.position,
            "kept": self.kept,
            "others": self.others,
            "peers": self.peers,
        }

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Read a checkpoint onto the CPU. Raises StorageError when it is not one of ours."""
        stored = load_safely(path)
        try:
            if stored["schema"] != SCHEMA:
                raise StorageError(f"{path}: its schema is not {SCHEMA}; train again")
            return cls.from_plain(stored)
        except (KeyError, TypeError, AttributeError) as error:
            raise StorageError(
                f"{path}: not a checkpoint of pytest-mltrainer ({error!r})"
            ) from error

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "Checkpoint":
        """The checkpoint that `to_plain` took apart."""
        fields = {name: value for name, value in plain.items() if name != "schema"}
        return cls(**{**fields, "rng": RngState(*fields["rng"])})


class CheckpointFolder:
    """The checkpoints of a training: `last`, `best`, `epoch_0005`, and `step` within an epoch."""

    def __init__(self, folder: Path, *, every_epochs: int) -> None:
        """Every `every_epochs` epochs one is kept for good."""
        self._folder = folder
        self._every_epochs = every_epochs

    def save_epoch(self, checkpoint: Checkpoint, *, is_best: bool) -> None:
        """Keep the state at the end of an epoch."""
        done = checkpoint.epoch + 1
        names = [f"epoch_{done:04d}.pt"] if done % self._every_epochs == 0 else []
        names += ["best.pt"] if is_best else []
        # The last one last: whoever resumes from it finds the others of its epoch written.
        paths = [self._folder / name for name in (*names, LAST)]
        files.write_copies(paths, checkpoint.content())

    def save_step(self, checkpoint: Checkpoint) -> None:
        """Keep the state within an epoch; the one before it is given up."""
        checkpoint.save(self._folder / STEP)

    @staticmethod
    def newest(folder: Path, ranks: Ranks = ALONE) -> Checkpoint | None:
        """The readable checkpoint with the most updates, or None. Damaged ones are passed over.

        Of several processes the first one reads it and hands it to the others: on another machine
        the file may still be what it was before.
        """
        found = []
        for name in (LAST, STEP) if ranks.is_first else ():
            try:
                found.append(Checkpoint.load(folder / name))
            except StorageError:
                continue
        own = max(found, key=lambda checkpoint: checkpoint.step, default=None)
        if ranks.size == 1:
            return own
        plain = ranks.broadcast(own.to_plain() if own else None)
        return Checkpoint.from_plain(plain) if plain else None


def load_safely(path: Path) -> Any:
    """Tensors and plain values from a torch file; whatever would run code is refused."""
    try:
        with zipfile.ZipFile(path) as archive:
            expanded = sum(entry.file_size for entry in archive.infolist())
        if expanded > LIMIT_EXPANSION * path.stat().st_size + 2**20:
            raise StorageError(f"{path}: it claims to unpack to {expanded} bytes; refused")
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise StorageError(f"{path}: the checkpoint is missing; train again") from error
    except UnpicklingError as error:
        raise StorageError(
            f"{path}: it holds more than tensors and plain values, and loading that would run code "
            "from the file: refused. Take a checkpoint that this project wrote itself"
        ) from error
    except StorageError:
        raise
    except Exception as error:  # a damaged pickle raises whatever its broken stack comes upon
        reason = str(error).partition("\n")[0]
        raise StorageError(f"{path}: not a readable torch file ({reason}); train again") from error
