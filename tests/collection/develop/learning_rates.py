"""Learning rates that are too high, too low, or gone too early."""

import torch
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task
from pytest_mltrainer.training.session import TrainingSession

from .. import samples
from ..cases import Case, both, last_worse, patch, settings, unsteady, worse


class DigitsNet(Task):
    """Digits by two convolutions."""

    def model(self, config: Config) -> nn.Module:
        width = config.model["width"]
        return nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * 16, 10),
        )

    def data(self, config: Config) -> Splits:
        return samples.digits(config.seed, image=True).splits()


class TextTransformer(nn.Module):
    def __init__(self, words: int, classes: int, *, width: int = 32, layers: int = 2) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.position = nn.Parameter(0.1 * torch.randn(16, width))
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.head = nn.Linear(width, classes)

    def forward(self, words: Tensor) -> Tensor:
        hidden = self.embed(words) + self.position[: words.shape[1]]
        return self.head(self.encoder(hidden).mean(1))


class Topics(Task):
    def model(self, config: Config) -> nn.Module:
        return TextTransformer(120, 4)

    def data(self, config: Config) -> Splits:
        x, y = samples.texts(config.seed, rows=700)
        return samples.divided(x, y, config.seed).splits()


class Diabetes(Task):
    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        width = config.model["width"]
        return nn.Sequential(nn.Linear(10, width), nn.ReLU(), nn.Linear(width, 1))

    def data(self, config: Config) -> Splits:
        x, y = samples.load("diabetes")
        return samples.divided(x, y, config.seed).standardised().targets_standardised().splits()


class ScheduledEachBatch(Task):
    """A loop of one's own that steps an epochs' schedule after every batch."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(),
                             nn.Linear(32, 3))  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = samples.rings(config.seed, rows=900)
        return samples.divided(x, y, config.seed).splits()

    def train(self, session: TrainingSession) -> None:
        schedule = torch.optim.lr_scheduler.ExponentialLR(session.optimizer, gamma=0.8)
        for epoch in session.epochs():
            for inputs, targets in session.batches():
                session.loss(inputs, targets).backward()
                session.update()
                self.after_batch(schedule)
            self.after_epoch(schedule)
            session.finish_epoch(epoch)

    def after_batch(self, schedule: torch.optim.lr_scheduler.ExponentialLR) -> None:
        schedule.step()

    def after_epoch(self, schedule: torch.optim.lr_scheduler.ExponentialLR) -> None:
        pass


class ScheduledEachEpoch(ScheduledEachBatch):
    def after_batch(self, schedule: torch.optim.lr_scheduler.ExponentialLR) -> None:
        pass

    def after_epoch(self, schedule: torch.optim.lr_scheduler.ExponentialLR) -> None:
        schedule.step()


CASES = [
    Case(
        id="digits_momentum_too_fast",
        label="unstable_training",
        build=DigitsNet,
        config=settings(
            model={"width": 12}, optimizer="sgd", learning_rate=0.1, momentum=0.95, epochs=12
        ),
        twin_config=patch(training={"learning_rate": 0.01, "momentum": 0.9}),
        verify=both(last_worse(0.03), unsteady),
        notes="momentum of 0.95 at 0.1 on convolutions: the loss falls and comes back",
    ),
    Case(
        id="topics_hot_transformer",
        label="unstable_training",
        build=Topics,
        config=settings(optimizer="sgd", learning_rate=0.2, momentum=0.97, epochs=8),
        twin_config=patch(training={"optimizer": "adam", "learning_rate": 0.002}),
        verify=both(last_worse(0.1), unsteady),
        notes="sgd at 0.2 with a momentum of 0.97 for a transformer: it diverges slowly",
    ),
    Case(
        id="digits_tiny_steps",
        label="lr_too_low",
        build=DigitsNet,
        config=settings(model={"width": 8}, optimizer="adam", learning_rate=2e-6, epochs=8),
        twin_config=patch(training={"learning_rate": 0.003}),
        verify=worse(0.2),
        notes="2e-6, as used to fine-tune a large model",
    ),
    Case(
        id="diabetes_tiny_steps",
        label="lr_too_low",
        build=Diabetes,
        config=settings(model={"width": 32}, optimizer="sgd", momentum=0.0, learning_rate=1e-5),
        twin_config=patch(training={"learning_rate": 0.05}),
        verify=worse(0.2),
        notes="plain sgd at 1e-5",
    ),
    Case(
        id="rings_schedule_each_batch",
        label="convergence_stall",
        build=ScheduledEachBatch,
        config=settings(learning_rate=0.003, epochs=16, batch_size=16),
        twin=ScheduledEachEpoch,
        verify=worse(0.1),
        notes="a factor of 0.8 meant for epochs, taken every batch: the rate is gone at once",
    ),
]
