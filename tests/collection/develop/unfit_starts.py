"""Weights that start badly."""

import math

import torch
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task

from .. import samples, scenes
from ..cases import Case, settings, worse


class OwnLayer(nn.Module):
    """A layer of one's own: its matrix is `torch.randn` unless scaled."""

    def __init__(self, inside: int, outside: int, *, scaled: bool) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(inside, outside) / (inside**0.5 if scaled else 1))
        self.offset = nn.Parameter(torch.zeros(outside))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.matrix + self.offset


class DigitsDrawn(Task):
    """Three layers with matrices as `torch.randn` makes them."""

    scaled = False

    def model(self, config: Config) -> nn.Module:
        sizes = [(64, 96), (96, 96), (96, 96)]
        layers: list[nn.Module] = []
        for size in sizes:
            layers += [OwnLayer(*size, scaled=self.scaled), nn.Tanh()]
        return nn.Sequential(*layers, nn.Linear(96, 10))

    def data(self, config: Config) -> Splits:
        return samples.digits(config.seed).splits()


class DigitsScaled(DigitsDrawn):
    scaled = True


class ConstantGates(Task):
    """All parameters of an LSTM and its head start at one constant."""

    value: float | None = 0.1

    def model(self, config: Config) -> nn.Module:
        net = Channels()
        for part in net.parameters():
            if self.value is not None:
                nn.init.constant_(part, self.value)
        return net

    def data(self, config: Config) -> Splits:
        return samples.divided(*scenes.sensors(config.seed, rows=700), config.seed).splits()


class Channels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 24, batch_first=True)
        self.head = nn.Linear(24, 3)

    def forward(self, series: Tensor) -> Tensor:
        return self.head(self.lstm(series.transpose(1, 2))[0][:, -1])


class UsualGates(ConstantGates):
    value = None


class WideHead(Task):
    """The last layer drawn with deviation 5: it starts sure of wrong answers."""

    deviation = 5.0

    def model(self, config: Config) -> nn.Module:
        net = nn.Sequential(
            nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, 10)
        )
        nn.init.normal_(net[4].weight, std=self.deviation)
        return net

    def data(self, config: Config) -> Splits:
        return samples.digits(config.seed).splits()


class UsualHead(WideHead):
    deviation = 1 / math.sqrt(128)


CASES = [
    Case(
        id="digits_drawn_matrices", label="bad_init", build=DigitsDrawn,
        config=settings(epochs=10), twin=DigitsScaled, verify=worse(0.03),
        notes="torch.randn without a scale",
    ),
    Case(
        id="sensors_constant_gates", label="bad_init", build=ConstantGates,
        config=settings(epochs=15, learning_rate=0.005), twin=UsualGates, verify=worse(0.15),
        notes="constant weights of an LSTM",
    ),
    Case(
        id="digits_wide_head", label="bad_init", build=WideHead,
        config=settings(epochs=6, optimizer="sgd", learning_rate=0.01), twin=UsualHead,
        verify=worse(0.05), notes="a last layer of deviation 5",
    ),
]  # fmt: skip
