"""Loops that forget to clear, axes that are confused."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pytest_mltrainer import Config, Splits, Task
from pytest_mltrainer.training.session import TrainingSession

from .. import samples, scenes
from ..cases import Case, last_worse, settings, worse


class RegionsNeverCleared(Task):
    """A loop without `zero_grad`, for labels of pixels under SGD."""

    kind = "sequence"
    clears = False

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 5, padding=2), nn.ReLU(),
            nn.Conv2d(12, 3, 1), nn.Flatten(2),
        )  # fmt: skip

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        return model(inputs).transpose(1, 2)

    def data(self, config: Config) -> Splits:
        return samples.divided(*scenes.regions(config.seed), config.seed).splits()

    def train(self, session: TrainingSession) -> None:
        for epoch in session.epochs():
            for inputs, targets in session.batches():
                if self.clears:
                    session.optimizer.zero_grad()
                session.loss(inputs, targets).backward()
                nn.utils.clip_grad_norm_(session.model.parameters(), 5.0)
                session.optimizer.step()
            session.finish_epoch(epoch)


class RegionsCleared(RegionsNeverCleared):
    clears = True


class CurveHalfAccumulated(Task):
    """`step` after each batch, `zero_grad` once in eight: an accumulation half removed."""

    kind = "regression"
    every = 8

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(8, 64), nn.SiLU(), nn.Linear(64, 1))

    def data(self, config: Config) -> Splits:
        return samples.divided(*samples.curved(config.seed), config.seed).splits()

    def train(self, session: TrainingSession) -> None:
        for epoch in session.epochs():
            for number, (inputs, targets) in enumerate(session.batches()):
                session.loss(inputs, targets).backward()
                session.optimizer.step()
                if (number + 1) % self.every == 0:
                    session.optimizer.zero_grad()
            session.optimizer.zero_grad()
            session.finish_epoch(epoch)


class CurveEach(CurveHalfAccumulated):
    every = 1


class TimeFirst(nn.Module):
    """An encoder layer of torch with its default axes, for texts with the batch first."""

    batch_first = False

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(12, 32)
        self.place = nn.Parameter(0.5 * torch.randn(14, 32))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(32, 2, 64, dropout=0.0, batch_first=self.batch_first)
            for _ in range(2)
        )
        self.head = nn.Linear(32, 4)

    def forward(self, words: Tensor) -> Tensor:
        hidden = self.embed(words) + self.place
        for layer in self.layers:
            hidden = layer(hidden)
        return self.head(hidden)


class BatchFirst(TimeFirst):
    batch_first = True


class TagsEncoded(Task):
    kind = "sequence"
    net: type[nn.Module] = TimeFirst

    def model(self, config: Config) -> nn.Module:
        return self.net()

    def data(self, config: Config) -> Splits:
        return samples.divided(*samples.tagged(config.seed, rows=900), config.seed).splits()


class TagsEncodedRight(TagsEncoded):
    net = BatchFirst


class PooledByAttention(nn.Module):
    """Weights of the words by a softmax over axis 0, which is the batch."""

    axis = 0

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(120, 16)
        self.weigh = nn.Linear(16, 1)
        self.head = nn.Linear(16, 4)

    def forward(self, words: Tensor) -> Tensor:
        hidden = self.embed(words)
        weights = functional.softmax(4 * self.weigh(hidden), dim=self.axis)
        return self.head((weights * hidden).sum(1))


class PooledByWords(PooledByAttention):
    axis = 1


class TopicsPooled(Task):
    net: type[nn.Module] = PooledByAttention

    def model(self, config: Config) -> nn.Module:
        return self.net()

    def data(self, config: Config) -> Splits:
        return samples.divided(*samples.texts(config.seed, rows=700), config.seed).splits()


class TopicsPooledRight(TopicsPooled):
    net = PooledByWords


class HomeMadeNorm(nn.Module):
    """Standardises by the mean and deviation of whatever batch comes, in both modes."""

    axis = 0

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(10, 32), nn.Linear(32, 32), nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.first, self.second):
            x = layer(x)
            x = x - x.mean(self.axis, keepdim=True)
            size = x.pow(2).mean(self.axis, keepdim=True).sqrt()
            x = functional.silu(x / (size + 1e-5))
        return self.head(x)


class NormOfRow(HomeMadeNorm):
    axis = 1


class LineNormed(Task):
    """Small batches: their statistics are noise."""

    kind = "regression"
    net: type[nn.Module] = HomeMadeNorm

    def model(self, config: Config) -> nn.Module:
        return self.net()

    def data(self, config: Config) -> Splits:
        return samples.divided(*samples.straight(config.seed, noise=0.1), config.seed).splits()


class LineNormedRight(LineNormed):
    net = NormOfRow


CASES = [
    Case(
        id="regions_never_cleared", label="missing_zero_grad", build=RegionsNeverCleared,
        config=settings(epochs=10, batch_size=16, optimizer="sgd", learning_rate=0.1),
        twin=RegionsCleared, verify=last_worse(0.04), notes="no zero_grad at all",
    ),
    Case(
        id="curve_half_accumulated", label="missing_zero_grad", build=CurveHalfAccumulated,
        config=settings(epochs=14, batch_size=16, optimizer="sgd", learning_rate=0.02),
        twin=CurveEach,
        verify=last_worse(0.1), notes="step after each batch, zero_grad after eight",
    ),
    Case(
        id="tags_time_first", label="batch_mixing", build=TagsEncoded,
        config=settings(epochs=25), twin=TagsEncodedRight, verify=worse(0.1),
        notes="an encoder layer without batch_first",
    ),
    Case(
        id="topics_softmax_axis", label="batch_mixing", build=TopicsPooled,
        config=settings(epochs=12, learning_rate=0.01), twin=TopicsPooledRight,
        verify=worse(0.03), notes="softmax over the batch",
    ),
    Case(
        id="line_home_made_norm", label="batch_mixing", build=LineNormed,
        config=settings(epochs=15, batch_size=4), twin=LineNormedRight, verify=worse(0.015),
        notes="sizes of the batch in both modes",
    ),
]  # fmt: skip
