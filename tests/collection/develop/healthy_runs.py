"""Healthy programs that look odd: nothing may be said about them."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from pytest_mltrainer import Config, Splits, Task
from pytest_mltrainer.training.session import TrainingSession

from .. import samples
from ..cases import HEALTHY, Case, reaches, settings


class DroppedDigits(Task):
    """Strong dropout: the training score is below that of validation."""

    def model(self, config: Config) -> nn.Module:
        width, dropout = config.model["width"], config.model["dropout"]
        return nn.Sequential(
            nn.Linear(64, width), nn.ReLU(), nn.Dropout(dropout),
            nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 10),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        return samples.digits(config.seed).splits()


class EasyTable(Task):
    """Classes far apart: validation is near 100 % at once."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(12, config.model["width"]), nn.ReLU(),
                             nn.Linear(config.model["width"], 3))  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = samples.table(config.seed, apart=2.5)
        return samples.divided(x, y, config.seed).splits()


class NormFirst(Task):
    """Raw columns of all scales go into a batch norm first."""

    def model(self, config: Config) -> nn.Module:
        width = config.model["width"]
        return nn.Sequential(
            nn.BatchNorm1d(30), nn.Linear(30, width), nn.ReLU(), nn.Linear(width, 2)
        )

    def data(self, config: Config) -> Splits:
        x, y = samples.load("breast_cancer")
        return samples.divided(x, y, config.seed).splits()


class SmallBatches(Task):
    """Batches of four: the loss of a step says little."""

    def model(self, config: Config) -> nn.Module:
        width = config.model["width"]
        return nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(), nn.Flatten(),
            nn.Linear(32 * width, 10),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        return samples.digits(config.seed, image=True).splits()


class NoisyLine(Task):
    """A regression at the ceiling that its noise sets: R2 of 0.65 is all there is."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        width = config.model["width"]
        return nn.Sequential(nn.Linear(10, width), nn.ReLU(), nn.Linear(width, 1))

    def data(self, config: Config) -> Splits:
        x, y = samples.straight(config.seed, rows=1500, noise=0.7)
        return samples.divided(x, y, config.seed).splits()


class FrozenFeatures(Task):
    """Random convolutional features, frozen on purpose, under a trained head."""

    def model(self, config: Config) -> nn.Module:
        features = nn.Sequential(
            nn.Conv2d(1, 48, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(),
        )  # fmt: skip
        features.requires_grad_(False)
        return nn.Sequential(features, nn.Linear(48 * 16, 10))

    def data(self, config: Config) -> Splits:
        return samples.digits(config.seed, image=True).splits()


class ZeroHead(Task):
    """The last layer starts at zero, so that the first outputs are the mean."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        width = config.model["width"]
        net = nn.Sequential(
            nn.Linear(8, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1)
        )
        nn.init.zeros_(net[4].weight)
        nn.init.zeros_(net[4].bias)
        return net

    def data(self, config: Config) -> Splits:
        x, y = samples.curved(config.seed, rows=2000, noise=0.2)
        return samples.divided(x, y, config.seed).splits()


class OneInTen(Task):
    """One in ten is positive, and clearly so."""

    def model(self, config: Config) -> nn.Module:
        width = config.model["width"]
        return nn.Sequential(nn.Linear(12, width), nn.ReLU(), nn.Linear(width, 2))

    def data(self, config: Config) -> Splits:
        x, y = samples.table(config.seed, rows=1500, classes=2, apart=1.2, share=[0.9, 0.1])
        return samples.divided(x, y, config.seed).splits()


class Bytes(Task):
    """Pictures as bytes; the model makes numbers of them."""

    def model(self, config: Config) -> nn.Module:
        return FromBytes(config.model["width"])

    def data(self, config: Config) -> Splits:
        x, y = samples.shapes(config.seed, rows=1200)
        return samples.divided((255 * x).astype(np.uint8), y, config.seed).splits()


class FromBytes(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(2 * width, 4),
        )  # fmt: skip

    def forward(self, pictures: Tensor) -> Tensor:
        return self.net(pictures.float() / 255 - 0.5)


class OwnLoop(Task):
    """A loop of one's own with two batches an update and a clip, over a GRU."""

    def model(self, config: Config) -> nn.Module:
        return LastState(config.model["width"])

    def data(self, config: Config) -> Splits:
        x, y = samples.waves(config.seed, rows=900)
        return samples.divided(x, y, config.seed).splits()

    def train(self, session: TrainingSession) -> None:
        for epoch in session.epochs():
            for inputs, targets in session.batches():
                loss = session.loss(inputs, targets)
                (loss / session.accumulated()).backward()
                if session.is_update():
                    session.update()
            session.finish_epoch(epoch)


