"""Starts from which nothing is learned: weights, biases and scales; and rates that end the same."""

import numpy as np
import torch
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task

from .. import samples
from ..cases import HEALTHY, Case, both, last_worse, patch, reaches, settings, unsteady, worse


class Dense(Task):
    """Digits through hidden layers of any activation, begun in a way of one's own."""

    activation: type[nn.Module] = nn.Tanh

    def model(self, config: Config) -> nn.Module:
        width = config.model["width"]
        net = nn.Sequential(
            nn.Linear(64, width), self.activation(), nn.Linear(width, width), self.activation(),
            nn.Linear(width, 10),
        )  # fmt: skip
        for layer in (net[0], net[2]):
            self.begin(layer)
        return net

    def begin(self, layer: nn.Linear) -> None:
        pass

    def data(self, config: Config) -> Splits:
        return samples.digits(config.seed).standardised().splits()


class PositiveTanh(Dense):
    def begin(self, layer: nn.Linear) -> None:
        nn.init.uniform_(layer.weight, 0.0, 0.6)


class WideSigmoid(Dense):
    activation = nn.Sigmoid

    def begin(self, layer: nn.Linear) -> None:
        nn.init.normal_(layer.weight, std=4.0)


class PlainSigmoid(Dense):
    activation = nn.Sigmoid


class PlainRelu(Dense):
    activation = nn.ReLU


class PositiveFilters(Task):
    """Series through filters whose weights are drawn from 0 to 1."""

    positive = True

    def model(self, config: Config) -> nn.Module:
        net = nn.Sequential(
            nn.Conv1d(1, 16, 5), nn.Tanh(), nn.Conv1d(16, 16, 5), nn.Tanh(),
            nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(64, 3),
        )  # fmt: skip
        if self.positive:
            for layer in (net[0], net[2]):
                nn.init.uniform_(layer.weight, 0.0, 1.0)
        return net

    def data(self, config: Config) -> Splits:
        x, y = samples.waves(config.seed, rows=700, steps=40)
        return samples.divided(x.transpose(0, 2, 1), y, config.seed).splits()


class OwnFilters(PositiveFilters):
    positive = False


class NeverBelowZero(Task):
    """Prices cannot be negative, so a ReLU stands behind the last layer; its bias starts low."""

    kind = "regression"
    squashed = True

    def model(self, config: Config) -> nn.Module:
        last = nn.Linear(24, 1)
        layers: list[nn.Module] = [nn.Linear(8, 24), nn.Tanh(), last]
        if self.squashed:
            nn.init.constant_(last.bias, -8.0)
            layers.append(nn.ReLU())
        return nn.Sequential(*layers)

    def data(self, config: Config) -> Splits:
        x, y = samples.curved(config.seed)
        return samples.divided(x, (y + 3)[:, None], config.seed).splits()


class AnyPrice(NeverBelowZero):
    squashed = False


class DarkFilters(Task):
    """Filters with a threshold that no picture reaches, beside a norm."""

    threshold = -30.0

    def model(self, config: Config) -> nn.Module:
        net = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(96, 10),
        )  # fmt: skip
        if self.threshold:
            nn.init.constant_(net[0].bias, self.threshold)
        return net

    def data(self, config: Config) -> Splits:
        return samples.digits(config.seed, image=True).splits()


class LitFilters(DarkFilters):
    threshold = 0.0


class RawReadings(Task):
    """Readings of several instruments in units of their own, none of them scaled."""

    scaled = False
    activation: type[nn.Module] = nn.Tanh

    def model(self, config: Config) -> nn.Module:
        width = config.model["width"]
        return nn.Sequential(
            nn.Linear(10, width), self.activation(), nn.Linear(width, width), self.activation(),
            nn.Linear(width, 3),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = samples.table(config.seed, rows=900, columns=10)
        units = np.array([1e4, 3e3, 1.0, 5e4, 20.0, 1e3, 0.1, 8e4, 2e4, 300.0])
        parts = samples.divided((x + 6) * units, y, config.seed)
        return (parts.standardised() if self.scaled else parts).splits()


class ScaledReadings(RawReadings):
    scaled = True


class RawSigmoid(RawReadings):
    activation = nn.Sigmoid


class ScaledSigmoid(ScaledReadings):
    activation = nn.Sigmoid


class RawShares(Task):
    """A share from raw columns, by a sigmoid: it starts at 0 or 1, where it has no slope."""

    kind = "regression"
    scaled = False

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 1), nn.Sigmoid())

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x = draw.normal(size=(900, 6))
        y = 1 / (1 + np.exp(-x[:, :3].sum(1))) + 0.03 * draw.normal(size=900)
        units = np.array([5e4, 2e5, 1e5, 3e5, 1e4, 50.0])
        parts = samples.divided((x + 5) * units, y[:, None], config.seed)
        return (parts.standardised() if self.scaled else parts).splits()


class ScaledShares(RawShares):
    scaled = True


class RateOfPictures(Task):
    """Pictures by filters and ReLU, at any rate."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(216, 48), nn.ReLU(), nn.Linear(48, 4),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = samples.shapes(config.seed, rows=1200, noise=0.1)
        return samples.divided(x, y, config.seed).splits()


class Deep(Task):
    """Rings through ReLU layers, which a momentum throws away late."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Linear(6, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 48),
            nn.ReLU(), nn.Linear(48, 3),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = samples.rings(config.seed, rows=1500)
        return samples.divided(x, y, config.seed).splits()


