"""Small data sets: scikit-learn's own and generated ones, divided into three splits."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from pytest_mltrainer import Splits

Array = np.ndarray


@dataclass(frozen=True, slots=True)
class Rows:
    """Inputs and targets of one split."""

    x: Array
    y: Array

    def tensors(self) -> TensorDataset:
        return TensorDataset(as_tensor(self.x), as_tensor(self.y))


@dataclass(frozen=True, slots=True)
class Parts:
    """The three splits as arrays."""

    train: Rows
    validation: Rows
    test: Rows

    def each(self, change: Callable[[Array, Array], tuple[Array, Array]]) -> "Parts":
        """The parts with inputs and targets of each changed alike."""
        return Parts(
            *(Rows(*change(part.x, part.y)) for part in (self.train, self.validation, self.test))
        )

    def standardised(self) -> "Parts":
        """Every column to mean 0 and deviation 1 by the training rows."""
        mean, std = self.train.x.mean(0), self.train.x.std(0) + 1e-6
        return self.each(lambda x, y: ((x - mean) / std, y))

    def targets_standardised(self) -> "Parts":
        """The targets to mean 0 and deviation 1 by the training rows."""
        mean, std = self.train.y.mean(), self.train.y.std()
        return self.each(lambda x, y: (x, (y - mean) / std))

    def splits(self) -> Splits:
        return Splits(
            train=self.train.tensors(),
            validation=self.validation.tensors(),
            test=self.test.tensors(),
        )


def as_tensor(values: Array) -> Tensor:
    """Whole numbers as int64, others as float32, bytes as they are."""
    if values.dtype == np.uint8:
        return torch.from_numpy(values)
    whole = np.issubdtype(values.dtype, np.integer)
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64 if whole else np.float32))


def divided(
    x: Array, y: Array, seed: int = 0, *, train: float = 0.6, validation: float = 0.25
) -> Parts:
    """Random rows for each split, by their shares."""
    order = np.random.default_rng(seed).permutation(len(x))
    return cut(x[order], y[order], train=train, validation=validation)


def cut(x: Array, y: Array, *, train: float = 0.6, validation: float = 0.25) -> Parts:
    """The first rows for training, the next for validation, the rest for the test."""
    first, second = int(train * len(x)), int((train + validation) * len(x))
    return Parts(
        Rows(x[:first], y[:first]),
        Rows(x[first:second], y[first:second]),
        Rows(x[second:], y[second:]),
    )


@functools.cache
def load(name: str) -> tuple[Array, Array]:
    """`digits`, `wine`, `breast_cancer`, `iris`, `diabetes` or `linnerud` of scikit-learn."""
    from sklearn import datasets

    options = {"scaled": False} if name == "diabetes" else {}
    bunch = getattr(datasets, f"load_{name}")(**options)
    return bunch.data.astype(np.float32), bunch.target


def digits(seed: int = 0, *, image: bool = False, train: float = 0.6) -> Parts:
    """Handwritten digits, pixels from 0 to 1."""
    x, y = load("digits")
    x = x / 16
    return divided(x.reshape(-1, 1, 8, 8) if image else x, y, seed, train=train)


def table(
    seed: int,
    *,
    rows: int = 900,
    columns: int = 12,
    classes: int = 3,
    apart: float = 1.0,
    share: list[float] | None = None,
) -> tuple[Array, Array]:
    """Classes of normal points around random centres `apart` standard deviations from zero."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(classes, columns)) * apart
    labels = draw.choice(classes, size=rows, p=share)
    return centres[labels] + draw.normal(size=(rows, columns)), labels


def rings(seed: int, *, rows: int = 900, columns: int = 6) -> tuple[Array, Array]:
    """Three classes by distance from the centre: no linear model can tell them apart."""
    x = np.random.default_rng(seed).normal(size=(rows, columns))
    radius = (x[:, :3] ** 2).sum(1)
    return x, np.digitize(radius, np.quantile(radius, [1 / 3, 2 / 3]))


def curved(
    seed: int, *, rows: int = 800, columns: int = 8, noise: float = 0.3
) -> tuple[Array, Array]:
    """A smooth curved function of the first columns, deviation near 1, plus noise."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(rows, columns))
    y = np.sin(2 * x[:, 0]) + 0.5 * x[:, 1] * x[:, 2] + 0.5 * x[:, 3]
    return x, y + noise * draw.normal(size=rows)


def straight(
    seed: int, *, rows: int = 600, columns: int = 10, noise: float = 0.5
) -> tuple[Array, Array]:
    """A linear function of the columns, plus noise."""
    draw = np.random.default_rng(seed)
    x, weights = draw.normal(size=(rows, columns)), draw.normal(size=columns)
    return x, x @ weights / np.linalg.norm(weights) + noise * draw.normal(size=rows)


def shapes(
    seed: int, *, rows: int = 700, size: int = 12, noise: float = 0.25
) -> tuple[Array, Array]:
    """Pictures (1, size, size) of a bar, a column, a square or a cross at a random place."""
    draw = np.random.default_rng(seed)
    x = noise * np.abs(draw.normal(size=(rows, 1, size, size)))
    y = draw.integers(0, 4, rows)
    for picture, kind in zip(x[:, 0], y, strict=True):
        top, left = draw.integers(0, size - 4, 2)
        patch = np.zeros((5, 5))
        if kind in (0, 3):
            patch[2] = 1
        if kind in (1, 3):
            patch[:, 2] = 1
        if kind == 2:
            patch[[0, 4]] = 1
            patch[:, [0, 4]] = 1
        picture[top : top + 5, left : left + 5] += patch
    return np.clip(x, 0, 1), y


def waves(
    seed: int, *, rows: int = 600, steps: int = 24, classes: int = 3, noise: float = 0.3
) -> tuple[Array, Array]:
    """Series (steps, 1): sines whose frequency is the class, at random phase."""
    draw = np.random.default_rng(seed)
    y = draw.integers(0, classes, rows)
    phase = draw.uniform(0, 2 * np.pi, rows)
    time = np.arange(steps) / steps
    series = np.sin(2 * np.pi * (1.5 * y[:, None] + 1) * time + phase[:, None])
    return (series + noise * draw.normal(size=series.shape))[..., None], y


def texts(
    seed: int,
    *,
    rows: int = 800,
    length: int = 16,
    words: int = 120,
    classes: int = 4,
    topical: float = 0.3,
) -> tuple[Array, Array]:
    """Word ids (length,), 1 and above; a share of the words belongs to the class's own tenth."""
    draw = np.random.default_rng(seed)
    y = draw.integers(0, classes, rows)
    own = words // (2 * classes)
    common = draw.integers(1, words, (rows, length))
    topic = 1 + y[:, None] * own + draw.integers(0, own, (rows, length))
    return np.where(draw.random((rows, length)) < topical, topic, common), y


def tagged(seed: int, *, rows: int = 400, length: int = 14, words: int = 12) -> tuple[Array, Array]:
    """Sequences of words, each tagged by the sum of itself and the one before, modulo 4."""
    x = np.random.default_rng(seed).integers(0, words, (rows, length))
    before = np.concatenate([np.zeros((rows, 1), dtype=x.dtype), x[:, :-1]], axis=1)
    return x, (x + before) % 4


def several_labels(
    seed: int, *, rows: int = 700, columns: int = 16, labels: int = 5, noise: float = 0.3
) -> tuple[Array, Array]:
    """Each label is the sign of a sum of columns, with noise."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(rows, columns))
    score = x @ draw.normal(size=(columns, labels)) / np.sqrt(columns)
    return x, (score + noise * draw.normal(size=score.shape) > 0).astype(np.float32)
