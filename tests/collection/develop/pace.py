"""Learning rates and schedules; too much and too little capacity."""

import math

import torch
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task
from pytest_mltrainer.training.session import TrainingSession

from .. import samples
from ..cases import Case, both, last_worse, patch, settings, unsteady, worse


class Friedman(Task):
    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        width = config.model["width"]
        return nn.Sequential(
            nn.Linear(8, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 1)
        )

    def data(self, config: Config) -> Splits:
        x, y = samples.curved(config.seed, rows=1000)
        return samples.divided(x, y, config.seed).splits()


class WaveReader(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 3)

    def forward(self, series: Tensor) -> Tensor:
        return self.head(self.lstm(series)[0].mean(1))


class Waves(Task):
    def model(self, config: Config) -> nn.Module:
        return WaveReader(config.model["hidden"])

    def data(self, config: Config) -> Splits:
        x, y = samples.waves(config.seed, rows=700)
        return samples.divided(x, y, config.seed).splits()


class Labels(Task):
    """Five labels a row."""

    kind = "multilabel"

    def model(self, config: Config) -> nn.Module:
        width, dropout = config.model["width"], config.model["dropout"]
        return nn.Sequential(
            nn.Linear(16, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width),
            nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 5),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = samples.several_labels(config.seed, rows=900)
        return samples.divided(x, y, config.seed).splits()


class Words(Task):
    def model(self, config: Config) -> nn.Module:
        return MeanOfWords(config.model["width"])

    def data(self, config: Config) -> Splits:
        x, y = samples.texts(config.seed, rows=config.data["rows"], words=400, topical=0.25)
        return samples.divided(x, y, config.seed, train=config.data["train"]).splits()


class MeanOfWords(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Embedding(400, width), nn.Linear(width, 4)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.embed(words).mean(1))


class HalvedEachStep(Friedman):
    """A cosine over as many steps as there are epochs."""

    def train(self, session: TrainingSession) -> None:
        total = session.config.training.epochs * self.batches_counted(session)

        def factor(step: int) -> float:
            return 0.5 * (1 + math.cos(math.pi * min(step / total, 1.0)))

        schedule = torch.optim.lr_scheduler.LambdaLR(session.optimizer, factor)
        for epoch in session.epochs():
            for inputs, targets in session.batches():
                session.loss(inputs, targets).backward()
                session.update()
                schedule.step()
            session.finish_epoch(epoch)

    def batches_counted(self, session: TrainingSession) -> int:
        return 1


class HalvedOverAll(HalvedEachStep):
    def batches_counted(self, session: TrainingSession) -> int:
        return session.updates_per_epoch


class StepDecay(Task):
    """Pictures whose rate falls to a hundredth every epoch."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
            nn.Linear(16, 4),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = samples.shapes(config.seed, rows=600)
        return samples.divided(x, y, config.seed).splits()


class FewPictures(Task):
    """Noisy pictures, few of them, without any augmentation."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 24, 3, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(24 * 144, 48), nn.ReLU(), nn.Linear(48, 4),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = samples.shapes(config.seed, rows=config.data["rows"], noise=0.45)
        return samples.divided(x, y, config.seed, train=config.data["train"]).splits()


class LinearDigits(Task):
    """A linear model, ended long before it has settled."""

    def model(self, config: Config) -> nn.Module:
        return nn.Linear(64, 10)

    def data(self, config: Config) -> Splits:
        return samples.digits(config.seed).standardised().splits()


CASES = [
    Case(
        id="friedman_spiking_sgd", label="unstable_training", build=Friedman,
        config=settings(model={"width": 64}, optimizer="sgd", learning_rate=0.06, momentum=0.95,
                        epochs=20, batch_size=16),
        twin_config=patch(training={"learning_rate": 0.003, "momentum": 0.9}),
        verify=both(last_worse(0.15), unsteady),
        notes="a momentum of 0.95 at 0.06 with batches of 16",
    ),
    Case(
        id="waves_hot_lstm", label="unstable_training", build=Waves,
        config=settings(model={"hidden": 32}, learning_rate=1.0, epochs=10, batch_size=16),
        twin_config=patch(training={"learning_rate": 0.005}),
        verify=both(last_worse(0.15), unsteady),
        notes="an LSTM at 1.0",
    ),
    Case(
        id="labels_crawling", label="lr_too_low", build=Labels,
        config=settings(model={"width": 48, "dropout": 0.0}, optimizer="adamw",
                        learning_rate=5e-6, epochs=12),
        twin_config=patch(training={"learning_rate": 0.003}), verify=worse(0.1),
        notes="adamw at 5e-6, several labels",
    ),
    Case(
        id="waves_crawling", label="lr_too_low", build=Waves,
        config=settings(model={"hidden": 24}, optimizer="sgd", learning_rate=1e-4, momentum=0.0,
                        epochs=10),
        twin_config=patch(training={"optimizer": "adam", "learning_rate": 0.005}),
        verify=worse(0.2), notes="plain sgd at 1e-4 for an LSTM",
    ),
    Case(
        id="curve_cosine_over_epochs", label="convergence_stall", build=HalvedEachStep,
        config=settings(model={"width": 48}, optimizer="sgd", learning_rate=0.01, epochs=20),
        twin=HalvedOverAll, verify=worse(0.15),
        notes="the cosine ends after as many steps as there are epochs",
    ),
    Case(
        id="shapes_steep_decay", label="convergence_stall", build=StepDecay,
        config=settings(learning_rate=0.002, scheduler="step", scheduler_step_epochs=1,
                        scheduler_gamma=0.01, epochs=12),
        twin_config=patch(training={"scheduler": "none"}), verify=worse(0.2),
        notes="a factor of 0.01 every epoch",
    ),
    Case(
        id="words_by_heart", label="overfitting", build=Words,
        config=settings(model={"width": 64}, data={"rows": 400, "train": 0.35}, epochs=40,
                        learning_rate=0.01),
        twin_config=patch(data={"rows": 3000, "train": 0.7}, training={"epochs": 6}),
        verify=worse(0.08), notes="140 texts, an embedding of 25,600 numbers, 40 epochs",
    ),
    Case(
        id="pictures_by_heart", label="overfitting", build=FewPictures,
        config=settings(data={"rows": 260, "train": 0.4}, epochs=25, learning_rate=0.001),
        twin_config=patch(data={"rows": 1600, "train": 0.7}, training={"epochs": 8}),
        verify=worse(0.1), notes="104 noisy pictures, 170,000 weights",
    ),
    Case(
        id="digits_five_steps", label="underfitting", build=LinearDigits,
        config=settings(epochs=1, batch_size=256, learning_rate=0.001),
        twin_config=patch(training={"epochs": 15, "batch_size": 32}), verify=worse(0.1),
        notes="one epoch of five steps",
    ),
    Case(
        id="friedman_decayed", label="underfitting", build=Friedman,
        config=settings(model={"width": 32}, optimizer="adam", weight_decay=0.3, epochs=20),
        twin_config=patch(training={"weight_decay": 0.0}), verify=worse(0.15),
        notes="a weight decay of 0.3 inside adam",
    ),
]  # fmt: skip
