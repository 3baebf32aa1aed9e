"""Faults of scale, labels, shares, order and splits; waste."""

import zlib

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from pytest_mltrainer import Config, Splits, Task
from pytest_mltrainer.training.session import TrainingSession

from .. import samples
from ..cases import Case, Outcome, inflated, last_worse, patch, settings, worse
from ..samples import Parts, Rows


class Sensors(Task):
    """Pressure in pascal beside temperature in degrees, over time."""

    scaled = False

    def model(self, config: Config) -> nn.Module:
        return Reader(2, config.model["hidden"], 3)

    def data(self, config: Config) -> Splits:
        x, y = samples.waves(config.seed, rows=600)
        draw = np.random.default_rng(config.seed)
        pressure = 101_325 + 900 * draw.normal(size=x.shape)
        both = np.concatenate([pressure, 20 + 8 * x], axis=2)
        parts = samples.divided(both, y, config.seed)
        if self.scaled:
            mean, std = parts.train.x.mean((0, 1)), parts.train.x.std((0, 1))
            parts = parts.each(lambda x, y: ((x - mean) / std, y))
        return parts.splits()


class Reader(nn.Module):
    def __init__(self, columns: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.rnn = nn.LSTM(columns, hidden, batch_first=True)
        self.head = nn.Linear(hidden, outputs)

    def forward(self, series: Tensor) -> Tensor:
        return self.head(self.rnn(series)[0].mean(1))


class SensorsScaled(Sensors):
    scaled = True


class Houses(Task):
    """Income in dollars, rooms, and age, for a price in units of its own deviation."""

    kind = "regression"
    scaled = False

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(),
                             nn.Linear(32, 1))  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = samples.straight(config.seed, rows=900, columns=6, noise=0.4)
        units = np.array([18_000.0, 1.2, 12.0, 4.0, 1_100.0, 0.1])
        raw = samples.divided(x * units + 3 * units, y, config.seed)
        return (raw.standardised() if self.scaled else raw).splits()


class HousesScaled(Houses):
    scaled = True


class SwappedShapes(Task):
    """Half of the bars were labelled as columns and the other way round, in training."""

    wrong = 0.42

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(12, 24, 3),
            nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(24, 4),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = samples.shapes(config.seed, rows=500)
        parts = samples.divided(x, y, config.seed)
        draw = np.random.default_rng(config.seed)
        wrong = draw.random(len(parts.train.y)) < self.wrong
        labels = np.where(wrong, (parts.train.y + draw.integers(1, 4, len(wrong))) % 4,
                          parts.train.y)  # fmt: skip
        return Parts(Rows(parts.train.x, labels), parts.validation, parts.test).splits()


class RightShapes(SwappedShapes):
    wrong = 0.0


class TumoursFlipped(Task):
    """A third of the training diagnoses were entered by the wrong code."""

    wrong = 0.35

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 2))

    def data(self, config: Config) -> Splits:
        x, y = samples.load("breast_cancer")
        parts = samples.divided(x, y, config.seed).standardised()
        flipped = np.random.default_rng(config.seed).random(len(parts.train.y)) < self.wrong
        labels = np.where(flipped, 1 - parts.train.y, parts.train.y)
        return Parts(Rows(parts.train.x, labels), parts.validation, parts.test).splits()


class TumoursRight(TumoursFlipped):
    wrong = 0.0


class RareRhythm(Task):
    """One series in thirty has the rare frequency, under much noise."""

    def model(self, config: Config) -> nn.Module:
        return Reader(1, config.model["hidden"], 2)

    def data(self, config: Config) -> Splits:
        x, y = samples.waves(config.seed, rows=4200, classes=2, noise=1.0, steps=16)
        draw = np.random.default_rng(config.seed)
        kept = (y == 0) | (draw.random(len(y)) < 0.035)
        return samples.divided(x[kept], y[kept], config.seed).splits()


class RareShapes(Task):
    """Four shapes, of which crosses are 2 %."""

    def model(self, config: Config) -> nn.Module:
        width = config.model["width"]
        return nn.Sequential(
            nn.Conv2d(1, width, 5, padding=2), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
            nn.Linear(width, 4),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = samples.shapes(config.seed, rows=2400, noise=0.3)
        draw = np.random.default_rng(config.seed)
        kept = (y != 3) | (draw.random(len(y)) < 0.06)
        return samples.divided(x[kept], y[kept], config.seed).splits()


class Speakers(Task):
    """Many recordings of each speaker, divided by recording."""

    by_speaker = False

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(24, 96), nn.ReLU(), nn.Linear(96, 2))

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        speaker = np.repeat(np.arange(60), 15)
        voices, sick = draw.normal(size=(60, 24)), draw.integers(0, 2, 60)
        x = voices[speaker] + 0.3 * draw.normal(size=(900, 24))
        x[:, 0] += 0.8 * sick[speaker]
        order = draw.permutation(900)
        if self.by_speaker:
            order = np.argsort(draw.permutation(60)[speaker], kind="stable")
        self.speakers = speaker[order]
        return samples.cut(x[order], sick[speaker][order]).splits()

    def sample_key(self, split: str, index: int) -> str | None:
        start = {"train": 0, "validation": 540, "test": 765}[split]
        return f"speaker {self.speakers[start + index]}"


