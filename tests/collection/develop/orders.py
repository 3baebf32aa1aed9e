"""Rows in a telling order."""

import numpy as np
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task

from .. import samples, scenes
from ..cases import Case, patch, settings, worse
from ..samples import Array


class FoldersInOrder(Task):
    """A folder for each class, read one after the other without shuffling; batch norm."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 12, 3), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3), nn.BatchNorm2d(24), nn.ReLU(), nn.AdaptiveMaxPool2d(1),
            nn.Flatten(), nn.Linear(24, 4),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        parts = samples.divided(*samples.shapes(config.seed), config.seed)
        return sorted_training(parts, by=parts.train.y).splits()


class SeriesInOrder(Task):
    """Sums in rising order, as a query with ORDER BY gave them."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return Summing()

    def data(self, config: Config) -> Splits:
        parts = samples.divided(*scenes.adding(config.seed, steps=8), config.seed)
        return sorted_training(parts, by=parts.train.y).splits()


class Summing(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(2, 32, batch_first=True)
        self.head = nn.Linear(32, 1)

    def forward(self, series: Tensor) -> Tensor:
        return self.head(self.gru(series)[0][:, -1])


class WavesInOrder(Task):
    """Recordings frequency by frequency: files were joined one after the other."""

    def model(self, config: Config) -> nn.Module:
        return Frequencies()

    def data(self, config: Config) -> Splits:
        parts = samples.divided(*samples.waves(config.seed, rows=800), config.seed)
        return sorted_training(parts, by=parts.train.y).splits()


class Frequencies(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 24, batch_first=True)
        self.head = nn.Linear(24, 3)

    def forward(self, series: Tensor) -> Tensor:
        return self.head(self.lstm(series)[0][:, -1])


def sorted_training(parts: samples.Parts, *, by: Array) -> samples.Parts:
    order = np.argsort(by, kind="stable")
    train = samples.Rows(parts.train.x[order], parts.train.y[order])
    return samples.Parts(train, parts.validation, parts.test)


IN_ORDER = {"shuffle": False}


SHUFFLED = patch(training={"shuffle": True})


CASES = [
    Case(
        id="shapes_folders_in_order", label="unshuffled_data", build=FoldersInOrder,
        config=settings(epochs=6, **IN_ORDER), twin_config=SHUFFLED, verify=worse(0.2),
        notes="class by class",
    ),
    Case(
        id="adding_in_order", label="unshuffled_data", build=SeriesInOrder,
        config=settings(epochs=12, learning_rate=0.005, **IN_ORDER), twin_config=SHUFFLED,
        verify=worse(0.1), notes="sorted by the target",
    ),
    Case(
        id="waves_in_order", label="unshuffled_data", build=WavesInOrder,
        config=settings(epochs=10, learning_rate=0.01, **IN_ORDER), twin_config=SHUFFLED,
        verify=worse(0.05), notes="one frequency after the other",
    ),
]  # fmt: skip
