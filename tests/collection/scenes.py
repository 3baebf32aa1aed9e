"""Generated data of more kinds: graphs, pairs, counts, ratings, dense labels, long memories."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from pytest_mltrainer import Splits

from .samples import Array, Parts, as_tensor, divided, load


class Tuples(Dataset[Any]):
    """Samples whose input is a tuple of rows, one of each array."""

    def __init__(self, inputs: Sequence[Array], targets: Array) -> None:
        self.inputs, self.targets = [as_tensor(part) for part in inputs], as_tensor(targets)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
        return tuple(part[index] for part in self.inputs), self.targets[index]


def thirds(make: Callable[[slice], Dataset[Any]], rows: int) -> Splits:
    """Three data sets of the first 60 %, the next 25 % and the last 15 % of rows."""
    first, second = int(0.6 * rows), int(0.85 * rows)
    return Splits(
        train=make(slice(0, first)),
        validation=make(slice(first, second)),
        test=make(slice(second, rows)),
    )


def moons(seed: int, *, rows: int = 800, noise: float = 0.15, idle: int = 4) -> tuple[Array, Array]:
    """Two interleaved half-circles in two columns, and columns that say nothing."""
    from sklearn.datasets import make_moons

    x, y = make_moons(rows, noise=noise, random_state=seed)
    return np.hstack([x, np.random.default_rng(seed).normal(size=(rows, idle))]), y


def regions(seed: int, *, rows: int = 260, size: int = 12) -> tuple[Array, Array]:
    """Noisy pictures (1, size, size) and for each pixel: ground, disc or frame of a box."""
    draw = np.random.default_rng(seed)
    x = 0.3 * draw.normal(size=(rows, 1, size, size))
    y = np.zeros((rows, size, size), dtype=np.int64)
    high, wide = np.mgrid[:size, :size]
    for row in range(rows):
        top, left = draw.uniform(2, size - 3, 2)
        y[row][(high - top) ** 2 + (wide - left) ** 2 < 7] = 1
        top, left = draw.integers(0, size - 5, 2)
        box = np.zeros((size, size), dtype=bool)
        box[top : top + 5, left : left + 5] = True
        box[top + 1 : top + 4, left + 1 : left + 4] = False
        y[row][box] = 2
    x[:, 0] += (y == 1) * 0.9 - (y == 2) * 0.9
    return x, y.reshape(rows, -1)


def graphs(
    seed: int, *, rows: int = 700, nodes: int = 10, links: float = 0.35
) -> tuple[Array, Array, Array]:
    """Node features (nodes, 4), adjacency, and whether linked nodes are mostly alike."""
    draw = np.random.default_rng(seed)
    colour = draw.choice([-1.0, 1.0], size=(rows, nodes))
    alike = colour[:, :, None] * colour[:, None, :]
    y = draw.integers(0, 2, rows)
    chance = links * np.where(alike * (2 * y[:, None, None] - 1) > 0, 1.5, 0.5)
    upper = np.triu(draw.random((rows, nodes, nodes)) < chance, 1)
    adjacency = (upper | upper.transpose(0, 2, 1)).astype(np.float32)
    noise = 0.2 * draw.normal(size=(rows, nodes, 3))
    return np.concatenate([colour[..., None], noise], axis=2), adjacency, y


def counts(seed: int, *, rows: int = 900, columns: int = 6) -> tuple[Array, Array]:
    """Counts whose rate is the exponential of a bent function of the columns."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(rows, columns))
    rate = np.exp(1.5 + 0.6 * np.tanh(x[:, 0] * x[:, 1]) + 0.6 * x[:, 2])
    return x, draw.poisson(np.minimum(rate, 60)).astype(np.float32)


def pairs(
    seed: int, *, rows: int = 900, columns: int = 12, people: int = 40, noise: float = 0.35
) -> tuple[Array, Array]:
    """Two measurements (2, columns) of one person or of two, and which it is."""
    draw = np.random.default_rng(seed)
    faces = draw.normal(size=(people, columns))
    first, other = draw.integers(0, people, (2, rows))
    same = draw.integers(0, 2, rows)
    second = np.where(same == 1, first, np.where(other == first, (other + 1) % people, other))
    x = np.stack([faces[first], faces[second]], axis=1)
    return x + noise * draw.normal(size=x.shape), same