class SpeakersApart(Speakers):
    by_speaker = True


class JitteredCopies(Task):
    """Each picture is augmented four times, then the whole is divided."""

    divided_first = False

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(144, 128), nn.ReLU(), nn.Linear(128, 4))

    def data(self, config: Config) -> Splits:
        x, y = samples.shapes(config.seed, rows=260, noise=0.3)
        if self.divided_first:
            parts = samples.divided(x, y, config.seed)
            return parts.each(lambda x, y: self.copied(x, y, config.seed)).splits()
        return samples.divided(*self.copied(x, y, config.seed), config.seed).splits()

    def copied(
        self, x: samples.Array, y: samples.Array, seed: int
    ) -> tuple[samples.Array, samples.Array]:
        noise = np.random.default_rng(seed).normal(size=(4 * len(x), *x.shape[1:]))
        return np.tile(x, (4, 1, 1, 1)) + 0.01 * noise, np.tile(y, 4)


class CopiedAfterwards(JitteredCopies):
    divided_first = True


class WavesByKind(Task):
    """Recordings stand in the file kind by kind."""

    def model(self, config: Config) -> nn.Module:
        return Reader(1, config.model["hidden"], 3)

    def data(self, config: Config) -> Splits:
        x, y = samples.waves(config.seed, rows=900)
        parts = samples.divided(x, y, config.seed)
        order = np.argsort(parts.train.y, kind="stable")
        return Parts(
            Rows(parts.train.x[order], parts.train.y[order]), parts.validation, parts.test
        ).splits()


class RowsByPrice(Task):
    """A table exported in order of the price that is to be predicted."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(8, 48), nn.Tanh(), nn.Linear(48, 1))

    def data(self, config: Config) -> Splits:
        x, y = samples.curved(config.seed, rows=1000)
        parts = samples.divided(x, y, config.seed)
        order = np.argsort(parts.train.y)
        return Parts(
            Rows(parts.train.x[order], parts.train.y[order]), parts.validation, parts.test
        ).splits()


class InvertedScans(Task):
    """Validation was scanned elsewhere: white on black there, black on white here."""

    inverted = True

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(128, 10),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        parts = samples.digits(config.seed, image=True)
        if not self.inverted:
            return parts.splits()
        other = Rows(1 - parts.validation.x, parts.validation.y)
        return Parts(parts.train, other, Rows(1 - parts.test.x, parts.test.y)).splits()


class SameScans(InvertedScans):
    inverted = False


class DriftingMarket(Task):
    """Rows in order of time; four sensors lose their calibration, and validation is the future."""

    kind = "regression"
    drift = 4.0

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 1))

    def data(self, config: Config) -> Splits:
        x, y = samples.curved(config.seed, rows=1000, noise=0.2)
        x = x.copy()
        x[:, :4] += self.drift * np.linspace(0, 1, len(x))[:, None] ** 2
        return samples.cut(x, y).splits()


class SteadyMarket(DriftingMarket):
    drift = 0.0


class Zipped(Dataset):
    """Rows in a compressed archive; each access unpacks all of it."""

    def __init__(self, rows: Rows, *, archive: bool) -> None:
        self.rows = rows.tensors()
        self.shape = rows.x.shape
        self.packed = zlib.compress(rows.x.astype(np.float64).tobytes()) if archive else None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        row, label = self.rows[index]
        if self.packed is not None:
            unpacked = np.frombuffer(zlib.decompress(self.packed)).reshape(self.shape)
            row = torch.from_numpy(unpacked[index].astype(np.float32))
        return row, label


class Archive(Task):
    archive = True

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 3))

    def data(self, config: Config) -> Splits:
        x, y = samples.table(config.seed, rows=700, columns=64, apart=0.7)
        parts = samples.divided(x, y, config.seed)
        named = {name: getattr(parts, name) for name in ("train", "validation", "test")}
        return Splits(**{name: Zipped(part, archive=self.archive) for name, part in named.items()})


class Unpacked(Archive):
    archive = False


class KeepsGraphs(Task):
    """Adds up the loss for a report without `item()`: every graph stays in memory."""

    keeps = True

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 8, 3, stride=2), nn.ReLU(),
            nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(32, 4),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = samples.shapes(config.seed, rows=700)
        return samples.divided(x, y, config.seed).splits()

    def train(self, session: TrainingSession) -> None:
        total: Tensor | float = 0.0
        for epoch in session.epochs():
            for inputs, targets in session.batches():
                loss = session.loss(inputs, targets)
                loss.backward(retain_graph=self.keeps)
                total = total + (loss if self.keeps else float(loss))
                session.update()
            session.finish_epoch(epoch)


class ForgetsGraphs(KeepsGraphs):
    keeps = False


def waits(run: Outcome, twin: Outcome | None) -> str:
    """Most of the time goes into waiting for data, far more than the twin's."""
    assert twin is not None
    if run.waiting > 0.6 and run.waiting > twin.waiting + 0.15:
        return ""
    return f"waiting {run.waiting:.2f}, twin {twin.waiting:.2f}"


