"""Signals of worn devices read step by step."""

import numpy as np
import torch
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task

from .. import samples
from ..cases import HEALTHY, Case, patch, reaches, settings, worse
from .signals import Activities


class EarlyCue(Task):
    """The first of 70 steps says the class, noise follows."""

    pooled = False

    def model(self, config: Config) -> nn.Module:
        return LastState(self.pooled)

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        y = draw.integers(0, 3, 500)
        x = 0.5 * draw.normal(size=(500, 70, 3))
        x[np.arange(500), 0, y] += 3
        return samples.divided(x, y, config.seed).splits()


class EarlyCuePooled(EarlyCue):
    pooled = True


class LastState(nn.Module):
    """Answers from the last state, or from the largest of each unit."""

    def __init__(self, pooled: bool) -> None:
        super().__init__()
        self.memory, self.head = nn.RNN(3, 24, batch_first=True), nn.Linear(24, 3)
        self.pooled = pooled

    def forward(self, series: Tensor) -> Tensor:
        states = self.memory(series)[0]
        return self.head(states.amax(1) if self.pooled else states[:, -1])


class Cell(nn.Module):
    """A recurrence by hand with weights of deviation `scale`."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.enter, self.again = nn.Linear(3, 32), nn.Linear(32, 32, bias=False)
        nn.init.normal_(self.again.weight, std=scale)
        self.head = nn.Linear(32, 5)

    def forward(self, series: Tensor) -> Tensor:
        state = series.new_zeros(len(series), 32)
        for step in series.unbind(2)[::2]:
            state = torch.relu(self.enter(step) + self.again(state))
        return self.head(state)


class GrowingCell(Activities):
    def model(self, config: Config) -> nn.Module:
        return Cell(config.model["scale"])


class GatedWindows(Activities):
    def model(self, config: Config) -> nn.Module:
        return MeanState()


class MeanState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv1d(3, 16, 7, stride=3)
        self.memory = nn.GRU(16, 24, batch_first=True)
        self.head = nn.Linear(24, 5)

    def forward(self, series: Tensor) -> Tensor:
        windows = torch.relu(self.enter(series)).transpose(1, 2)
        return self.head(self.memory(windows)[0].mean(1))


CASES = [
    Case(
        id="worn_early_cue", label="vanishing_gradients", build=EarlyCue,
        config=settings(epochs=12), twin=EarlyCuePooled, verify=worse(0.2),
        notes="a tanh RNN shall keep the first of 70 steps",
    ),
    Case(
        id="worn_growing_cell", label="exploding_gradients", build=GrowingCell,
        config=settings(model={"scale": 0.6}, epochs=8),
        twin_config=patch(model={"scale": 0.15}), verify=worse(0.15),
        notes="recurrent weights of deviation 0.6 on 32 units",
    ),
    Case(
        id="well_worn_accumulated", label=HEALTHY, build=GatedWindows,
        config=settings(epochs=8, batch_size=16, accumulate=3, clip_norm=1.0, learning_rate=0.01),
        verify=reaches(0.75), notes="a GRU, accumulation over three batches, clipping",
    ),
]  # fmt: skip
