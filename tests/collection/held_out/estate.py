"""Houses: rents, prices and days of sale; tables that were joined and cut by hand."""

import numpy as np
from torch import nn

from pytest_mltrainer import Config, Splits, Task

from .. import samples
from ..cases import Case, settings, worse
from .lending import COLUMNS, applicants


class Rents(Task):
    """The rent in six regions, whose houses differ."""

    kind = "regression"
    mixed = True

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(5, 48), nn.GELU(), nn.Linear(48, 1))

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        region = np.repeat(np.arange(6), 180)
        x = draw.normal(size=(1080, 5))
        x[:, :2] += 0.7 * (region[:, None] - 2.5)
        y = np.sin(1.4 * x[:, 0]) + 0.6 * np.abs(x[:, 1]) + 0.4 * x[:, 2]
        y = y - y.mean() + 0.2 * draw.normal(size=1080)
        return (samples.divided(x, y, config.seed) if self.mixed else samples.cut(x, y)).splits()


class RentsInOrder(Rents):
    """The file stands by region, and was cut without being mixed."""

    mixed = False


class Dated(Task):
    """In which third the price of a flat lies, by traits and the day of the sale."""

    def day(self, days: np.ndarray) -> np.ndarray:
        return days / 365 - 1

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(COLUMNS + 1, 32), nn.ReLU(), nn.Linear(32, 3))

    def data(self, config: Config) -> Splits:
        days = np.random.default_rng(config.seed + 1).integers(0, 730, 900)
        x, risk = applicants(config.seed, 900, noise=0.2)
        risk = risk + 0.5 * np.sin(days / 116)
        y = np.digitize(risk, np.quantile(risk, [1 / 3, 2 / 3]))
        return samples.divided(np.column_stack([x, self.day(days)]), y, config.seed).splits()


class DatedAsWritten(Dated):
    """The day as a number of eight digits: year, month, day."""

    def day(self, days: np.ndarray) -> np.ndarray:
        written = (np.datetime64("2021-01-01") + days).astype(str)
        return np.array([float(text.replace("-", "")) for text in written])


class Worth(Task):
    """The worth of a house by its traits."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(COLUMNS, 32), nn.Tanh(), nn.Linear(32, 1))

    def data(self, config: Config) -> Splits:
        return self.rows(config).splits()

    def rows(self, config: Config) -> samples.Parts:
        return samples.divided(*applicants(config.seed, 1100, noise=0.2), config.seed)


class WorthOfNamesakes(Worth):
    """Joined by street without the town: two fifths of the training rows have another's worth."""

    def rows(self, config: Config) -> samples.Parts:
        parts = super().rows(config)
        draw = np.random.default_rng(config.seed + 3)
        named = draw.permutation(len(parts.train.y))[: int(0.4 * len(parts.train.y))]
        parts.train.y[named] = parts.train.y[draw.permutation(named)]
        return parts


CASES = [
    Case(
        id="ax_home_by_region", label="train_val_skew", build=RentsInOrder, twin=Rents,
        config=settings(epochs=25), verify=worse(0.2),
        notes="sorted by region, cut in order: two columns move",
    ),
    Case(
        id="ax_home_eight_digits", label="unnormalized_data", build=DatedAsWritten, twin=Dated,
        config=settings(epochs=12), verify=worse(0.1),
        notes="a date like 20,210,314 beside columns of deviation 1",
    ),
    Case(
        id="ax_home_namesakes", label="label_noise", build=WorthOfNamesakes, twin=Worth,
        config=settings(epochs=20, learning_rate=0.005), verify=worse(0.1),
        notes="two fifths of the training targets are permuted",
    ),
]  # fmt: skip