def grows(run: Outcome, twin: Outcome | None) -> str:
    """The memory at its peak is at least 100 MB above the twin's."""
    assert twin is not None
    more = run.memory_mb - twin.memory_mb
    return "" if more > 100 else f"{more:.0f} MB more than the twin"


CASES = [
    Case(
        id="sensors_in_pascal", label="unnormalized_data", build=Sensors,
        config=settings(model={"hidden": 24}, epochs=10), twin=SensorsScaled, verify=worse(0.2),
        notes="a column at 100,000 saturates the gates",
    ),
    Case(
        id="houses_in_dollars", label="unnormalized_data", build=Houses,
        config=settings(epochs=12, learning_rate=0.001), twin=HousesScaled, verify=worse(0.1),
        notes="columns from 0.1 to 18,000",
    ),
    Case(
        id="shapes_swapped_labels", label="label_noise", build=SwappedShapes,
        config=settings(epochs=35), twin=RightShapes, verify=last_worse(0.05),
        notes="42 % of the training labels are another class",
    ),
    Case(
        id="tumours_flipped", label="label_noise", build=TumoursFlipped,
        config=settings(epochs=30), twin=TumoursRight, verify=last_worse(0.05),
        notes="35 % of the training labels flipped",
    ),
    Case(
        id="rare_rhythm", label="class_imbalance", build=RareRhythm,
        config=settings(model={"hidden": 16}, metric="balanced_accuracy", epochs=4),
        twin_config=patch(training={"class_weights": "balanced", "epochs": 12}), verify=worse(0.1),
        notes="3.5 % of one class",
    ),
    Case(
        id="rare_crosses", label="class_imbalance", build=RareShapes,
        config=settings(model={"width": 12}, metric="balanced_accuracy", epochs=6),
        twin_config=patch(training={"class_weights": "balanced", "epochs": 20}),
        verify=worse(0.1),
        notes="2 % of one class of four",
    ),
    Case(
        id="speakers_in_both", label="data_leakage", build=Speakers, config=settings(epochs=15),
        twin=SpeakersApart, verify=inflated(0.15), notes="the same speakers in each split",
    ),
    Case(
        id="jittered_copies", label="data_leakage", build=JitteredCopies,
        config=settings(epochs=20), twin=CopiedAfterwards, verify=inflated(0.1),
        notes="near-duplicates in each split",
    ),
    Case(
        id="waves_by_kind", label="unshuffled_data", build=WavesByKind,
        config=settings(model={"hidden": 24}, shuffle=False, epochs=10, learning_rate=0.01),
        twin_config=patch(training={"shuffle": True}), verify=last_worse(0.1),
        notes="sorted by kind, read in order",
    ),
    Case(
        id="rows_by_price", label="unshuffled_data", build=RowsByPrice,
        config=settings(shuffle=False, epochs=10, batch_size=16, learning_rate=0.01),
        twin_config=patch(training={"shuffle": True}), verify=last_worse(0.1),
        notes="sorted by the target, read in order",
    ),
    Case(
        id="digits_inverted_scans", label="train_val_skew", build=InvertedScans,
        config=settings(epochs=10), twin=SameScans, verify=last_worse(0.3),
        notes="validation in negative",
    ),
    Case(
        id="market_drift", label="train_val_skew", build=DriftingMarket, config=settings(epochs=15),
        twin=SteadyMarket, verify=last_worse(0.2), notes="four columns drift over time",
    ),
    Case(
        id="rows_in_archive", label="resource_inefficiency", build=Archive,
        config=settings(epochs=6), twin=Unpacked, verify=waits,
        notes="a whole archive is unpacked for each row",
    ),
    Case(
        id="shapes_graphs_kept", label="resource_inefficiency", build=KeepsGraphs,
        config=settings(epochs=16, learning_rate=0.003), twin=ForgetsGraphs, verify=grows,
        notes="the graphs of all steps are kept alive",
    ),
]  # fmt: skip
