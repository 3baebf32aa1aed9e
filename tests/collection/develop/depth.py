"""Gradients, dying and saturated units."""

import math

import torch
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task

from .. import samples
from ..cases import Case, patch, settings, worse


class TokensSummed(Task):
    """Tagging with a loss that is summed over all words of the batch."""

    kind = "sequence"
    mean = False

    def model(self, config: Config) -> nn.Module:
        return Tagger()

    def data(self, config: Config) -> Splits:
        x, y = samples.tagged(config.seed, rows=600)
        return samples.divided(x, y, config.seed).splits()

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        reduction = "mean" if self.mean else "sum"
        flat = outputs.flatten(0, 1)
        return nn.functional.cross_entropy(flat, targets.flatten(), reduction=reduction)


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(12, 32)
        self.lstm = nn.LSTM(32, 48, batch_first=True)
        self.head = nn.Linear(48, 4)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(words))[0])


class TokensAveraged(TokensSummed):
    mean = True


class LongMemory(nn.Module):
    """A recurrence by hand, tanh(W h + U x), with W drawn too large."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.recur = nn.Linear(64, 64)
        self.read = nn.Linear(1, 64)
        self.head = nn.Linear(64, 1)
        nn.init.normal_(self.recur.weight, std=scale / math.sqrt(64))

    def forward(self, series: Tensor) -> Tensor:
        hidden = torch.zeros(len(series), 64)
        for value in series.unbind(1):
            hidden = torch.tanh(self.recur(hidden) + self.read(value))
        return self.head(hidden)


class Totals(Task):
    """The mean of a long series of numbers."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return LongMemory(config.model["scale"])

    def data(self, config: Config) -> Splits:
        generator = torch.Generator().manual_seed(config.seed)
        x = torch.randn(500, 50, 1, generator=generator).numpy()
        return samples.divided(x, x.sum((1, 2)) / math.sqrt(50), config.seed).splits()


class DeepTanh(Task):
    """Thirty layers of tanh with default weights: each passes on a third of the variance."""

    kind = "regression"
    residual = False

    def model(self, config: Config) -> nn.Module:
        return Deep(config.model["depth"], residual=self.residual)

    def data(self, config: Config) -> Splits:
        x, y = samples.curved(config.seed)
        return samples.divided(x, y, config.seed).splits()


