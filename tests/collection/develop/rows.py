"""Faults of the data: scale, labels, shares, order, splits; and wasted time."""

import json

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from pytest_mltrainer import Config, Splits, Task

from .. import samples
from ..cases import Case, Outcome, inflated, last_worse, patch, settings, worse
from ..samples import Parts, Rows


class WineRaw(Task):
    """Wine as it is in the table: proline in the hundreds, hue near 1."""

    scaled = False

    def model(self, config: Config) -> nn.Module:
        width = config.model["width"]
        return nn.Sequential(nn.Linear(13, width), nn.Tanh(), nn.Linear(width, 3))

    def data(self, config: Config) -> Splits:
        x, y = samples.load("wine")
        parts = samples.divided(x, y, config.seed)
        return (parts.standardised() if self.scaled else parts).splits()


class WineScaled(WineRaw):
    scaled = True


class MixedLabels(Task):
    """Digits labelled by a crowd: two in five training labels are any digit."""

    wrong = 0.45

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def data(self, config: Config) -> Splits:
        parts = samples.digits(config.seed)
        draw = np.random.default_rng(config.seed)
        labels = parts.train.y.copy()
        chosen = draw.random(len(labels)) < self.wrong
        labels[chosen] = draw.integers(0, 10, chosen.sum())
        return Parts(Rows(parts.train.x, labels), parts.validation, parts.test).splits()


class CleanLabels(MixedLabels):
    wrong = 0.0


class RareFault(Task):
    """One part in thirty is faulty, and looks almost like the others."""

    def model(self, config: Config) -> nn.Module:
        width = config.model["width"]
        return nn.Sequential(nn.Linear(12, width), nn.ReLU(), nn.Linear(width, 2))

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        y = (draw.random(2400) < 0.035).astype(np.int64)
        x = draw.normal(size=(len(y), 12))
        x[:, :4] += 0.75 * y[:, None]
        return samples.divided(x, y, config.seed).splits()


class Oversampled(Task):
    """The rare class is repeated until it is as frequent, and only then is the table divided."""

    divided_first = False

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Linear(12, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU(), nn.Linear(96, 2)
        )

    def data(self, config: Config) -> Splits:
        x, y = samples.table(config.seed, rows=700, classes=2, apart=0.3, share=[0.85, 0.15])
        if self.divided_first:
            parts = samples.divided(x, y, config.seed)
            return parts.each(self.balanced).splits()
        return samples.divided(*self.balanced(x, y), config.seed).splits()

    def balanced(self, x: samples.Array, y: samples.Array) -> tuple[samples.Array, samples.Array]:
        rare = np.flatnonzero(y == 1)
        rows = np.concatenate([np.flatnonzero(y == 0), np.resize(rare, (y == 0).sum())])
        return x[rows], y[rows]


class DividedFirst(Oversampled):
    divided_first = True


class DischargeCode(Task):
    """A column that is written after the outcome is known."""

    leaks = True

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, 2))

    def data(self, config: Config) -> Splits:
        x, y = samples.table(config.seed, rows=1000, classes=2, apart=0.3)
        draw = np.random.default_rng(config.seed)
        code = y + 0.02 * draw.normal(size=len(y)) if self.leaks else draw.normal(size=len(y))
        return samples.divided(np.column_stack([x, code]), y, config.seed).splits()


class WithoutCode(DischargeCode):
    leaks = False


