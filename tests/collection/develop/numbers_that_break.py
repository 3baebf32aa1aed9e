"""Values that are not finite: in the data, or out of a formula."""

import numpy as np
import torch
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task

from .. import samples
from ..cases import Case, broken, settings


class Wine(Task):
    """Wine by its chemistry; some laboratories did not measure two of the columns."""

    def model(self, config: Config) -> nn.Module:
        width = config.model["width"]
        return nn.Sequential(nn.Linear(13, width), nn.ReLU(), nn.Linear(width, 3))

    def data(self, config: Config) -> Splits:
        x, y = samples.load("wine")
        x = ((x - x.mean(0)) / x.std(0)).copy()
        missing = np.random.default_rng(config.seed).random(len(x)) < 0.05
        x[missing, 4] = x[missing, 9] = self.filler()
        return samples.divided(x, y, config.seed).splits()

    def filler(self) -> float:
        return float("nan")


class WineImputed(Wine):
    def filler(self) -> float:
        return 0.0


class Scans(Task):
    """Pictures stretched to their own range; an empty scan has none, 0 / 0."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveMaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64, 4),
        )

    def data(self, config: Config) -> Splits:
        x, y = samples.shapes(config.seed, rows=600)
        x[np.random.default_rng(config.seed).random(len(x)) < 0.01] = 0
        low, high = x.min((1, 2, 3), keepdims=True), x.max((1, 2, 3), keepdims=True)
        with np.errstate(invalid="ignore"):
            return samples.divided(self.stretch(x, low, high), y, config.seed).splits()

    def stretch(self, x: samples.Array, low: samples.Array, high: samples.Array) -> samples.Array:
        return (x - low) / (high - low)


class ScansGuarded(Scans):
    def stretch(self, x: samples.Array, low: samples.Array, high: samples.Array) -> samples.Array:
        return (x - low) / np.maximum(high - low, 1e-6)


class Tumours(Task):
    """Breast cancer with cross entropy written out by hand: log(1 - p) of a p that rounds to 1."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(30, config.model["width"]), nn.ReLU(),
                             nn.Linear(config.model["width"], 2))  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = samples.load("breast_cancer")
        return samples.divided(x, y, config.seed).standardised().splits()

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        p = torch.sigmoid(outputs[:, 1] - outputs[:, 0])
        y = targets.float()
        return -(y * torch.log(p) + (1 - y) * torch.log(1 - p)).mean()


class TumoursStable(Tumours):
    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets)


CASES = [
    Case(
        id="wine_missing_measurements",
        label="bad_input_values",
        build=Wine,
        config=settings(model={"width": 32}),
        twin=WineImputed,
        verify=broken,
        notes="NaN in two columns of one row in twenty",
    ),
    Case(
        id="scans_empty_picture",
        label="bad_input_values",
        build=Scans,
        config=settings(epochs=6),
        twin=ScansGuarded,
        verify=broken,
        notes="pictures divided by their own range, which is 0 for empty ones",
    ),
    Case(
        id="tumours_log_of_zero",
        label="nan_loss",
        build=Tumours,
        config=settings(model={"width": 64}, learning_rate=0.02, epochs=20),
        twin=TumoursStable,
        verify=broken,
        notes="binary cross entropy by hand, without log-sigmoid",
    ),
]
