"""Units that are dead or flat."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task

from .. import samples, scenes
from ..cases import Case, settings, worse


class PriorEverywhere(Task):
    """The bias that a detector's last layer starts with, given to every layer."""

    everywhere = True

    def model(self, config: Config) -> nn.Module:
        net = nn.Sequential(
            nn.Conv2d(1, 12, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(12, 24, 3), nn.ReLU(),
            nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(96, 32), nn.ReLU(), nn.Linear(32, 4),
        )  # fmt: skip
        for layer in net if self.everywhere else net[-1:]:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.constant_(layer.bias, -4.6)
        return net

    def data(self, config: Config) -> Splits:
        return samples.divided(*samples.shapes(config.seed), config.seed).splits()


class PriorAtTheEnd(PriorEverywhere):
    everywhere = False


class KilledBySteps(Task):
    """Steps of Adam that are far too large for a narrow net of ReLUs."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        sizes, layers = [8, 24, 24, 24], []
        for inside, outside in pairwise(sizes):
            layers += [nn.Linear(inside, outside), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(24, 1))

    def data(self, config: Config) -> Splits:
        return samples.divided(*samples.curved(config.seed), config.seed).splits()


class SummedWords(nn.Module):
    """An embedding bag that sums two hundred words, into a tanh."""

    mode = "sum"

    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(120, 24, mode=self.mode)
        self.hidden, self.head = nn.Linear(24, 24), nn.Linear(24, 4)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(torch.tanh(self.hidden(torch.tanh(self.bag(words)))))


class AveragedWords(SummedWords):
    mode = "mean"


class LongTexts(Task):
    net: type[nn.Module] = SummedWords

    def model(self, config: Config) -> nn.Module:
        return self.net()

    def data(self, config: Config) -> Splits:
        x, y = samples.texts(config.seed, rows=700, length=200, topical=0.1)
        return samples.divided(x, y, config.seed).splits()


class LongTextsRight(LongTexts):
    net = AveragedWords


class SteepCode(nn.Module):
    """A code meant to be nearly binary: sigmoids forty times as steep."""

    slope = 40.0

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(12, 24), nn.Tanh(), nn.Linear(24, 16))
        self.head = nn.Sequential(nn.Linear(16, 24), nn.Tanh(), nn.Linear(24, 2))

    def forward(self, pair: Tensor) -> Tensor:
        left, right = (torch.sigmoid(self.slope * self.encode(pair[:, side])) for side in (0, 1))
        return self.head((left - right).abs())


class GentleCode(SteepCode):
    slope = 2.0


class PairsCoded(Task):
    net: type[nn.Module] = SteepCode

    def model(self, config: Config) -> nn.Module:
        return self.net()

    def data(self, config: Config) -> Splits:
        return samples.divided(*scenes.pairs(config.seed, noise=0.5), config.seed).splits()


class PairsCodedRight(PairsCoded):
    net = GentleCode


CASES = [
    Case(
        id="shapes_prior_everywhere", label="dead_relu", build=PriorEverywhere,
        config=settings(epochs=8), twin=PriorAtTheEnd, verify=worse(0.3),
        notes="biases of -4.6 in hidden layers",
    ),
    Case(
        id="curve_killed_by_steps", label="dead_relu", build=KilledBySteps,
        config=settings(epochs=12, learning_rate=0.5),
        twin_config={"training": {"learning_rate": 0.005}}, verify=worse(0.3),
        notes="adam at 0.5",
    ),
    Case(
        id="texts_summed_words", label="saturation", build=LongTexts,
        config=settings(epochs=12), twin=LongTextsRight, verify=worse(0.1),
        notes="a sum of two hundred embeddings",
    ),
    Case(
        id="pairs_steep_code", label="saturation", build=PairsCoded,
        config=settings(epochs=30), twin=PairsCodedRight, verify=worse(0.04),
        notes="sigmoids of slope forty",
    ),
]  # fmt: skip
