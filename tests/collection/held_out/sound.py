"""Sounds and sentences: spectra, motors, documents, pitch, reviews, tags and echoes."""

import numpy as np
import torch
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task

from .. import samples
from ..cases import Case, both, last_worse, patch, settings, worse


class Spectrum(Task):
    """The instrument, of four, from 24 bands."""

    unit: type[nn.Module] = nn.ReLU

    def model(self, config: Config) -> nn.Module:
        layers: list[nn.Module] = [nn.Linear(24, 32)]
        for _ in range(5):
            layers += [self.unit(), nn.Linear(32, 32)]
        return nn.Sequential(*layers, self.unit(), nn.Linear(32, 4))

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        y, base = draw.integers(0, 4, 1200), draw.uniform(2, 4, 1200)
        bands = np.arange(24)[None]
        rough = np.array([0.3, 0.8, 1.5, 3.0])[y][:, None]
        x = np.cos(bands * 2 * np.pi / base[:, None]) * np.exp(-bands / (4 * rough))
        parts = samples.divided(x + 0.1 * draw.normal(size=x.shape), y, config.seed)
        return parts.standardised().splits()


class SpectrumSigmoid(Spectrum):
    """Six layers of sigmoids in a row."""

    unit = nn.Sigmoid


class Scaled(nn.Module):
    """Divided by a temperature."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, x: Tensor) -> Tensor:
        return x / self.temperature


class Documents(Task):
    """The topic, of five, of a document by a code of 16 soft bits."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Linear(40, 16), Scaled(config.model["temperature"]), nn.Sigmoid(),
            nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 5),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        y = draw.integers(0, 5, 1400)
        topics = draw.dirichlet(np.full(40, 0.5), size=(5, 2))
        words = 0.5 * topics[y, draw.integers(0, 2, 1400)] + 0.5 / 40
        x = np.sqrt(np.stack([draw.multinomial(30, row / row.sum()) for row in words]))
        return samples.divided(x, y, config.seed).standardised().splits()


class Pitch(Task):
    """How far a voice rises or falls, from twelve frames of eight numbers."""

    kind = "regression"
    times = 1.0

    def model(self, config: Config) -> nn.Module:
        return Recurrent()

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        rise, loud = draw.uniform(-1, 1, (2, 1000))
        form = draw.normal(size=(2, 8))
        share = np.linspace(-1, 1, 12)[None, :, None]
        x = (rise[:, None, None] * share * form[0]) + loud[:, None, None] * form[1]
        y = np.sin(2.5 * rise) + loud * rise
        y = (y - y.mean()) / y.std()
        return samples.divided(x + 0.2 * draw.normal(size=x.shape), y, config.seed).splits()

    def optimizer(self, model: nn.Module, config: Config) -> torch.optim.Optimizer:
        rate = config.training.learning_rate
        groups = [
            {"params": list(model.body.parameters()), "lr": rate},
            {"params": list(model.head.parameters()), "lr": rate * self.times},
        ]
        return torch.optim.Adam(groups)


class Recurrent(nn.Module):
    """A recurrent body and a head on its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.GRU(8, 24, batch_first=True)
        self.head = nn.Sequential(
            nn.Linear(24, 10), nn.ReLU(), nn.Linear(10, 10), nn.ReLU(), nn.Linear(10, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x)[0][:, -1])


class PitchHead(Pitch):
    """The head is new, and its rate 400 times that of a body that is as new."""

    times = 400.0


class Reader(nn.Module):
    """Words, one layer of attention, and the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(120, 32), nn.Linear(32, 4)
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layer(self.words(x)).mean(1))


class Reviews(Task):
    """What a review is about, of four, from sixteen words."""

    def model(self, config: Config) -> nn.Module:
        return Reader()

    def data(self, config: Config) -> Splits:
        x, y = samples.texts(config.seed, rows=1100, topical=0.4)
        return samples.divided(x, y, config.seed).splits()


class Tagger(nn.Module):
    """A tag for each word, from the words on either side."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(30, 16)
        self.near, self.out = nn.Conv1d(16, 64, 3, padding=1), nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.relu(self.near(self.words(x).transpose(1, 2))).transpose(1, 2))


class Tags(Task):
    """Tags by the kinds of a word and of the word before, one tag in ten at random."""

    kind = "sequence"
    first: int | None = None

    def model(self, config: Config) -> nn.Module:
        return Tagger()

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x = draw.integers(0, 30, (2000, 12))
        before = np.roll(x, 1, axis=1)
        y = np.where(before % 3 == 0, x % 3, (x // 3) % 3)
        y = np.where(draw.random(y.shape) < 0.1, draw.integers(0, 3, y.shape), y)
        parts = samples.divided(x, y, config.seed)
        train = samples.Rows(parts.train.x[: self.first], parts.train.y[: self.first])
        return samples.Parts(train, parts.validation, parts.test).splits()


class TagsFirst(Tags):
    """`[:60]` was left in the code after a trial."""

    first = 60


class Echo(Task):
    """The size of a room, of three, from the distance between two echoes."""

    bends = True

    def model(self, config: Config) -> nn.Module:
        layers: list[nn.Module] = []
        for wide, high in ((10, 64), (64, 64), (64, 32)):
            layers += [nn.Linear(wide, high), *([nn.ReLU()] if self.bends else [])]
        return nn.Sequential(*layers, nn.Linear(32, 3))

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x = draw.normal(size=(1500, 10))
        apart = np.abs(x[:, 0] - x[:, 1]) + 0.15 * draw.normal(size=1500)
        y = np.digitize(apart, np.quantile(apart, [1 / 3, 2 / 3]))
        return samples.divided(x, y, config.seed).splits()


class EchoStraight(Echo):
    """Four layers with nothing between them: together one linear layer."""

    bends = False


CASES = [
    Case(
        id="bx_spectrum_sigmoids", label="vanishing_gradients", build=SpectrumSigmoid,
        twin=Spectrum, config=settings(optimizer="sgd", learning_rate=0.05, epochs=20),
        verify=worse(0.2), notes="six sigmoids in a row, default weights",
    ),
    Case(
        id="bx_documents_cold_code", label="saturation", build=Documents,
        config=settings(epochs=12, model={"temperature": 0.01}),
        twin_config=patch(model={"temperature": 1.0}), verify=worse(0.05),
        notes="soft bits at the temperature that was meant for the end",
    ),
    Case(
        id="bx_pitch_head_rate", label="dead_relu", build=PitchHead, twin=Pitch,
        config=settings(optimizer="task", epochs=12), verify=worse(0.3),
        notes="Adam at 1.2 for the head: its units die in the first steps",
    ),
    Case(
        id="bx_reviews_fine_tuned", label="lr_too_low", build=Reviews,
        config=settings(optimizer="adamw", learning_rate=1e-5, weight_decay=0.01, epochs=8),
        twin_config=patch(training={"learning_rate": 2e-3}), verify=worse(0.2),
        notes="the rate of a recipe for fine-tuning, from random weights",
    ),
    Case(
        id="bx_tags_first_sixty", label="overfitting", build=TagsFirst, twin=Tags,
        config=settings(epochs=20, batch_size=16, learning_rate=0.01),
        verify=both(worse(0.05), last_worse(0.1)),
        notes="60 sentences for 3,800 weights",
    ),
    Case(
        id="bx_echo_straight", label="underfitting", build=EchoStraight, twin=Echo,
        config=settings(epochs=12), verify=worse(0.2), notes="no activations",
    ),
]  # fmt: skip