class LastState(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(1, width, batch_first=True)
        self.head = nn.Linear(width, 3)

    def forward(self, series: Tensor) -> Tensor:
        return self.head(self.gru(series)[1][-1])


class BagOfWords(Task):
    """An embedding bag: words that a batch does not hold have no gradient there."""

    def model(self, config: Config) -> nn.Module:
        return Bag(config.model["width"])

    def data(self, config: Config) -> Splits:
        x, y = samples.texts(config.seed, rows=1500, words=400, topical=0.5)
        return samples.divided(x, y, config.seed).splits()


class Bag(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(400, width, mode="mean")
        self.head = nn.Linear(width, 4)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.bag(words))


class Augmented(Dataset):
    """Pictures shifted at random when training."""

    def __init__(self, rows: samples.Rows, *, shifts: bool) -> None:
        self.rows, self.shifts = rows.tensors(), shifts

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        picture, label = self.rows[index]
        if self.shifts:
            by = torch.randint(-1, 2, (2,)).tolist()
            picture = torch.roll(picture, by, (1, 2))
        return picture, label


class ShiftedDigits(SmallBatches):
    def data(self, config: Config) -> Splits:
        parts = samples.digits(config.seed, image=True)
        return Splits(
            train=Augmented(parts.train, shifts=True),
            validation=Augmented(parts.validation, shifts=False),
            test=Augmented(parts.test, shifts=False),
        )


class Tags(Task):
    """Every word gets a tag; a GRU that reads to the left has all it needs."""

    kind = "sequence"

    def model(self, config: Config) -> nn.Module:
        return Tagger(config.model["width"])

    def data(self, config: Config) -> Splits:
        x, y = samples.tagged(config.seed, rows=800)
        return samples.divided(x, y, config.seed).splits()


class Tagger(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(12, width)
        self.gru = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, 4)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.gru(self.embed(words))[0])


CASES = [
    Case(
        id="ok_strong_dropout", label=HEALTHY, build=DroppedDigits, verify=reaches(0.93),
        config=settings(model={"width": 96, "dropout": 0.5}, epochs=15),
        notes="training score below validation",
    ),
    Case(
        id="ok_easy_table", label=HEALTHY, build=EasyTable, verify=reaches(0.97),
        config=settings(model={"width": 24}, epochs=8), notes="validation near 100 %",
    ),
    Case(
        id="ok_norm_first", label=HEALTHY, build=NormFirst, verify=reaches(0.93),
        config=settings(model={"width": 16}, epochs=10, weight_decay=0.001),
        notes="raw inputs before a batch norm",
    ),
    Case(
        id="ok_small_batches", label=HEALTHY, build=SmallBatches, verify=reaches(0.93),
        config=settings(model={"width": 8}, batch_size=4, learning_rate=0.001, epochs=5),
        notes="the noise of batches of four; few epochs",
    ),
    Case(
        id="ok_noisy_line", label=HEALTHY, build=NoisyLine, verify=reaches(0.55, below_linear=0.04),
        config=settings(model={"width": 16}, epochs=15, learning_rate=0.002, weight_decay=0.001),
        notes="regression at the ceiling of its noise",
    ),
    Case(
        id="ok_frozen_features", label=HEALTHY, build=FrozenFeatures, verify=reaches(0.93),
        config=settings(epochs=12), notes="a frozen random feature layer",
    ),
    Case(
        id="ok_zero_head_cosine", label=HEALTHY, build=ZeroHead, verify=reaches(0.85),
        config=settings(model={"width": 48}, epochs=20, scheduler="cosine", warmup_steps=20),
        notes="last layer of zeros, warm-up, rate 0 at the end",
    ),
    Case(
        id="ok_one_in_ten", label=HEALTHY, build=OneInTen, verify=reaches(0.95),
        config=settings(model={"width": 16}, epochs=8), notes="90 to 10, learned well",
    ),
    Case(
        id="ok_bytes", label=HEALTHY, build=Bytes, verify=reaches(0.85),
        config=settings(model={"width": 12}, epochs=8), notes="uint8 pictures",
    ),
    Case(
        id="ok_own_loop", label=HEALTHY, build=OwnLoop, verify=reaches(0.85),
        config=settings(model={"width": 32}, epochs=15, accumulate=2, clip_norm=1.0, batch_size=16),
        notes="own loop, accumulation, clipping",
    ),
    Case(
        id="ok_bag_of_words", label=HEALTHY, build=BagOfWords, verify=reaches(0.9),
        config=settings(model={"width": 24}, epochs=10, learning_rate=0.01),
        notes="embedding rows without a gradient in most steps",
    ),
    Case(
        id="ok_shifted_digits", label=HEALTHY, build=ShiftedDigits, verify=reaches(0.93),
        config=settings(model={"width": 8}, epochs=12, scheduler="onecycle", learning_rate=0.01),
        notes="augmented training, one cycle",
    ),
    Case(
        id="ok_tags", label=HEALTHY, build=Tags, verify=reaches(0.9),
        config=settings(model={"width": 32}, epochs=12, learning_rate=0.005),
        notes="a sequence of tags",
    ),
]  # fmt: skip
