"""Numbers that are none, in the data or on the way."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pytest_mltrainer import Config, Splits, Task

from .. import samples, scenes
from ..cases import Case, broken, settings


class LogOfNothing(Task):
    """The logarithm of a distance that is 0 for some houses."""

    kind = "regression"
    shifted = False

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Linear(6, 32), nn.LeakyReLU(), nn.Linear(32, 16), nn.LeakyReLU(), nn.Linear(16, 1)
        )

    def data(self, config: Config) -> Splits:
        x, y = scenes.houses(config.seed)
        x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
        distance = np.random.default_rng(config.seed).integers(0, 60, len(y))
        with np.errstate(divide="ignore"):
            x[:, 4] = np.log(distance + 1) if self.shifted else np.log(distance)
        return samples.divided(x, y, config.seed).splits()


class LogOfMore(LogOfNothing):
    shifted = True


class DeadChannel(Task):
    """Each series standardised by itself; a channel that was off has deviation 0."""

    small = 0.0

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv1d(3, 16, 5), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(16, 16, 5), nn.ReLU(),
            nn.AdaptiveAvgPool1d(4), nn.Flatten(), nn.Linear(64, 3),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = scenes.sensors(config.seed)
        x[::83, 2] = 1.5
        with np.errstate(invalid="ignore"):
            x = (x - x.mean(2, keepdims=True)) / (x.std(2, keepdims=True) + self.small)
        return samples.divided(x, y, config.seed).splits()


class GuardedChannel(DeadChannel):
    small = 1e-6


class UnratedFilms(Task):
    """Ratings that nobody gave are NaN in the targets."""

    kind = "regression"
    dropped = False

    def model(self, config: Config) -> nn.Module:
        return Tastes()

    def data(self, config: Config) -> Splits:
        x, y = scenes.ratings(config.seed)
        given = np.random.default_rng(config.seed).random(len(y)) > 0.02
        if self.dropped:
            x, y = x[given], y[given]
        else:
            y = np.where(given, y, np.nan)
        return samples.divided(x, y, config.seed).splits()


class RatedFilms(UnratedFilms):
    dropped = True


class Tastes(nn.Module):
    """The product of a user's and a film's vector."""

    def __init__(self, size: int = 4) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(60, size), nn.Embedding(50, size)
        self.mean = nn.Parameter(torch.zeros(1))
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=0.5)

    def forward(self, ids: Tensor) -> Tensor:
        return self.mean + (self.users(ids[:, 0]) * self.items(ids[:, 1])).sum(1)


class DistanceOfTwins(nn.Module):
    """A distance by a square root, whose slope at 0 is infinite: some pairs are one row twice."""

    small = 0.0

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Linear(12, 32), nn.Tanh(), nn.Linear(32, 12))
        self.score = nn.Linear(1, 2)

    def forward(self, pair: Tensor) -> Tensor:
        left, right = self.tower(pair[:, 0]), self.tower(pair[:, 1])
        return self.score(((left - right).pow(2).sum(1, keepdim=True) + self.small).sqrt())


class GuardedDistance(DistanceOfTwins):
    small = 1e-6


class Pairs(Task):
    net: type[nn.Module] = DistanceOfTwins

    def model(self, config: Config) -> nn.Module:
        return self.net()

    def data(self, config: Config) -> Splits:
        x, y = scenes.pairs(config.seed)
        x[200::101, 1] = x[200::101, 0]
        y[200::101] = 1
        return samples.divided(x, y, config.seed).splits()


class PairsGuarded(Pairs):
    net = GuardedDistance


class AllPadding(nn.Module):
    """Attention over words, padding set to minus infinity: an empty text has nothing left."""

    least = -torch.inf

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(120, 24, padding_idx=0)
        self.query = nn.Linear(24, 1)
        self.head = nn.Sequential(nn.Linear(24, 32), nn.GELU(), nn.Linear(32, 4))

    def forward(self, words: Tensor) -> Tensor:
        hidden = self.embed(words)
        scores = self.query(hidden).squeeze(-1).masked_fill(words == 0, self.least)
        return self.head((scores.softmax(-1).unsqueeze(-1) * hidden).sum(1))


class SomePadding(AllPadding):
    least = -1e4


class ShortTexts(Task):
    net: type[nn.Module] = AllPadding

    def model(self, config: Config) -> nn.Module:
        return self.net()

    def data(self, config: Config) -> Splits:
        x, y = samples.texts(config.seed, rows=700)
        lengths = np.random.default_rng(config.seed).integers(4, 17, len(y))
        lengths[5::150] = 0
        x = np.where(np.arange(16) < lengths[:, None], x, 0)
        return samples.divided(x, y, config.seed).splits()


class ShortTextsRight(ShortTexts):
    net = SomePadding


class EntropyByHand(Task):
    """`y * log(p) + (1 - y) * log(1 - p)` on a sigmoid that comes to be exactly 1."""

    kind = "multilabel"
    by_hand = True

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(12, 64), nn.ReLU(), nn.Linear(64, 3))

    def data(self, config: Config) -> Splits:
        x, y = samples.table(config.seed, apart=2.0)
        return samples.divided(x, np.eye(3, dtype=np.float32)[y], config.seed).splits()

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        if not self.by_hand:
            return functional.binary_cross_entropy_with_logits(outputs, targets)
        p = outputs.sigmoid()
        return -(targets * p.log() + (1 - targets) * (1 - p).log()).mean()


class EntropyOfLogits(EntropyByHand):
    by_hand = False


CASES = [
    Case(
        id="houses_log_of_zero", label="bad_input_values", build=LogOfNothing,
        config=settings(epochs=12), twin=LogOfMore, verify=broken, notes="minus infinity",
    ),
    Case(
        id="sensors_dead_channel", label="bad_input_values", build=DeadChannel,
        config=settings(epochs=10), twin=GuardedChannel, verify=broken, notes="0 / 0",
    ),
    Case(
        id="films_unrated", label="bad_input_values", build=UnratedFilms,
        config=settings(epochs=25, learning_rate=0.01, weight_decay=0.0003), twin=RatedFilms,
        verify=broken,
        notes="NaN among the targets",
    ),
    Case(
        id="pairs_root_of_zero", label="nan_loss", build=Pairs, config=settings(epochs=10),
        twin=PairsGuarded, verify=broken, notes="the slope of a root at 0",
    ),
    Case(
        id="texts_all_padding", label="nan_loss", build=ShortTexts,
        config=settings(epochs=10, optimizer="adamw"), twin=ShortTextsRight, verify=broken,
        notes="softmax of a row that is all masked",
    ),
    Case(
        id="labels_entropy_by_hand", label="nan_loss", build=EntropyByHand,
        config=settings(epochs=12, learning_rate=0.03), twin=EntropyOfLogits, verify=broken,
        notes="the logarithm of 0",
    ),
]  # fmt: skip
