"""Steps that are too long, too short, or gone too early."""

import torch
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task
from pytest_mltrainer.training.session import TrainingSession

from .. import samples, scenes
from ..cases import Case, both, patch, settings, unsteady, worse


class SmallEncoder(nn.Module):
    """One layer of a transformer over words, without a warm-up."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(120, 32)
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.head = nn.Linear(32, 4)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(words)).mean(1))


class TopicsEncoded(Task):
    def model(self, config: Config) -> nn.Module:
        return SmallEncoder()

    def data(self, config: Config) -> Splits:
        return samples.divided(*samples.texts(config.seed, rows=700), config.seed).splits()


class CountsByMomentum(Task):
    """Momentum 0.99 and a large rate."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 48), nn.Softplus(), nn.Linear(48, 1))

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        return nn.functional.softplus(model(inputs)).squeeze(1)

    def data(self, config: Config) -> Splits:
        return samples.divided(*scenes.counts(config.seed), config.seed).splits()


class WavesGated(Task):
    def model(self, config: Config) -> nn.Module:
        return Gated()

    def data(self, config: Config) -> Splits:
        return samples.divided(*samples.waves(config.seed, rows=700), config.seed).splits()


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(1, 32, num_layers=2, batch_first=True)
        self.head = nn.Linear(32, 3)

    def forward(self, series: Tensor) -> Tensor:
        return self.head(self.gru(series)[0].mean(1))


class Pictures(Task):
    """A small picture net with a residual block."""

    def model(self, config: Config) -> nn.Module:
        return PictureNet()

    def data(self, config: Config) -> Splits:
        return samples.divided(*samples.shapes(config.seed), config.seed).splits()


class PictureNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(1, 16, 3, padding=1)
        self.block = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16),
        )  # fmt: skip
        self.leave = nn.Sequential(nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(64, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.enter(x))
        return self.leave(torch.relu(x + self.block(x)))


class BagOfWords(Task):
    """An embedding bag at the rate that a pretrained transformer is tuned with."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.EmbeddingBag(120, 32), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4)
        )

    def data(self, config: Config) -> Splits:
        return samples.divided(*samples.texts(config.seed), config.seed).splits()


class ClippedAway(Task):
    """Gradients clipped to a norm of 0.0005 under SGD."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Linear(6, 48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, 1)
        )

    def data(self, config: Config) -> Splits:
        x, y = scenes.houses(config.seed)
        return samples.divided(x, y).standardised().targets_standardised().splits()


class DecayedByBatch(Task):
    """An exponential schedule meant for epochs is stepped behind each batch."""

    by_batch = True

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10))

    def data(self, config: Config) -> Splits:
        return samples.digits(config.seed).splits()

    def train(self, session: TrainingSession) -> None:
        schedule = torch.optim.lr_scheduler.ExponentialLR(session.optimizer, gamma=0.7)
        for epoch in session.epochs():
            for inputs, targets in session.batches():
                session.loss(inputs, targets).backward()
                session.update()
                if self.by_batch:
                    schedule.step()
            if not self.by_batch:
                schedule.step()
            session.finish_epoch(epoch)


class DecayedByEpoch(DecayedByBatch):
    by_batch = False


class AddingSlowly(Task):
    """A warm-up that is far longer than the training."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return Memory()

    def data(self, config: Config) -> Splits:
        return samples.divided(*scenes.adding(config.seed, steps=8), config.seed).splits()


class Memory(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(2, 32, batch_first=True)
        self.head = nn.Linear(32, 1)

    def forward(self, series: Tensor) -> Tensor:
        return self.head(self.gru(series)[0][:, -1])


class PairsStepped(Task):
    """A step schedule in epochs whose author thought of batches: a tenth after each epoch."""

    def model(self, config: Config) -> nn.Module:
        return PairNet()

    def data(self, config: Config) -> Splits:
        return samples.divided(*scenes.pairs(config.seed), config.seed).splits()


class PairNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 16))
        self.score = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))

    def forward(self, pair: Tensor) -> Tensor:
        left, right = self.tower(pair[:, 0]), self.tower(pair[:, 1])
        return self.score((left - right) ** 2)


def rate(value: float) -> dict[str, object]:
    return patch(training={"learning_rate": value})


CASES = [
    Case(
        id="topics_large_steps", label="unstable_training", build=TopicsEncoded,
        config=settings(epochs=12, learning_rate=0.3), twin_config=rate(0.001),
        verify=worse(0.05), notes="adam at 0.3 on a transformer",
    ),
    Case(
        id="counts_heavy_momentum", label="unstable_training", build=CountsByMomentum,
        config=settings(epochs=15, optimizer="sgd", momentum=0.99, learning_rate=0.008),
        twin_config=patch(training={"momentum": 0.9, "learning_rate": 0.005}),
        verify=both(worse(0.05), unsteady), notes="momentum 0.99",
    ),
    Case(
        id="waves_large_steps", label="unstable_training", build=WavesGated,
        config=settings(epochs=10, learning_rate=0.5, batch_size=16), twin_config=rate(0.003),
        verify=worse(0.1), notes="adam at 0.5 on a GRU",
    ),
    Case(
        id="shapes_tiny_rate", label="lr_too_low", build=Pictures,
        config=settings(epochs=8, optimizer="sgd", learning_rate=1e-5), twin_config=rate(0.03),
        verify=worse(0.3), notes="sgd at 0.00001",
    ),
    Case(
        id="bags_tuning_rate", label="lr_too_low", build=BagOfWords,
        config=settings(epochs=10, optimizer="adamw", learning_rate=2e-5),
        twin_config=rate(0.01), verify=worse(0.2), notes="adamw at 0.00002 from scratch",
    ),
    Case(
        id="houses_clipped_away", label="lr_too_low", build=ClippedAway,
        config=settings(epochs=12, optimizer="sgd", learning_rate=0.02, clip_norm=0.0005),
        twin_config=patch(training={"clip_norm": 1.0}), verify=worse(0.3),
        notes="clipping to nothing",
    ),
    Case(
        id="digits_decayed_by_batch", label="convergence_stall", build=DecayedByBatch,
        config=settings(epochs=15, optimizer="sgd", learning_rate=0.02), twin=DecayedByEpoch,
        verify=worse(0.2), notes="a schedule stepped by batch",
    ),
    Case(
        id="adding_long_warmup", label="convergence_stall", build=AddingSlowly,
        config=settings(epochs=12, warmup_steps=100_000), twin_config=patch(
            training={"warmup_steps": 20}
        ), verify=worse(0.3), notes="100,000 steps of warm-up",
    ),
    Case(
        id="pairs_stepped_early", label="convergence_stall", build=PairsStepped,
        config=settings(
            epochs=15, optimizer="adam", learning_rate=0.0005, scheduler="step",
            scheduler_step_epochs=1, scheduler_gamma=0.1,
        ), twin_config=patch(training={"scheduler": "cosine", "learning_rate": 0.003}),
        verify=worse(0.1),
        notes="a tenth of the rate after each epoch",
    ),
]  # fmt: skip
