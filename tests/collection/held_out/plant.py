"""A plant: reactors, pumps, meters, mills and valves."""

import numpy as np
import torch
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task

from .. import samples
from ..cases import Case, patch, settings, worse


class Flow(nn.Module):
    """A state carried forward in time by Euler's steps."""

    def __init__(self, step: float) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(4, 40), nn.Linear(40, 4)
        self.rate = nn.Sequential(nn.Linear(40, 40), nn.SiLU(), nn.Linear(40, 40))
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        state = self.into(x)
        for _ in range(60):
            state = state + self.step * self.rate(state)
        return self.out(state)


class Reactor(Task):
    """Four concentrations after an hour from those at its start."""

    kind = "regression"
    step = 1 / 60

    def model(self, config: Config) -> nn.Module:
        return Flow(self.step)

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x = draw.uniform(0, 2, size=(700, 4))
        state = x.copy()
        for _ in range(100):
            first, second = state[:, 0] * state[:, 1], 0.7 * state[:, 2]
            change = np.stack([-first, second - first, first - second, 0.5 * second], axis=1)
            state = state + 0.02 * change
        y = (state - state.mean(0)) / state.std(0) + 0.1 * draw.normal(size=state.shape)
        return samples.divided(x, y, config.seed).standardised().splits()


class ReactorWhole(Reactor):
    """Euler's steps without the length of the step."""

    step = 1.0


class Strokes(nn.Module):
    """What the strokes of a pump have in common, whatever their order."""

    def __init__(self, adds_up: bool) -> None:
        super().__init__()
        self.each = nn.Sequential(nn.Linear(5, 32), nn.ReLU())
        self.rest = nn.Sequential(
            nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 1)
        )
        self.adds_up = adds_up

    def forward(self, x: Tensor) -> Tensor:
        each = self.each(x)
        return self.rest(each.sum(1) if self.adds_up else each.mean(1))


class Pump(Task):
    """Wear of a pump from 150 strokes of five measurements."""

    kind = "regression"
    adds_up = False

    def model(self, config: Config) -> nn.Module:
        return Strokes(self.adds_up)

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        level = 0.8 * draw.normal(size=(600, 5))
        x = level[:, None] + 0.4 * draw.normal(size=(600, 150, 5))
        y = np.sin(2 * level[:, 0]) + 0.7 * level[:, 1] * level[:, 2] + 0.4 * level[:, 3]
        return samples.divided(x, y + 0.1 * draw.normal(size=600), config.seed).splits()


class PumpSum(Pump):
    """The strokes are added where their mean was meant."""

    adds_up = True


class Meter(Task):
    """Which of five appliances runs, from its load curve of 40 readings."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv1d(1, 12, 5, padding=2), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(12, 16, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool1d(5), nn.Flatten(),
            nn.Linear(80, 5),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        y = draw.integers(0, 5, 1300)
        time = np.arange(40) + draw.integers(0, 6, 1300)[:, None]
        forms = [np.sin(time / 2), np.sign(np.sin(time / 3)), (time % 10) / 4 - 1.2,
                 np.exp(-(time % 20) / 5) * 2 - 0.5, np.sin(time / 5) ** 3]  # fmt: skip
        x = np.stack(forms)[y, np.arange(1300)] + 0.5 * draw.normal(size=(1300, 40))
        return samples.divided(x[:, None], y, config.seed).splits()

    def rate(self, config: Config) -> float:
        return config.training.learning_rate

    def optimizer(self, model: nn.Module, config: Config) -> torch.optim.Optimizer:
        return torch.optim.SGD(model.parameters(), lr=self.rate(config), momentum=0.9)


class MeterPerRow(Meter):
    """The rate is divided by the rows, though the loss is a mean already."""

    def rate(self, config: Config) -> float:
        return config.training.learning_rate / len(self.data(config).train)


class Mill(Task):
    """The grade of flour, one of six, from twelve measurements."""

    def model(self, config: Config) -> nn.Module:
        drop = config.model["drop"]
        return nn.Sequential(
            nn.Linear(12, 64), nn.ReLU(), nn.Dropout(drop),
            nn.Linear(64, 64), nn.ReLU(), nn.Dropout(drop), nn.Linear(64, 6),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = samples.table(config.seed, rows=1200, classes=6, apart=1.0)
        return samples.divided(x, y, config.seed).standardised().splits()


class Valve(Task):
    """Flow through a valve: a hump in two pressures and a fall with the third."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Linear(8, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1)
        )

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x = draw.normal(size=(1200, 8))
        y = 2 * np.exp(-(x[:, 0] ** 2) - x[:, 1] ** 2) + np.abs(x[:, 2]) - 0.4 * x[:, 3]
        y = (y - y.mean()) / y.std() + 0.2 * draw.normal(size=1200)
        return samples.divided(x, y, config.seed).splits()


class ValveEven(Valve):
    """Every weight begins as one over the inputs: a mean of them, in every unit."""

    def model(self, config: Config) -> nn.Module:
        model = super().model(config)
        for layer in model[::2]:
            nn.init.constant_(layer.weight, 1 / layer.in_features)
            nn.init.zeros_(layer.bias)
        return model


CASES = [
    Case(
        id="bx_reactor_without_dt", label="exploding_gradients", build=ReactorWhole, twin=Reactor,
        config=settings(epochs=10, learning_rate=0.002), verify=worse(0.15),
        notes="60 steps of Euler of length 1: growth at each",
    ),
    Case(
        id="bx_pump_strokes_added", label="saturation", build=PumpSum, twin=Pump,
        config=settings(epochs=20, batch_size=16), verify=worse(0.1),
        notes="a sum over 150 into tanh",
    ),
    Case(
        id="bx_meter_rate_by_rows", label="lr_too_low", build=MeterPerRow, twin=Meter,
        config=settings(optimizer="task", epochs=8, learning_rate=0.03), verify=worse(0.2),
        notes="SGD at 0.03 / 780",
    ),
    Case(
        id="bx_mill_share_kept", label="underfitting", build=Mill,
        config=settings(epochs=8, model={"drop": 0.95}), twin_config=patch(model={"drop": 0.05}),
        verify=worse(0.1), notes="0.95 was meant as the share that is kept",
    ),
    Case(
        id="bx_valve_even_weights", label="bad_init", build=ValveEven, twin=Valve,
        config=settings(epochs=12), verify=worse(0.2), notes="all units alike, for ever",
    ),
]  # fmt: skip