def adding(seed: int, *, rows: int = 900, steps: int = 20) -> tuple[Array, Array]:
    """Series of a number and a mark; the target is the sum of the two marked numbers."""
    draw = np.random.default_rng(seed)
    x = np.zeros((rows, steps, 2))
    x[..., 0] = draw.uniform(-1, 1, (rows, steps))
    y = np.zeros(rows)
    for row in range(rows):
        marked = draw.choice(steps, 2, replace=False)
        x[row, marked, 1] = 1
        y[row] = x[row, marked, 0].sum()
    return x, y


def first_symbol(
    seed: int, *, rows: int = 600, steps: int = 60, kinds: int = 4
) -> tuple[Array, Array]:
    """Series of one-hot symbols and noise; the class is the symbol at the first time."""
    draw = np.random.default_rng(seed)
    y = draw.integers(0, kinds, rows)
    x = 0.3 * draw.normal(size=(rows, steps, kinds))
    x[np.arange(rows), 0, y] += 2
    return x, y


def sensors(
    seed: int, *, rows: int = 600, steps: int = 32, noise: float = 0.6
) -> tuple[Array, Array]:
    """Three channels (3, steps) of waves; which channel runs ahead is the class."""
    draw = np.random.default_rng(seed)
    y = draw.integers(0, 3, rows)
    time = np.arange(steps) / steps * 4 * np.pi
    phase = draw.uniform(0, 2 * np.pi, (rows, 1, 1)) + np.zeros((rows, 3, 1))
    phase[np.arange(rows), y, 0] += 1.2
    x = np.sin(time + phase)
    return x + noise * draw.normal(size=x.shape), y


def ratings(
    seed: int, *, rows: int = 2400, users: int = 60, items: int = 50, noise: float = 0.4
) -> tuple[Array, Array]:
    """User and item (2,) and the rating, from three tastes."""
    draw = np.random.default_rng(seed)
    ids = np.stack([draw.integers(0, users, rows), draw.integers(0, items, rows)], axis=1)
    tastes, kinds = draw.normal(size=(users, 3)), draw.normal(size=(items, 3))
    score = (tastes[ids[:, 0]] * kinds[ids[:, 1]]).sum(1) / 1.7
    return ids, 3 + score + noise * draw.normal(size=rows)


def houses(seed: int, *, rows: int = 900) -> tuple[Array, Array]:
    """Area, rooms, year, income of the quarter, distance, floor in their units; price, 1,000s."""
    draw = np.random.default_rng(seed)
    area = draw.gamma(6, 18, rows) + 20
    rooms = np.clip(np.round(area / 28 + draw.normal(size=rows)), 1, 12)
    year = draw.integers(1900, 2021, rows)
    income = draw.lognormal(10.6, 0.35, rows)
    distance = draw.exponential(8, rows)
    floor = draw.integers(0, 9, rows)
    price = 1.6 * area + 12 * rooms + 0.8 * (year - 1900) + income / 400 - 9 * np.sqrt(distance)
    price = price + 20 * np.sin(floor) + 12 * draw.normal(size=rows)
    return np.stack([area, rooms, year, income, distance, floor], axis=1), price


def spots(seed: int, *, rows: int = 700, size: int = 12, noise: float = 0.3) -> tuple[Array, Array]:
    """Pictures (1, size, size) with one bright spot; the class is its quarter of the picture."""
    draw = np.random.default_rng(seed)
    x = noise * draw.normal(size=(rows, 1, size, size))
    top, left = draw.integers(1, size - 1, (2, rows))
    x[np.arange(rows), 0, top, left] += 2
    x[np.arange(rows), 0, top, left - 1] += 1.5
    return x, 2 * (top >= size // 2) + (left >= size // 2)


INKED = 44
"""The pixels of a digit that most pictures use."""


def inked(seed: int) -> Parts:
    """Digits as inputs and targets, without the pixels that are nearly always blank."""
    x = load("digits")[0] / 16
    pixels = np.sort(np.argsort(-x.std(0), kind="stable")[:INKED])
    return divided(x[:, pixels], x[:, pixels], seed)
