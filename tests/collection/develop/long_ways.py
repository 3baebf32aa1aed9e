"""Depths and recurrences that gradients do not survive."""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from pytest_mltrainer import Config, Splits, Task

from .. import samples, scenes
from ..cases import Case, settings, worse


class ResidualTower(nn.Module):
    """Blocks with He's weights added without a norm: each doubles what comes in."""

    share = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(64, 48), nn.Linear(48, 10)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 48)) for _ in range(18)
        )
        for block in self.blocks:
            nn.init.kaiming_normal_(block[0].weight)
            nn.init.kaiming_normal_(block[2].weight)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for block in self.blocks:
            x = x + self.share * block(x)
        return self.leave(x)


class ScaledTower(ResidualTower):
    share = 1 / 18


class DigitTower(Task):
    net: type[nn.Module] = ResidualTower

    def model(self, config: Config) -> nn.Module:
        return self.net()

    def data(self, config: Config) -> Splits:
        return samples.digits(config.seed).splits()


class DigitTowerRight(DigitTower):
    net = ScaledTower


class GrowingStates(nn.Module):
    """A ReLU recurrence that starts at one and a half times the identity."""

    factor = 1.5

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(1, 32, nonlinearity="relu", batch_first=True)
        self.rnn.weight_hh_l0.data = self.factor * torch.eye(32)
        self.head = nn.Linear(32, 3)

    def forward(self, series: Tensor) -> Tensor:
        return self.head(self.rnn(series)[0][:, -1])


class KeepingStates(GrowingStates):
    factor = 1.0


class Waves(Task):
    net: type[nn.Module] = GrowingStates

    def model(self, config: Config) -> nn.Module:
        return self.net()

    def data(self, config: Config) -> Splits:
        return samples.divided(*samples.waves(config.seed), config.seed).splits()


class WavesRight(Waves):
    net = KeepingStates


class RegionsSummed(Task):
    """The loss summed over all pixels of the batch, at a rate for a mean."""

    kind = "sequence"
    reduction = "sum"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.Tanh(), nn.Conv2d(12, 12, 5, padding=2), nn.Tanh(),
            nn.Conv2d(12, 3, 1), nn.Flatten(2),
        )  # fmt: skip

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        return model(inputs).transpose(1, 2)

    def data(self, config: Config) -> Splits:
        return samples.divided(*scenes.regions(config.seed), config.seed).splits()

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        return functional.cross_entropy(
            outputs.flatten(0, 1), targets.flatten(), reduction=self.reduction
        )


class RegionsAveraged(RegionsSummed):
    reduction = "mean"


class LongMemory(nn.Module):
    """The first symbol of sixty is asked for at the end of a plain recurrence."""

    backward_too = False

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(4, 24, batch_first=True, bidirectional=self.backward_too)
        self.head = nn.Linear(24, 4)

    def forward(self, series: Tensor) -> Tensor:
        out = self.rnn(series)[0]
        return self.head(out[:, 0, 24:] if self.backward_too else out[:, -1])


class BothWays(LongMemory):
    backward_too = True


class Symbols(Task):
    net: type[nn.Module] = LongMemory

    def model(self, config: Config) -> nn.Module:
        return self.net()

    def data(self, config: Config) -> Splits:
        return samples.divided(*scenes.first_symbol(config.seed), config.seed).splits()


class SymbolsRight(Symbols):
    net = BothWays


class SigmoidTower(Task):
    """A dozen convolutions with sigmoids between them."""

    between: type[nn.Module] = nn.Sigmoid

    def model(self, config: Config) -> nn.Module:
        layers: list[nn.Module] = [nn.Conv1d(3, 16, 3, padding=1), self.between()]
        for _ in range(10):
            layers += [nn.Conv1d(16, 16, 3, padding=1), self.between()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(64, 3))

    def data(self, config: Config) -> Splits:
        return samples.divided(*scenes.sensors(config.seed, noise=0.4), config.seed).splits()


class NormedRelu(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.BatchNorm1d(16), nn.ReLU())


class ReluTower(SigmoidTower):
    between = NormedRelu


class SigmoidCoder(Task):
    """An autoencoder of digits: ten narrow sigmoid layers, SGD."""

    kind = "regression"
    between: type[nn.Module] = nn.Sigmoid

    def model(self, config: Config) -> nn.Module:
        sizes = [44, 40, 32, 24, 20, 16, 20, 24, 32, 40]
        layers: list[nn.Module] = []
        for inside, outside in pairwise(sizes):
            layers += [nn.Linear(inside, outside), self.between()]
        return nn.Sequential(*layers, nn.Linear(40, 44))

    def data(self, config: Config) -> Splits:
        return scenes.inked(config.seed).each(lambda x, y: (2 * x, 2 * y)).splits()


class EluCoder(SigmoidCoder):
    between = nn.ELU


CASES = [
    Case(
        id="digits_residual_tower", label="exploding_gradients", build=DigitTower,
        config=settings(epochs=6, learning_rate=0.001), twin=DigitTowerRight,
        verify=worse(0.2), notes="18 residual blocks without a norm",
    ),
    Case(
        id="waves_growing_states", label="exploding_gradients", build=Waves,
        config=settings(epochs=12, optimizer="adam", learning_rate=0.003), twin=WavesRight,
        verify=worse(0.2), notes="1.5 times the identity, 24 times over",
    ),
    Case(
        id="regions_summed_loss", label="exploding_gradients", build=RegionsSummed,
        config=settings(epochs=10, optimizer="sgd", learning_rate=0.1, batch_size=16),
        twin=RegionsAveraged, verify=worse(0.05), notes="a sum over 2,304 pixels",
    ),
    Case(
        id="symbols_long_memory", label="vanishing_gradients", build=Symbols,
        config=settings(epochs=10), twin=SymbolsRight, verify=worse(0.4),
        notes="sixty steps of a tanh recurrence",
    ),
    Case(
        id="sensors_sigmoid_tower", label="vanishing_gradients", build=SigmoidTower,
        config=settings(epochs=10, optimizer="sgd", learning_rate=0.05), twin=ReluTower,
        verify=worse(0.2), notes="a dozen sigmoids",
    ),
    Case(
        id="digits_sigmoid_coder", label="vanishing_gradients", build=SigmoidCoder,
        config=settings(epochs=15, optimizer="sgd", learning_rate=0.3), twin=EluCoder,
        verify=worse(0.15), notes="nine sigmoids",
    ),
]  # fmt: skip