class Undecided(nn.Module):
    """Sigmoid gates that training opens and shuts: saturated, and right."""

    def __init__(self) -> None:
        super().__init__()
        self.sums, self.gates, self.head = nn.Linear(64, 48), nn.Linear(64, 48), nn.Linear(48, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(torch.sigmoid(6 * self.gates(pixels)) * self.sums(pixels))


class SureGates(Dense):
    def model(self, config: Config) -> nn.Module:
        return Undecided()


CASES = [
    Case(
        id="digits_positive_tanh", label="bad_init", build=PositiveTanh,
        config=settings(model={"width": 48}, epochs=10, optimizer="sgd", learning_rate=0.05),
        twin=Dense, verify=worse(0.08), notes="weights from 0 to 0.6 before tanh",
    ),
    Case(
        id="digits_wide_sigmoid", label="bad_init", build=WideSigmoid,
        config=settings(model={"width": 48}, epochs=8, learning_rate=0.001),
        twin=PlainSigmoid, twin_config=patch(training={"learning_rate": 0.005}),
        verify=worse(0.04), notes="weights of deviation 4 before sigmoids",
    ),
    Case(
        id="waves_positive_filters", label="bad_init", build=PositiveFilters,
        config=settings(epochs=8, optimizer="sgd", learning_rate=0.05), twin=OwnFilters,
        twin_config=patch(training={"optimizer": "adam", "learning_rate": 0.005, "epochs": 15}),
        verify=worse(0.15), notes="filters of five weights, all of them positive",
    ),
    Case(
        id="prices_never_below_zero", label="dead_relu", build=NeverBelowZero,
        config=settings(epochs=12), twin=AnyPrice, verify=worse(0.3),
        notes="a ReLU on the output that starts below zero for all rows",
    ),
    Case(
        id="digits_dark_filters", label="dead_relu", build=DarkFilters,
        config=settings(epochs=6), twin=LitFilters, verify=worse(0.3),
        notes="biases of -30 in the first convolution",
    ),
    Case(
        id="readings_raw_tanh", label="unnormalized_data", build=RawReadings,
        config=settings(model={"width": 24}, epochs=10), twin=ScaledReadings, verify=worse(0.1),
        notes="raw units of up to 100,000 into tanh: its slope is exactly 0",
    ),
    Case(
        id="readings_raw_sigmoid", label="unnormalized_data", build=RawSigmoid,
        config=settings(model={"width": 16}, epochs=10, learning_rate=0.01), twin=ScaledSigmoid,
        verify=worse(0.1), notes="raw units into sigmoids",
    ),
    Case(
        id="shares_from_raw", label="unnormalized_data", build=RawShares,
        config=settings(epochs=10), twin=ScaledShares, verify=worse(0.3),
        notes="raw units, and a sigmoid on the output that is 0 or 1 from the start",
    ),
    Case(
        id="pictures_hot_momentum", label="unstable_training", build=RateOfPictures,
        config=settings(optimizer="sgd", learning_rate=0.1, momentum=0.9, epochs=14,
                        batch_size=16),
        twin_config=patch(training={"learning_rate": 0.02}),
        verify=both(last_worse(0.1), unsteady), notes="filters learn, and die",
    ),
    Case(
        id="rings_hot_momentum", label="unstable_training", build=Deep,
        config=settings(optimizer="sgd", learning_rate=0.15, momentum=0.95, epochs=14,
                        batch_size=16),
        twin_config=patch(training={"learning_rate": 0.02, "momentum": 0.9}),
        verify=both(last_worse(0.1), unsteady), notes="units learn, and die",
    ),
    Case(
        id="rings_hot_sgd", label="unstable_training", build=Deep,
        config=settings(optimizer="sgd", learning_rate=0.22, momentum=0.9, epochs=14,
                        batch_size=16),
        twin_config=patch(training={"learning_rate": 0.02}),
        verify=both(last_worse(0.1), unsteady), notes="a momentum of 0.9 at 0.22",
    ),
    Case(
        id="digits_hot_tanh", label="unstable_training", build=Dense,
        config=settings(model={"width": 48}, optimizer="sgd", learning_rate=8.0, momentum=0.9,
                        epochs=8),
        twin_config=patch(training={"learning_rate": 0.05}), verify=last_worse(0.1),
        notes="sgd at 8 drives tanh units into the flat",
    ),
    Case(
        id="ok_sure_gates", label=HEALTHY, build=SureGates, verify=reaches(0.93),
        config=settings(epochs=15), notes="gates that are saturated, in a model that does well",
    ),
    Case(
        id="ok_warm_pictures", label=HEALTHY, build=RateOfPictures, verify=reaches(0.93),
        config=settings(learning_rate=0.01, warmup_steps=60, scheduler="cosine", epochs=14),
        notes="up to 0.01 after a warm-up",
    ),
    Case(
        id="ok_deep_momentum", label=HEALTHY, build=Deep, verify=reaches(0.85),
        config=settings(optimizer="sgd", learning_rate=0.03, momentum=0.9, epochs=25,
                        clip_norm=1.0, weight_decay=0.001),
        notes="momentum with clipped gradients",
    ),
]  # fmt: skip
