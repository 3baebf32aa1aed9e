"""Words: topics, tags and the next symbol."""

import numpy as np
import torch
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task
from pytest_mltrainer.training.session import TrainingSession

from .. import samples
from ..cases import HEALTHY, Case, last_worse, patch, reaches, settings, worse

WORDS = 200


class Reader(nn.Module):
    """One block of a transformer over words and places."""

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(WORDS, width), nn.Embedding(16, width)
        self.block = nn.TransformerEncoderLayer(
            width, 4, 2 * width, dropout=dropout, batch_first=True
        )
        self.head = nn.Linear(width, 4)

    def forward(self, words: Tensor) -> Tensor:
        places = torch.arange(words.shape[1], device=words.device)
        return self.head(self.block(self.words(words) + self.places(places)).mean(1))


class Letters(Task):
    """The department that a letter is for."""

    def model(self, config: Config) -> nn.Module:
        return Reader(32)

    def data(self, config: Config) -> Splits:
        x, y = samples.texts(config.seed, rows=800, words=WORDS, topical=0.3)
        return samples.divided(x, y, config.seed).splits()


class Sentences(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(WORDS, width), nn.Linear(width, 4)
        self.memory = nn.LSTM(width, width, batch_first=True)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.memory(self.words(words))[0].mean(1))


class FewLetters(Letters):
    """A memory that is wide beside the number of letters."""

    def model(self, config: Config) -> nn.Module:
        return Sentences(config.model["width"])

    def data(self, config: Config) -> Splits:
        x, y = samples.texts(config.seed, rows=config.data["rows"], words=WORDS, topical=0.25)
        return samples.divided(x, y, config.seed, train=0.4).splits()


class DecaysByStep(Letters):
    """`ExponentialLR` is stepped where the batch ends, and was meant for the epoch's end."""

    by_step = True

    def train(self, session: TrainingSession) -> None:
        schedule = torch.optim.lr_scheduler.ExponentialLR(session.optimizer, 0.7)
        for epoch in session.epochs():
            for inputs, targets in session.batches():
                session.loss(inputs, targets).backward()
                session.update()
                if self.by_step:
                    schedule.step()
            if not self.by_step:
                schedule.step()
            session.finish_epoch(epoch)


class DecaysByEpoch(DecaysByStep):
    by_step = False


class Tied(nn.Module):
    """The table of the words is read and written with."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(24, width)
        self.memory = nn.GRU(width, width, batch_first=True)
        self.turn = nn.Linear(width, width)
        self.head = nn.Linear(width, 24, bias=False)
        self.head.weight = self.words.weight

    def forward(self, words: Tensor) -> Tensor:
        return self.head(torch.tanh(self.turn(self.memory(self.words(words))[0])))


class NextSymbol(Task):
    """The symbol that follows; a Markov chain of order one that can be foreseen in part."""

    kind = "sequence"

    def model(self, config: Config) -> nn.Module:
        return Tied(32)

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        odds = draw.dirichlet(np.full(24, 0.08), 24).cumsum(1)
        chain = np.zeros((500, 13), dtype=np.int64)
        chain[:, 0] = draw.integers(0, 24, 500)
        for step in range(12):
            drawn = draw.random((500, 1)) < odds[chain[:, step]]
            chain[:, step + 1] = drawn.argmax(1)
        return samples.divided(chain[:, :-1], chain[:, 1:], config.seed).splits()


class DroppedOften(Letters):
    """Dropout of a half in the block, of the words, and before the head."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Embedding(WORDS, 48), nn.Dropout(0.5), Mean(), nn.Linear(48, 64), nn.ReLU(),
            nn.Dropout(0.6), nn.Linear(64, 4),
        )  # fmt: skip


class Mean(nn.Module):
    def forward(self, words: Tensor) -> Tensor:
        return words.mean(1)


CASES = [
    Case(id="letters_hot_block", label="unstable_training", build=Letters,
         config=settings(epochs=8, learning_rate=0.1, optimizer="adamw"),
         twin_config=patch(training={"learning_rate": 0.002}), verify=last_worse(0.2),
         notes="a transformer under adamw at 0.1"),
    Case(id="letters_few", label="overfitting", build=FewLetters,
         config=settings(model={"width": 48}, data={"rows": 300}, epochs=20, learning_rate=0.005),
         twin_config=patch(data={"rows": 2000}, training={"epochs": 5}), verify=worse(0.1),
         notes="120 letters, an LSTM of 19,000 weights, 20 epochs"),
    Case(id="letters_decay_by_step", label="convergence_stall", build=DecaysByStep,
         config=settings(epochs=10, learning_rate=0.002), twin=DecaysByEpoch, verify=worse(0.3),
         notes="a factor of 0.7 each step in place of each epoch"),
    Case(id="well_letters_dropped", label=HEALTHY, build=DroppedOften,
         config=settings(epochs=15, learning_rate=0.005), verify=reaches(0.75),
         notes="training far below validation"),
    Case(id="well_next_symbol", label=HEALTHY, build=NextSymbol,
         config=settings(epochs=8, learning_rate=0.006, clip_norm=1.0), verify=reaches(0.4),
         notes="tied weights, a chain of which 45 % can be foreseen"),
]  # fmt: skip
