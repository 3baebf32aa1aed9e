"""Programs that do well and look as if they did not."""

import numpy as np
from torch import nn

from pytest_mltrainer import Config, Splits, Task
from pytest_mltrainer.training.session import TrainingSession

from .. import samples
from ..cases import HEALTHY, Case, reaches, settings


class Bends(Task):
    """A bent function of six columns, under noise."""

    kind = "regression"
    noise = 0.3

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 48), nn.SiLU(), nn.Linear(48, 1))

    def rows(self, config: Config) -> samples.Parts:
        draw = np.random.default_rng(config.seed)
        x = draw.normal(size=(2000, 6))
        y = np.sin(1.5 * x[:, 0]) + np.tanh(x[:, 1] + x[:, 2]) + 0.4 * np.abs(x[:, 3])
        return samples.divided(x, y - y.mean() + self.noise * draw.normal(size=2000), config.seed)

    def data(self, config: Config) -> Splits:
        return self.rows(config).splits()


class Whitened(Bends):
    """Mixed columns, undone by a first layer that is computed from training and frozen."""

    def model(self, config: Config) -> nn.Module:
        x = self.rows(config).train.x
        values, along = np.linalg.eigh(np.cov(x.T))
        first = nn.Linear(6, 6)
        first.weight.data = samples.as_tensor(along / np.sqrt(values) @ along.T)
        first.bias.data = -first.weight.data @ samples.as_tensor(x.mean(0))
        return nn.Sequential(first.requires_grad_(False), *super().model(config))

    def rows(self, config: Config) -> samples.Parts:
        turn = np.linalg.qr(np.random.default_rng(config.seed + 1).normal(size=(6, 6)))[0]
        mix = turn * np.array([3.0, 2.0, 1.5, 1.0, 0.7, 0.5]) @ turn.T
        return super().rows(config).each(lambda x, y: (x @ mix + 2, y))


class FoundUnits(Bends):
    """Columns in their units, up to tens of thousands, before a batch norm."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.BatchNorm1d(6), *super().model(config))

    def rows(self, config: Config) -> samples.Parts:
        units = np.array([8.0, 4000.0, 0.01, 250.0, 1.0, 30.0])
        middle = np.array([20.0, 30000.0, 0.07, 1500.0, -3.0, 0.0])
        return super().rows(config).each(lambda x, y: (x * units + middle, y))


class InMicroBatches(Bends):
    """Gradients of four small batches are added before each step, the last ones of an epoch too."""

    def train(self, session: TrainingSession) -> None:
        for epoch in session.epochs():
            waiting = 0
            for inputs, targets in session.batches():
                (session.loss(inputs, targets) / 4).backward()
                waiting += 1
                if waiting == 4:
                    session.update()
                    waiting = 0
            if waiting:
                session.update()
            session.finish_epoch(epoch)


class Chances(Task):
    """Whether a customer comes back, which is a matter of chance between 0.1 and 0.9."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 2))

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x = draw.normal(size=(2400, 5))
        chance = 0.5 + 0.4 * np.tanh(x[:, 0] - 0.8 * x[:, 1] + 0.6 * np.abs(x[:, 2]) - 0.5)
        y = (draw.random(2400) < chance).astype(np.int64)
        return samples.divided(x, y, config.seed).splits()


class Survey(Task):
    """Five answers of few kinds: the same answers are in every split, with other outcomes."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(14, 24), nn.ReLU(), nn.Linear(24, 3))

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        kinds = (2, 4, 3, 2, 3)
        answers = np.stack([draw.integers(0, kind, 1600) for kind in kinds], axis=1)
        x = np.concatenate([np.eye(n)[answers[:, i]] for i, n in enumerate(kinds)], axis=1)
        score = 1.5 * x @ draw.normal(size=(14, 3)) + draw.gumbel(size=(1600, 3))
        return samples.divided(x, score.argmax(axis=1), config.seed).splits()


class Faults(Task):
    """One part in twelve is broken. Training repeats them until half is; validation is as it is."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Dropout(0.2), nn.Linear(24, 2))

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x = draw.normal(size=(2400, 8))
        load = x[:, 0] + 0.8 * np.abs(x[:, 1]) + 0.8 * x[:, 2] + 0.3 * draw.normal(size=2400)
        y = (load > np.quantile(load, 11 / 12)).astype(np.int64)
        parts = samples.divided(x, y, config.seed)
        again = np.repeat(np.arange(len(parts.train.y)), np.where(parts.train.y == 1, 11, 1))
        train = samples.Rows(parts.train.x[again], parts.train.y[again])
        return samples.Parts(train, parts.validation, parts.test).splits()


class OnDisk(Task):
    """Waves of three kinds, mixed once when they were written and read in that order since."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Unflatten(1, (1, 24)), nn.Conv1d(1, 16, 7, padding=3), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(16, 16, 5, padding=2), nn.ReLU(), nn.AdaptiveAvgPool1d(2), nn.Flatten(),
            nn.Linear(32, 3),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = samples.waves(config.seed, rows=900, noise=0.4)
        return samples.divided(x[..., 0], y, config.seed).splits()


CASES = [
    Case(
        id="ax_fine_whitened", label=HEALTHY, build=Whitened,
        config=settings(epochs=30, learning_rate=0.03, batch_size=64, scheduler="cosine"),
        verify=reaches(0.8), notes="a first layer that is frozen on purpose",
    ),
    Case(
        id="ax_fine_found_units", label=HEALTHY, build=FoundUnits,
        config=settings(epochs=30, learning_rate=0.02, batch_size=128), verify=reaches(0.8),
        notes="raw units before a first batch norm",
    ),
    Case(
        id="ax_fine_micro_batches", label=HEALTHY, build=InMicroBatches,
        config=settings(epochs=20, batch_size=16, learning_rate=0.02), verify=reaches(0.8),
        notes="a loop of one's own that adds the gradients of four batches",
    ),
    Case(
        id="ax_fine_chances", label=HEALTHY, build=Chances,
        config=settings(optimizer="adamw", weight_decay=0.01, epochs=8, batch_size=64),
        verify=reaches(0.68), notes="outcomes are drawn: nobody can be right in a quarter of rows",
    ),
    Case(
        id="ax_fine_survey", label=HEALTHY, build=Survey,
        config=settings(epochs=10, learning_rate=0.005), verify=reaches(0.6),
        notes="144 possible inputs, 1,600 rows: equal rows across splits by nature",
    ),
    Case(
        id="ax_fine_repeated_faults", label=HEALTHY, build=Faults,
        config=settings(epochs=8, batch_size=64, metric="balanced_accuracy"),
        verify=reaches(0.88), notes="balanced by repetition after the split, in training alone",
    ),
    Case(
        id="ax_fine_read_in_order", label=HEALTHY, build=OnDisk,
        config=settings(epochs=12, learning_rate=0.005, shuffle=False), verify=reaches(0.93),
        notes="shuffle is off and the rows were mixed beforehand",
    ),
]  # fmt: skip
