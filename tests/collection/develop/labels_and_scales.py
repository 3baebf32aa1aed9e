"""Wrong labels, rare classes, raw scales."""

import numpy as np
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task

from .. import samples, scenes
from ..cases import Case, last_worse, patch, settings, worse


class MixedUpTopics(Task):
    """Four of ten training texts carry a label drawn at random."""

    share = 0.4

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.EmbeddingBag(120, 32), nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 4)
        )

    def data(self, config: Config) -> Splits:
        parts = samples.divided(*samples.texts(config.seed, rows=900), config.seed)
        draw = np.random.default_rng(config.seed)
        wrong = draw.random(len(parts.train.y)) < self.share
        parts.train.y[wrong] = draw.integers(0, 4, wrong.sum())
        return parts.splits()


class CleanTopics(MixedUpTopics):
    share = 0.0


class SlippedJoin(Task):
    """Half of the training rows got the target of the row after them."""

    kind = "regression"
    slipped = True

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1)
        )

    def data(self, config: Config) -> Splits:
        parts = samples.divided(*samples.straight(config.seed, noise=0.3), config.seed)
        if self.slipped:
            half = len(parts.train.y) // 2
            parts.train.y[:half] = np.roll(parts.train.y, -1)[:half]
        return parts.splits()


class StraightJoin(SlippedJoin):
    slipped = False


class MergedDigits(Task):
    """One annotator called most of the threes eights and most of the sevens ones."""

    merged = True

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Flatten(),
            nn.Linear(256, 10),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        parts = samples.digits(config.seed, image=True)
        labels = parts.train.y.copy()
        draw = np.random.default_rng(config.seed).random(len(labels))
        if self.merged:
            for own, other, share in ((3, 8, 0.7), (7, 1, 0.7), (4, 9, 0.5)):
                labels[(labels == own) & (draw < share)] = other
        train = samples.Rows(parts.train.x, labels)
        return samples.Parts(train, parts.validation, parts.test).splits()


class ToldApart(MergedDigits):
    merged = False


class RareFraud(Task):
    """One row in thirty is a fraud, in part like the others."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(8, 24), nn.Tanh(), nn.Linear(24, 2))

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        y = (draw.random(2000) < 0.035).astype(int)
        x = draw.normal(size=(2000, 8))
        x[:, :3] += 0.75 * y[:, None]
        return samples.divided(x, y, config.seed).splits()


class RareTopic(Task):
    """One topic is a text in thirty, and shares most words with the others."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.EmbeddingBag(120, 24), nn.Linear(24, 4))

    def data(self, config: Config) -> Splits:
        x, y = samples.texts(config.seed, rows=2600, topical=0.2)
        kept = (y != 3) | (np.random.default_rng(config.seed).random(len(y)) < 0.1)
        return samples.divided(x[kept], y[kept], config.seed).splits()


class RawHouses(Task):
    """Areas, years and incomes as they are."""

    kind = "regression"
    raw = True

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Linear(6, 48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, 1)
        )

    def data(self, config: Config) -> Splits:
        parts = samples.divided(*scenes.houses(config.seed), config.seed).targets_standardised()
        return (parts if self.raw else parts.standardised()).splits()


class ReadyHouses(RawHouses):
    raw = False


class RawPressure(Task):
    """Air pressure in hectopascal and counts in thousands, into an LSTM."""

    raw = True

    def model(self, config: Config) -> nn.Module:
        return PressureReader()

    def data(self, config: Config) -> Splits:
        x, y = scenes.sensors(config.seed, noise=0.4)
        x = x * np.array([8.0, 900.0, 60.0])[:, None] + np.array([1010.0, 4000.0, 300.0])[:, None]
        parts = samples.divided(x, y, config.seed)
        if self.raw:
            return parts.splits()
        mean = parts.train.x.mean((0, 2), keepdims=True)[0]
        std = parts.train.x.std((0, 2), keepdims=True)[0]
        return parts.each(lambda x, y: ((x - mean) / std, y)).splits()


class PressureReader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 32, batch_first=True)
        self.head = nn.Linear(32, 3)

    def forward(self, series: Tensor) -> Tensor:
        return self.head(self.lstm(series.transpose(1, 2))[0][:, -1])


class ReadyPressure(RawPressure):
    raw = False


CASES = [
    Case(
        id="topics_mixed_up", label="label_noise", build=MixedUpTopics,
        config=settings(epochs=25), twin=CleanTopics, verify=last_worse(0.05),
        notes="labels at random in training",
    ),
    Case(
        id="line_slipped_join", label="label_noise", build=SlippedJoin,
        config=settings(epochs=25), twin=StraightJoin, verify=worse(0.1),
        notes="targets of the next row",
    ),
    Case(
        id="digits_merged", label="label_noise", build=MergedDigits, config=settings(epochs=8),
        twin=ToldApart, verify=worse(0.05), notes="classes merged by an annotator",
    ),
    Case(
        id="table_rare_fraud", label="class_imbalance", build=RareFraud,
        config=settings(epochs=15, metric="balanced_accuracy"),
        twin_config=patch(training={"class_weights": "balanced"}), verify=worse(0.1),
        notes="one in thirty, overlapping",
    ),
    Case(
        id="texts_rare_topic", label="class_imbalance", build=RareTopic,
        config=settings(epochs=10, metric="balanced_accuracy"),
        twin_config=patch(training={"class_weights": "balanced"}), verify=worse(0.04),
        notes="one text in thirty",
    ),
    Case(
        id="houses_raw", label="unnormalized_data", build=RawHouses,
        config=settings(epochs=15, learning_rate=0.001), twin=ReadyHouses, verify=worse(0.1),
        notes="columns from 1 to 100,000",
    ),
    Case(
        id="sensors_raw_pressure", label="unnormalized_data", build=RawPressure,
        config=settings(epochs=12, learning_rate=0.01), twin=ReadyPressure, verify=worse(0.15),
        notes="thousands into an LSTM",
    ),
]  # fmt: skip
