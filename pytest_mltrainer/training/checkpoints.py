"""Checkpoints: everything that training goes on from, loaded without running any code in them."""

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from pytest_mltrainer.core import files
from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.training.reproducibility import RngState

SCHEMA = 1
LIMIT_EXPANSION = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """The state behind `step` updates, `position` batches into `epoch`.

    `identity` digests what the training was made from: another identity must not be resumed.
    `progress` holds the counters of early stopping and the best epoch so far.
    """

    identity: str
    step: int
    epoch: int
    model: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    rng: RngState
    progress: dict[str, Any]

    def save(self, path: Path) -> None:
        """Replace `path` by this checkpoint at once."""
        files.write_bytes(path, self.content())

    def content(self) -> bytes:
        """The checkpoint as the bytes of a torch file."""
        buffer = io.BytesIO()
        rng = self.rng
        torch.save(
            {
                "schema": SCHEMA,
                "identity": self.identity,
                "step": self.step,
                "epoch": self.epoch,
                "model": self.model,
                "optimizer": self.optimizer,
                "scheduler": self.scheduler,
                "rng": [rng.python, rng.numpy, rng.torch_cpu, rng.accelerator],
                "progress": self.progress,
            },
            buffer,
        )
        return buffer.getvalue()

    @classmethod
    def load(cls, path: Path) -> "Checkpoint":
        """Read a checkpoint onto the CPU. Raises StorageError when it is not one of ours."""
        stored = load_safely(path)
        try:
            if stored.pop("schema") != SCHEMA:
                raise StorageError(f"{path}: its schema is not {SCHEMA}; train again")
            return cls(**{**stored, "rng": RngState(*stored["rng"])})
        except (KeyError, TypeError, AttributeError) as error:
            raise StorageError(
                f"{path}: not a checkpoint of pytest-mltrainer ({error!r})"
            ) from error


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
