"""Small tasks, and sessions over them that need no project: rehearsals of at most 200 steps."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from pytest_mltrainer import Config, Splits, Task
from pytest_mltrainer.training.observation.telemetry import Telemetry
from pytest_mltrainer.training.reproducibility import digest_nested, digest_tensors
from pytest_mltrainer.training.session import TrainingSession

STEPS = 200


def small_config(
    *, seed: int = 3, objective: Mapping[str, Any] | None = None, **training: Any
) -> Config:
    """Three epochs of sgd in batches of 8 unless said otherwise."""
    usual = {
        "epochs": 3,
        "batch_size": 8,
        "optimizer": "sgd",
        "learning_rate": 0.05,
        "momentum": 0.0,
        "weight_decay": 0.0,
    }
    return Config.from_json(
        {
            "seed": seed,
            "device": "cpu",
            "objective": dict(objective or {}),
            "training": usual | training,
        }
    )


def blobs(rows: int, seed: int) -> TensorDataset:
    """Three classes of points, not quite separable."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % 3
    noise = torch.randn(rows, 4, generator=draw)
    return TensorDataset(noise + 1.5 * nn.functional.one_hot(labels, 4), labels)


class Blobs(Task):
    """48 training rows, 30 for validation, 24 for test."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

    def data(self, config: Config) -> Splits:
        return Splits(train=blobs(48, 0), validation=blobs(30, 1), test=blobs(24, 2))


class NoisyLayers(Blobs):
    """A model that draws random numbers and keeps running statistics."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3)
        )


class Augmented(Dataset[Any]):
    """Draws from each of the global generators for every sample."""

    def __init__(self, plain: TensorDataset) -> None:
        self.plain = plain

    def __len__(self) -> int:
        return len(self.plain)

    def __getitem__(self, index: int) -> Any:
        import random

        value, label = self.plain[index]
        noise = torch.randn(4) + random.random() + torch.from_numpy(np.random.rand(4)).float()
        return value + 0.1 * noise, label


class NoisyData(NoisyLayers):
    """Augments the training rows at random as well."""

    def data(self, config: Config) -> Splits:
        plain = super().data(config)
        assert isinstance(plain.train, TensorDataset)
        return Splits(train=Augmented(plain.train), validation=plain.validation, test=plain.test)


def rehearse(task: Task, config: Config, output: Path, *, steps: int = STEPS) -> TrainingSession:
    """A session that was trained; its output folder holds telemetry and checkpoints."""
    session = TrainingSession.rehearse(config, task, output, steps=steps)
    session.run()
    return session


def recorded(output: Path) -> Telemetry:
    return Telemetry.read(output)


def rates(output: Path) -> list[float]:
    """The learning rate of every update."""
    return [float(rate) for rate in recorded(output).steps["learning_rate"]]


def weights(session: TrainingSession) -> str:
    return digest_tensors(session.model.state_dict())


def whole_state(session: TrainingSession) -> str:
    """Digest of weights, optimizer, schedule and counters."""
    return digest_nested(
        [
            session.model.state_dict(),
            session.optimizer.state_dict(),
            {
                key: repr(part)
                for key, part in (
                    session.scheduler.state_dict() if session.scheduler else {}
                ).items()
            },
            session.progress.to_json(),
        ]
    )