class SortedDigits(Task):
    """Digits sorted by class in the file, and read in that order."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, 10),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        parts = samples.digits(config.seed, image=True)
        order = np.argsort(parts.train.y, kind="stable")
        train = Rows(parts.train.x[order], parts.train.y[order])
        return Parts(train, parts.validation, parts.test).splits()


class OtherTransform(Task):
    """Training is standardised, validation is not: the call was forgotten."""

    everywhere = False

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(30, 32), nn.ReLU(), nn.Linear(32, 2))

    def data(self, config: Config) -> Splits:
        x, y = samples.load("breast_cancer")
        raw = samples.divided(x, y, config.seed)
        scaled = raw.standardised()
        if self.everywhere:
            return scaled.splits()
        return Parts(scaled.train, raw.validation, raw.test).splits()


class SameTransform(OtherTransform):
    everywhere = True


class CutByClass(Task):
    """The file is sorted by class and cut into three without drawing: new classes in validation."""

    drawn = False

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 6))

    def data(self, config: Config) -> Splits:
        x, y = samples.table(config.seed, rows=900, columns=16, classes=6)
        order = np.argsort(y, kind="stable")
        if self.drawn:
            return samples.divided(x, y, config.seed).splits()
        return samples.cut(x[order], y[order]).splits()


class Drawn(CutByClass):
    drawn = True


class ParsedEachTime(Dataset):
    """Rows kept as text and parsed whenever one is wanted."""

    def __init__(self, rows: Rows, *, parsed_once: bool) -> None:
        self.targets = torch.from_numpy(rows.y)
        self.lines = [json.dumps({"pixels": [list(map(float, row))] * 40}) for row in rows.x]
        self.kept = [self.parse(line) for line in self.lines] if parsed_once else None

    def parse(self, line: str) -> torch.Tensor:
        return torch.tensor(json.loads(line)["pixels"][0])

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        row = self.kept[index] if self.kept else self.parse(self.lines[index])
        return row, self.targets[index]


class SlowRows(Task):
    parsed_once = False

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def data(self, config: Config) -> Splits:
        parts = samples.digits(config.seed, train=0.5)
        return Splits(**{
            name: ParsedEachTime(getattr(parts, name), parsed_once=self.parsed_once)
            for name in ("train", "validation", "test")
        })  # fmt: skip


class QuickRows(SlowRows):
    parsed_once = True


def waits(run: Outcome, twin: Outcome | None) -> str:
    """Most of the time goes into waiting for data, and the twin needs far less."""
    assert twin is not None
    if run.waiting > 0.6 and run.waiting > twin.waiting + 0.15:
        return ""
    return f"waiting {run.waiting:.2f}, twin {twin.waiting:.2f}"


CASES = [
    Case(
        id="wine_raw", label="unnormalized_data", build=WineRaw,
        config=settings(model={"width": 32}), twin=WineScaled, verify=worse(0.1),
        notes="columns whose scales are 1,000 apart",
    ),
    Case(
        id="digits_mixed_labels", label="label_noise", build=MixedLabels,
        config=settings(epochs=20), twin=CleanLabels, verify=last_worse(0.06),
        notes="45 % of the training labels are drawn, validation is clean",
    ),
    Case(
        id="rare_fault", label="class_imbalance", build=RareFault,
        config=settings(model={"width": 24}, metric="balanced_accuracy", epochs=8,
                        learning_rate=0.001),
        twin_config=patch(training={"class_weights": "balanced"}), verify=worse(0.1),
        notes="3.5 % of the parts, hardly apart: none is ever found",
    ),
    Case(
        id="oversampled_before_split", label="data_leakage", build=Oversampled,
        config=settings(epochs=25), twin=DividedFirst, verify=inflated(0.1),
        notes="copies of the same rare rows in training and validation",
    ),
    Case(
        id="discharge_code", label="data_leakage", build=DischargeCode, config=settings(epochs=10),
        twin=WithoutCode, verify=inflated(0.08), notes="the last column is the target with noise",
    ),
    Case(
        id="digits_sorted", label="unshuffled_data", build=SortedDigits,
        config=settings(shuffle=False, epochs=8),
        twin_config=patch(training={"shuffle": True}), verify=last_worse(0.1),
        notes="batches of one class after another",
    ),
    Case(
        id="cancer_other_transform", label="train_val_skew", build=OtherTransform,
        config=settings(epochs=10), twin=SameTransform, verify=last_worse(0.1),
        notes="validation is not standardised",
    ),
    Case(
        id="table_cut_by_class", label="train_val_skew", build=CutByClass,
        config=settings(epochs=10), twin=Drawn, verify=last_worse(0.3),
        notes="training has the first classes, validation the next",
    ),
    Case(
        id="digits_parsed_each_time", label="resource_inefficiency", build=SlowRows,
        config=settings(epochs=5, learning_rate=0.01), twin=QuickRows, verify=waits,
        notes="every row is parsed from text in each epoch",
    ),
]  # fmt: skip
