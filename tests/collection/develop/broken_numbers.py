"""Not finite, by the data or by arithmetic."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task

from .. import samples
from ..cases import Case, broken, settings


class LogReturns(Task):
    """Hourly counts as logarithms; nights have counts of zero."""

    kind = "regression"
    offset = 0.0

    def model(self, config: Config) -> nn.Module:
        return Forecast(config.model["hidden"])

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        rate = np.exp(1.5 + draw.normal(size=(500, 1)))
        counts = draw.poisson(rate, size=(500, 21)).astype(np.float64)
        with np.errstate(divide="ignore"):
            logs = np.log(counts + self.offset)
        return samples.divided(logs[:, :20, None], np.log1p(counts[:, 20]), config.seed).splits()


class Forecast(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.rnn = nn.GRU(1, hidden, batch_first=True)
        self.out = nn.Linear(hidden, 1)

    def forward(self, series: Tensor) -> Tensor:
        return self.out(self.rnn(series)[0][:, -1])


class LogReturnsOffset(LogReturns):
    offset = 1.0


class UnknownTargets(Task):
    """A few patients have no follow-up value: the target is NaN."""

    kind = "regression"
    drops = False

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(10, 24), nn.Tanh(), nn.Linear(24, 1))

    def data(self, config: Config) -> Splits:
        x, y = samples.load("diabetes")
        x, y = (x - x.mean(0)) / x.std(0), ((y - y.mean()) / y.std()).copy()
        lost = np.random.default_rng(config.seed).random(len(y)) < 0.03
        y[lost] = math.nan
        if self.drops:
            x, y = x[~lost], y[~lost]
        parts = samples.divided(x, y, config.seed)
        known = ~np.isnan(parts.validation.y)
        validation = samples.Rows(parts.validation.x[known], parts.validation.y[known])
        return samples.Parts(parts.train, validation, parts.test).splits()


class KnownTargets(UnknownTargets):
    drops = True


class MaskedAttention(nn.Module):
    """Attention pooling over words; padding gets -inf, and an empty text is all padding."""

    def __init__(self, *, safe: bool) -> None:
        super().__init__()
        self.lowest = -1e9 if safe else -math.inf
        self.embed = nn.Embedding(120, 24, padding_idx=0)
        self.score, self.head = nn.Linear(24, 1), nn.Linear(24, 4)

    def forward(self, words: Tensor) -> Tensor:
        hidden = self.embed(words)
        scores = self.score(hidden).squeeze(-1).masked_fill(words == 0, self.lowest)
        return self.head((scores.softmax(1).unsqueeze(-1) * hidden).sum(1))


class Reviews(Task):
    safe = False

    def model(self, config: Config) -> nn.Module:
        return MaskedAttention(safe=self.safe)

    def data(self, config: Config) -> Splits:
        x, y = samples.texts(config.seed, rows=900, topical=0.4)
        draw = np.random.default_rng(config.seed)
        length = draw.integers(6, 17, len(x))
        length[draw.random(len(x)) < 0.004] = 0
        length[:2] = 0
        x = np.where(np.arange(16) < length[:, None], x, 0)
        return samples.divided(x, y, config.seed).splits()


class ReviewsSafe(Reviews):
    safe = True


class Uncertain(Task):
    """Predicts a mean and a deviation, which a ReLU keeps from being negative, not from 0."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return MeanAndDeviation(self.positive)

    def positive(self, raw: Tensor) -> Tensor:
        return torch.relu(raw)

    def data(self, config: Config) -> Splits:
        x, y = samples.curved(config.seed, rows=700)
        return samples.divided(x, y, config.seed).splits()

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        mean, self.deviation = model(inputs)
        return mean

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        error = (outputs - targets) / self.deviation
        return (0.5 * error**2 + torch.log(self.deviation)).mean()


class MeanAndDeviation(nn.Module):
    def __init__(self, positive: object) -> None:
        super().__init__()
        self.positive = positive
        self.body = nn.Sequential(nn.Linear(8, 48), nn.ReLU())
        self.mean, self.raw = nn.Linear(48, 1), nn.Linear(48, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.body(x)
        return self.mean(hidden).squeeze(1), self.positive(self.raw(hidden)).squeeze(1)


class UncertainSoftplus(Uncertain):
    def positive(self, raw: Tensor) -> Tensor:
        return nn.functional.softplus(raw) + 0.05


class UnitLength(nn.Module):
    """Features of length one, from layers without biases: a blank picture's have length 0."""

    def __init__(self, floor: float) -> None:
        super().__init__()
        self.floor = floor
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 3, stride=2, bias=False), nn.ReLU(),
            nn.Conv2d(6, 10, 3, bias=False), nn.ReLU(), nn.Flatten(),
            nn.Linear(90, 12, bias=False), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Linear(12, 4)

    def forward(self, pictures: Tensor) -> Tensor:
        found = self.features(pictures)
        length = torch.sqrt((found**2).sum(1, keepdim=True) + self.floor)
        return self.head(8 * found / length)


class Marks(Task):
    floor = 0.0

    def model(self, config: Config) -> nn.Module:
        return UnitLength(self.floor)

    def data(self, config: Config) -> Splits:
        x, y = samples.shapes(config.seed, rows=800)
        x[np.random.default_rng(config.seed).random(len(x)) < 0.02] = 0
        return samples.divided(x, y, config.seed).splits()


class MarksFloored(Marks):
    floor = 1e-6


CASES = [
    Case(
        id="counts_log_of_zero", label="bad_input_values", build=LogReturns,
        config=settings(model={"hidden": 16}, epochs=5), twin=LogReturnsOffset, verify=broken,
        notes="-inf in the inputs, from log(0)",
    ),
    Case(
        id="diabetes_unknown_targets", label="bad_input_values", build=UnknownTargets,
        config=settings(learning_rate=0.01), twin=KnownTargets, verify=broken,
        notes="NaN among the training targets",
    ),
    Case(
        id="reviews_empty_text", label="nan_loss", build=Reviews, config=settings(epochs=8),
        twin=ReviewsSafe, verify=broken, notes="softmax over -inf alone",
    ),
    Case(
        id="curve_zero_deviation", label="nan_loss", build=Uncertain, config=settings(epochs=10),
        twin=UncertainSoftplus, verify=broken, notes="log(0) and a division by a ReLU",
    ),
    Case(
        id="marks_unit_length", label="nan_loss", build=Marks, config=settings(epochs=10),
        twin=MarksFloored, verify=broken, notes="0 / 0 for blank pictures",
    ),
]  # fmt: skip
