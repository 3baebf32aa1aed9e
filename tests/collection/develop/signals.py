"""Signals of worn devices: windows of three accelerometer axes or one heart lead."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from pytest_mltrainer import Config, Splits, Task

from .. import samples
from ..cases import (
    HEALTHY,
    Case,
    both,
    inflated,
    last_worse,
    patch,
    reaches,
    settings,
    worse,
)

STEPS = 48


def motions(seed: int, rows: int, classes: int = 5, noise: float = 0.8) -> tuple:
    """Windows (3, STEPS): each activity has a rhythm and a share of it on every axis."""
    draw = np.random.default_rng(seed)
    y = draw.integers(0, classes, rows)
    time, rhythm = np.arange(STEPS) / STEPS, np.linspace(2, 9, classes)
    share = draw.uniform(0.3, 1.2, (classes, 3))
    start = draw.uniform(0, 2 * np.pi, (rows, 3, 1))
    x = share[y][..., None] * np.sin(2 * np.pi * rhythm[y][:, None, None] * time + start)
    return x + noise * draw.normal(size=x.shape), y


class Activities(Task):
    def model(self, config: Config) -> nn.Module:
        width = config.model["width"]
        return nn.Sequential(
            nn.Conv1d(3, width, 7, padding=3, stride=2), nn.ReLU(),
            nn.Conv1d(width, width, 5, padding=2, stride=2), nn.ReLU(),
            nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(width, 5),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = motions(config.seed, 900)
        return samples.divided(x, y, config.seed).splits()


class ThroughOneUnit(Activities):
    """Everything that is known of a window passes through `neck` numbers."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv1d(3, 16, 7, padding=3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool1d(1),
            nn.Flatten(), nn.Linear(16, config.model["neck"]), nn.Linear(config.model["neck"], 24),
            nn.ReLU(), nn.Linear(24, 5),
        )  # fmt: skip


class SlowNorm(Activities):
    """Windows with the weight of the earth on them; the norm hardly follows it."""

    momentum = 0.001

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.BatchNorm1d(3, momentum=self.momentum), nn.Conv1d(3, 16, 7, stride=2),
            nn.BatchNorm1d(16, momentum=self.momentum), nn.ReLU(), nn.AdaptiveAvgPool1d(1),
            nn.Flatten(), nn.Linear(16, 5),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = motions(config.seed, 900)
        pull = np.array([0.0, 9.8, 4.0])[None, :, None]
        return samples.divided(x + pull, y, config.seed).splits()


class UsualNorm(SlowNorm):
    momentum = 0.1


class Recordings(Activities):
    """Windows cut every three steps from long recordings, one state of health each."""

    by_person = False

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(3 * STEPS, 96), nn.ReLU(), nn.Linear(96, 2))

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x, y = [], []
        for person in range(30):
            drift = np.cumsum(draw.normal(size=(3, STEPS + 87)), 1) * 0.15
            drift += draw.normal(size=(3, 1)) * 2 + (person % 2) * 0.4
            for start in range(0, 87, 3):
                x.append(drift[:, start : start + STEPS])
                y.append(person % 2)
        rows = np.stack(x), np.array(y)
        return (samples.cut(*rows) if self.by_person else samples.divided(*rows)).splits()


class RecordingsApart(Recordings):
    by_person = True


class OtherAmplifier(Activities):
    """Training was recorded by one device, validation and test by one with gain and offset."""

    gain, offset = 3.0, 1.5

    def data(self, config: Config) -> Splits:
        parts = samples.divided(*motions(config.seed, 900), config.seed)
        for part in (parts.validation, parts.test):
            part.x[:] = part.x * self.gain + self.offset
        return parts.splits()


class Attending(nn.Module):
    """Attention over time, then the mean; it wants to know which axis is the batch."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.enter = nn.Conv1d(3, 16, 5, padding=2, stride=3)
        self.look = nn.MultiheadAttention(16, 2, batch_first=batch_first)
        self.head = nn.Linear(16, 5)

    def forward(self, series: Tensor) -> Tensor:
        places = torch.relu(self.enter(series)).transpose(1, 2)
        return self.head(self.look(places, places, places)[0].mean(1))


class AttendingToOthers(Activities):
    batch_first = False

    def model(self, config: Config) -> nn.Module:
        return Attending(self.batch_first)


class AttendingToItself(AttendingToOthers):
    batch_first = True


class Jittered(Dataset):
    """Training windows shifted and scaled at random each time they are read."""

    def __init__(self, rows: Dataset) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        window, label = self.rows[index]
        shift = int(torch.randint(0, STEPS, ()))
        noise = 0.5 * torch.randn_like(window)
        return window.roll(shift, 1) * (0.6 + 0.8 * torch.rand(3, 1)) + noise, label


class Augmented(Activities):
    def data(self, config: Config) -> Splits:
        plain = super().data(config)
        return Splits(train=Jittered(plain.train), validation=plain.validation, test=plain.test)


CASES = [
    Case(
        id="worn_hot_sgd", label="unstable_training", build=Activities,
        config=settings(model={"width": 24}, optimizer="sgd", learning_rate=1.2, momentum=0.9,
                        epochs=12),
        twin_config=patch(training={"learning_rate": 0.05}),
        verify=both(last_worse(0.15)), notes="sgd at 1.2 with momentum for small convolutions",
    ),
    Case(
        id="worn_one_number", label="underfitting", build=ThroughOneUnit,
        config=settings(model={"neck": 1}, learning_rate=0.01, epochs=10),
        twin_config=patch(model={"neck": 24}), verify=worse(0.12),
        notes="a neck of one unit for five activities",
    ),
    Case(
        id="worn_slow_norm", label="train_eval_mismatch", build=SlowNorm,
        config=settings(epochs=8), twin=UsualNorm, verify=worse(0.2),
        notes="a momentum of 0.001 in the norms, inputs far from 0",
    ),
    Case(
        id="worn_overlapping_windows", label="data_leakage", build=Recordings,
        config=settings(epochs=15, learning_rate=0.001), twin=RecordingsApart,
        verify=inflated(0.15),
        notes="windows that overlap by nine tenths, split at random",
    ),
    Case(
        id="worn_other_amplifier", label="train_val_skew", build=OtherAmplifier,
        config=settings(model={"width": 24}, epochs=10), twin=Activities, verify=worse(0.1),
        notes="validation from a device with another gain and offset",
    ),
    Case(
        id="worn_attending_to_others", label="batch_mixing", build=AttendingToOthers,
        config=settings(epochs=15), twin=AttendingToItself, verify=worse(0.05),
        notes="MultiheadAttention without batch_first",
    ),
    Case(
        id="well_worn_jittered", label=HEALTHY, build=Augmented,
        config=settings(model={"width": 24}, epochs=12, learning_rate=0.005),
        verify=reaches(0.75), notes="strong augmentation of training alone",
    ),
]  # fmt: skip