class Deep(nn.Module):
    def __init__(self, depth: int, *, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.stem, self.head = nn.Linear(8, 24), nn.Linear(24, 1)
        self.layers = nn.ModuleList(nn.Linear(24, 24) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.stem(x)
        for layer in self.layers:
            step = torch.tanh(layer(hidden))
            hidden = hidden + 0.3 * step if self.residual else step
        return self.head(hidden)


class DeepTanhResidual(DeepTanh):
    residual = True


class SigmoidPictures(Task):
    """Eight convolutions, each with a sigmoid behind."""

    def model(self, config: Config) -> nn.Module:
        layers: list[nn.Module] = []
        for before in (1, *[8] * 7):
            layers += [nn.Conv2d(before, 8, 3, padding=1), *self.between()]
        return nn.Sequential(*layers, nn.AdaptiveMaxPool2d(3), nn.Flatten(), nn.Linear(72, 4))

    def between(self) -> list[nn.Module]:
        return [nn.Sigmoid()]

    def data(self, config: Config) -> Splits:
        x, y = samples.shapes(config.seed, rows=500)
        return samples.divided(x, y, config.seed).splits()


class PicturesNormalised(SigmoidPictures):
    def between(self) -> list[nn.Module]:
        return [nn.BatchNorm2d(8), nn.ReLU()]


class NegativeLevels(Task):
    """Levels in decibel below zero meet weights that were drawn from 0 to 1."""

    positive = True

    def model(self, config: Config) -> nn.Module:
        first = nn.Linear(16, 40)
        if self.positive:
            nn.init.uniform_(first.weight, 0, 0.3)
            nn.init.zeros_(first.bias)
        return nn.Sequential(first, nn.ReLU(), nn.Linear(40, 20), nn.ReLU(), nn.Linear(20, 4))

    def data(self, config: Config) -> Splits:
        x, y = samples.table(config.seed, rows=900, columns=16, classes=4, apart=1.0)
        return samples.divided(x - 7.0, y, config.seed).splits()


class UsualWeights(NegativeLevels):
    positive = False


class KilledByRate(Task):
    """A first rate so high that the ReLUs are pushed off and never come back."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 12, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(12, 16, 3), nn.ReLU(),
            nn.Flatten(), nn.Linear(144, 32), nn.ReLU(), nn.Linear(32, 4),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = samples.shapes(config.seed, rows=600)
        return samples.divided(x, y, config.seed).splits()


class Highway(nn.Module):
    """Layers with a gate between what is new and what is carried; the gates start all shut."""

    def __init__(self, columns: int, classes: int, bias: float) -> None:
        super().__init__()
        self.stem, columns = nn.Linear(columns, 24), 24
        self.new = nn.ModuleList(nn.Linear(columns, columns) for _ in range(3))
        self.gates = nn.ModuleList(
            nn.Sequential(nn.Linear(columns, columns), nn.Sigmoid()) for _ in range(3)
        )
        for gate in self.gates:
            nn.init.constant_(gate[0].bias, bias)
        self.head = nn.Linear(columns, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for new, gate in zip(self.new, self.gates, strict=True):
            share = gate(x)
            x = share * torch.relu(new(x)) + (1 - share) * x
        return self.head(x)


class ShutGates(Task):
    def model(self, config: Config) -> nn.Module:
        return Highway(6, 3, config.model["gate_bias"])

    def data(self, config: Config) -> Splits:
        x, y = samples.rings(config.seed, rows=1000)
        return samples.divided(x, y, config.seed).splits()


class WideTanh(Task):
    """Xavier weights with a gain of 30: someone took the gain for a scale of the inputs."""

    def model(self, config: Config) -> nn.Module:
        net = nn.Sequential(
            nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10)
        )
        for layer in (net[0], net[2]):
            nn.init.xavier_normal_(layer.weight, gain=config.model["gain"])
        return net

    def data(self, config: Config) -> Splits:
        return samples.digits(config.seed).standardised().splits()


CASES = [
    Case(
        id="tags_summed_tokens", label="exploding_gradients", build=TokensSummed,
        config=settings(optimizer="sgd", learning_rate=0.3, batch_size=64, epochs=8),
        twin=TokensAveraged, twin_config=patch(training={"epochs": 8}), verify=worse(0.05),
        notes="the loss of 900 words added up, sgd",
    ),
    Case(
        id="totals_large_recurrence", label="exploding_gradients", build=Totals,
        config=settings(model={"scale": 3.5}, optimizer="sgd", learning_rate=0.01, epochs=6,
                        batch_size=64),
        twin_config=patch(model={"scale": 0.9}, training={"clip_norm": 1.0, "optimizer": "adam"}),
        verify=worse(0.3), notes="gradients grow over 50 steps",
    ),
    Case(
        id="curve_thirty_tanh", label="vanishing_gradients", build=DeepTanh,
        config=settings(model={"depth": 30}, epochs=8), twin=DeepTanhResidual, verify=worse(0.3),
        notes="0.58 a layer, thirty times",
    ),
    Case(
        id="shapes_eight_sigmoids", label="vanishing_gradients", build=SigmoidPictures,
        config=settings(epochs=6), twin=PicturesNormalised, verify=worse(0.3),
        notes="a quarter at most from each of eight layers",
    ),
    Case(
        id="levels_positive_weights", label="dead_relu", build=NegativeLevels,
        config=settings(), twin=UsualWeights, verify=worse(0.2),
        notes="negative inputs times positive weights",
    ),
    Case(
        id="shapes_killed_by_rate", label="dead_relu", build=KilledByRate,
        config=settings(learning_rate=0.3, epochs=8),
        twin_config=patch(training={"learning_rate": 0.003}), verify=worse(0.2),
        notes="adam at 0.3 leaves no unit alive",
    ),
    Case(
        id="rings_shut_gates", label="saturation", build=ShutGates,
        config=settings(model={"gate_bias": -14.0}, epochs=12),
        twin_config=patch(model={"gate_bias": -1.0}), verify=worse(0.2),
        notes="gates of sigmoid(-14) let nothing through, no gradient either",
    ),
    Case(
        id="digits_gain_of_thirty", label="saturation", build=WideTanh,
        config=settings(model={"gain": 30.0}, optimizer="sgd", learning_rate=0.05, epochs=8),
        twin_config=patch(model={"gain": 1.0}), verify=worse(0.04),
        notes="tanh at sums of deviation 30",
    ),
]  # fmt: skip
