"""Few words, pictures and rows that are learned by heart, and small sets where all is well."""

import numpy as np
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task

from .. import samples
from ..cases import HEALTHY, Case, both, last_worse, patch, reaches, settings, worse
from ..samples import Parts, Rows


def first_rows(parts: Parts, count: int) -> Parts:
    """The same validation and test beside the first rows of training."""
    kept = Rows(parts.train.x[:count], parts.train.y[:count])
    return Parts(kept, parts.validation, parts.test)


class MeanOfWords(nn.Module):
    """The mean of the words' vectors, and two layers behind it."""

    def __init__(self, words: int, width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.net = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(width, classes),
        )  # fmt: skip

    def forward(self, words: Tensor) -> Tensor:
        return self.net(self.embed(words).mean(1))


class Tickets(Task):
    """Short texts to four desks; most of their words say nothing."""

    def model(self, config: Config) -> nn.Module:
        return MeanOfWords(500, config.model["width"], 4, config.model["dropout"])

    def data(self, config: Config) -> Splits:
        data = config.data
        x, y = samples.texts(config.seed, rows=3000, words=500, length=14, topical=data["topical"])
        return first_rows(samples.divided(x, y, config.seed), data["texts"]).splits()


class LastWordState(nn.Module):
    def __init__(self, words: int, width: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.gru = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.drop(self.gru(self.drop(self.embed(words)))[0].amax(1)))


class Opinions(Task):
    """Good or bad, by a GRU in both directions."""

    def model(self, config: Config) -> nn.Module:
        return LastWordState(300, config.model["width"], 2, config.model["dropout"])

    def data(self, config: Config) -> Splits:
        x, y = samples.texts(config.seed, rows=2000, words=300, length=12, classes=2, topical=0.25)
        return first_rows(samples.divided(x, y, config.seed), config.data["texts"]).splits()


class FlatPictures(Task):
    """Pictures of shapes at any place, through layers that know nothing of places."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Flatten(), nn.Linear(144, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(),
            nn.Linear(256, 4),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = samples.shapes(config.seed, rows=1500, noise=0.3)
        return first_rows(samples.divided(x, y, config.seed), 250).splits()


class Convolved(FlatPictures):
    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
            nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(32, 4),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = samples.shapes(config.seed, rows=1500, noise=0.3)
        return samples.divided(x, y, config.seed).splits()


class Scans(Task):
    """Grainy pictures, few of them, for a net with a wide last layer."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(12 * 36, 128), nn.ReLU(), nn.Dropout(config.model["dropout"]),
            nn.Linear(128, 4),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        data = config.data
        x, y = samples.shapes(config.seed, rows=2400, noise=0.45)
        return first_rows(samples.divided(x, y, config.seed), data["pictures"]).splits()


class FewLabels(Task):
    """Five labels a row, forty columns that say nothing."""

    kind = "multilabel"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(56, 128), nn.ReLU(), nn.Linear(128, 5))

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x, y = samples.several_labels(config.seed, rows=1600, noise=0.8)
        x = np.concatenate([x, draw.normal(size=(len(x), 40))], axis=1)
        return first_rows(samples.divided(x, y, config.seed), config.data["rows"]).splits()


class FewDigits(Task):
    """Digits of which few are known; a linear model does no better."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def data(self, config: Config) -> Splits:
        return first_rows(samples.digits(config.seed), config.data["rows"]).splits()


class SmallTable(Task):
    """Wine: 106 rows, a wide network, nothing to forget."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(13, 256), nn.ReLU(), nn.Linear(256, 3))

    def data(self, config: Config) -> Splits:
        x, y = samples.load("wine")
        return samples.divided(x, y, config.seed).standardised().splits()


class Overlapping(Task):
    """Classes that overlap: nobody tells them apart better than three times in four."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, 3))

    def data(self, config: Config) -> Splits:
        x, y = samples.table(config.seed, rows=1200, apart=0.45)
        return samples.divided(x, y, config.seed).splits()


WORDS = {"width": 32, "dropout": 0.0}
CALM_WORDS = patch(
    data={"texts": 1800}, model={"dropout": 0.4}, training={"epochs": 12, "weight_decay": 0.0005}
)

CASES = [
    Case(
        id="tickets_by_heart", label="overfitting", build=Tickets,
        config=settings(model=WORDS, data={"texts": 250, "topical": 0.3}, epochs=30,
                        learning_rate=0.005),
        twin_config=CALM_WORDS, verify=worse(0.1),
        notes="250 texts of 500 words, each with a vector of 32 numbers",
    ),
    Case(
        id="tickets_by_heart_quickly", label="overfitting", build=Tickets,
        config=settings(model={"width": 96, "dropout": 0.0}, data={"texts": 300, "topical": 0.25},
                        epochs=12, learning_rate=0.006),
        twin_config=CALM_WORDS, verify=worse(0.1),
        notes="over before the validation loss had the time to rise much",
    ),
    Case(
        id="opinions_by_heart", label="overfitting", build=Opinions,
        config=settings(model={"width": 48, "dropout": 0.0}, data={"texts": 200}, epochs=15,
                        learning_rate=0.004),
        twin_config=patch(data={"texts": 1200}, model={"width": 16, "dropout": 0.4},
                          training={"epochs": 8}),
        verify=worse(0.06), notes="200 texts, a GRU in both directions",
    ),
    Case(
        id="shapes_by_heart", label="overfitting", build=FlatPictures,
        config=settings(epochs=20, learning_rate=0.002), twin=Convolved,
        verify=worse(0.15), notes="250 pictures, 100,000 weights, no convolution",
    ),
    Case(
        id="scans_by_heart", label="overfitting", build=Scans,
        config=settings(model={"dropout": 0.0}, data={"pictures": 120}, epochs=25,
                        learning_rate=0.002),
        twin_config=patch(model={"dropout": 0.4}, data={"pictures": 1400}),
        verify=worse(0.1), notes="120 grainy pictures",
    ),
    Case(
        id="labels_by_heart", label="overfitting", build=FewLabels,
        config=settings(data={"rows": 90}, epochs=40),
        twin_config=patch(data={"rows": 960}, training={"epochs": 6, "weight_decay": 0.001}),
        verify=both(worse(0.05), last_worse(0.05)), notes="90 rows of 56 columns for five labels",
    ),
    Case(
        id="ok_small_texts", label=HEALTHY, build=Tickets, verify=reaches(0.85),
        config=settings(model={"width": 24, "dropout": 0.3}, data={"texts": 900, "topical": 0.5},
                        epochs=14, learning_rate=0.005),
        notes="all training texts are known, and most of the others",
    ),
    Case(
        id="ok_few_digits", label=HEALTHY, build=FewDigits, verify=reaches(0.85),
        config=settings(data={"rows": 250}, epochs=30, learning_rate=0.003),
        notes="training at 100 %, validation where a linear model is as well",
    ),
    Case(
        id="ok_small_table", label=HEALTHY, build=SmallTable, verify=reaches(0.9),
        config=settings(epochs=30), notes="100 rows by heart, and the others right as well",
    ),
    Case(
        id="ok_overlapping", label=HEALTHY, build=Overlapping, verify=reaches(0.65),
        config=settings(epochs=12, weight_decay=0.0005), notes="some points ahead of validation",
    ),
]  # fmt: skip
