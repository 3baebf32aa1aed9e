"""More programs that do well: training made hard on purpose, sentences that are mostly padding."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pytest_mltrainer import Config, Splits, Task
from pytest_mltrainer.training.session import TrainingSession

from .. import samples
from ..cases import HEALTHY, Case, reaches, settings


class Shaken(nn.Module):
    """Noise on the inputs in training."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.25 * torch.randn_like(x) if self.training else x


class HardSchool(Task):
    """Digits under noise and heavy dropout: better in validation than in training."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            Shaken(), nn.Linear(64, 256), nn.ReLU(), nn.Dropout(0.5),
            nn.Linear(256, 128), nn.ReLU(), nn.Dropout(0.4), nn.Linear(128, 10),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        return samples.digits(config.seed).splits()


class Mixed(Task):
    """Two rows and their losses are mixed by a random share in training (mixup)."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(10, 48), nn.GELU(), nn.Linear(48, 48), nn.GELU(),
                             nn.Linear(48, 4))  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = samples.table(config.seed, rows=1200, columns=10, classes=4, apart=1.0)
        return samples.divided(x, y, config.seed).splits()

    def train(self, session: TrainingSession) -> None:
        share = torch.distributions.Beta(0.6, 0.6)
        for epoch in session.epochs():
            for inputs, targets in session.batches():
                other, part = torch.randperm(len(targets)), float(share.sample())
                mixed = part * inputs + (1 - part) * inputs[other]
                loss = part * session.loss(mixed, targets)
                (loss + (1 - part) * session.loss(mixed, targets[other])).backward()
                session.update()
            session.finish_epoch(epoch)


class LogShares(nn.Module):
    """A two-way GRU over the words and the logarithms of the tags' shares."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(31, 24, padding_idx=0)
        self.gru = nn.GRU(24, 24, batch_first=True, bidirectional=True)
        self.head = nn.Linear(48, 3)

    def forward(self, x: Tensor) -> Tensor:
        return functional.log_softmax(self.head(self.gru(self.words(x))[0]), dim=-1)


class PaddedTags(Task):
    """Tags of sentences of unlike lengths; most places are padding, which counts for nothing."""

    kind = "sequence"

    def model(self, config: Config) -> nn.Module:
        return LogShares()

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        return functional.nll_loss(outputs.flatten(0, 1), targets.flatten(), ignore_index=-100)

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x = draw.integers(1, 31, (700, 14))
        after = np.concatenate([x[:, 1:], np.zeros((700, 1), dtype=x.dtype)], axis=1)
        beyond = np.arange(14) >= draw.integers(3, 10, (700, 1))
        last = np.concatenate([beyond[:, 1:], np.ones((700, 1), dtype=bool)], axis=1)
        tags = (x % 2) + (x % 2) * np.where(last, 0, after % 2)
        return samples.divided(
            np.where(beyond, 0, x), np.where(beyond, -100, tags), config.seed
        ).splits()


CASES = [
    Case(
        id="ax_fine_hard_school", label=HEALTHY, build=HardSchool,
        config=settings(epochs=30, batch_size=64, scheduler="cosine"), verify=reaches(0.96),
        notes="training score far below validation by noise and dropout",
    ),
    Case(
        id="ax_fine_mixup", label=HEALTHY, build=Mixed,
        config=settings(optimizer="adamw", weight_decay=0.02, epochs=15, scheduler="cosine"),
        verify=reaches(0.88), notes="mixup in a loop of one's own",
    ),
    Case(
        id="ax_fine_padded_tags", label=HEALTHY, build=PaddedTags,
        config=settings(epochs=15, learning_rate=0.01, clip_norm=1.0), verify=reaches(0.95),
        notes="log_softmax with nll_loss, most places padded and ignored",
    ),
]  # fmt: skip
