"""Sound programs of less usual kinds: coders, pairs, a flow."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset, TensorDataset

from pytest_mltrainer import Config, Splits, Task

from .. import samples
from ..cases import HEALTHY, Case, reaches, settings

PIXELS = [row * 8 + column for row in range(8) for column in range(2, 6)]
"""Those that no digit leaves white."""


class Variational(nn.Module):
    """The inner pixels of digits through eight uncertain numbers; these follow the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Sequential(nn.Linear(32, 64), nn.ELU(), nn.Linear(64, 16))
        self.out = nn.Sequential(nn.Linear(8, 64), nn.ELU(), nn.Linear(64, 32))

    def forward(self, x: Tensor) -> Tensor:
        mean, log_variance = self.into(x).chunk(2, dim=1)
        code = mean
        if self.training:
            code = mean + torch.randn_like(mean) * torch.exp(log_variance / 2)
        return torch.cat([self.out(code), mean, log_variance], dim=1)


class Coder(Task):
    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return Variational()

    def data(self, config: Config) -> Splits:
        x = samples.load("digits")[0][:, PIXELS] / 16
        return samples.divided(x, x, config.seed).splits()

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        picture, mean, log_variance = outputs.split([32, 8, 8], dim=1)
        error = ((picture - targets) ** 2).sum(1) / 0.05
        distance = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(1)
        return (error + distance).mean()

    def metrics(self, outputs: np.ndarray, targets: np.ndarray) -> Mapping[str, float]:
        return super().metrics(outputs[:, :32], targets)


class Twins(nn.Module):
    """One encoder for both sides; answers how near the two are."""

    margin = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.side = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 16))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        apart = functional.pairwise_distance(self.side(left), self.side(right))
        return torch.stack([apart, 2 * self.margin - apart], dim=1)


class PairRows(Dataset):
    """Two rows and whether they are of one kind."""

    def __init__(self, rows: samples.Rows, seed: int) -> None:
        draw = np.random.default_rng(seed)
        first = np.arange(len(rows.y))
        other = draw.permutation(len(rows.y))
        kinds = {kind: np.flatnonzero(rows.y == kind) for kind in np.unique(rows.y)}
        same = np.array([draw.choice(kinds[kind]) for kind in rows.y])
        second = np.where(draw.random(len(first)) < 0.5, same, other)
        x = torch.tensor(rows.x, dtype=torch.float32)
        label = torch.tensor(rows.y[first] == rows.y[second], dtype=torch.int64)
        self.rows = TensorDataset(x[first], x[second], label)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
        left, right, label = self.rows[index]
        return (left, right), label


class SameDigit(Task):
    """Contrastive: equal digits are drawn together, others pushed over the margin."""

    def model(self, config: Config) -> nn.Module:
        return Twins()

    def predict(self, model: nn.Module, inputs: list[Tensor]) -> Tensor:
        return model(*inputs)

    def data(self, config: Config) -> Splits:
        parts = samples.digits(config.seed)
        seed = config.seed
        return Splits(
            train=PairRows(parts.train, seed),
            validation=PairRows(parts.validation, seed + 1),
            test=PairRows(parts.test, seed + 2),
        )

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        apart, same = outputs[:, 0], targets.float()
        pushed = functional.relu(2 * Twins.margin - apart) ** 2
        return (same * apart**2 + (1 - same) * pushed).mean() / 2


class ByDensity(nn.Module):
    """A flow of two couplings, then a normal density for each class: log p(x, class)."""

    def __init__(self, columns: int, classes: int) -> None:
        super().__init__()
        self.half = columns // 2
        self.steps = nn.ModuleList(
            nn.Sequential(nn.Linear(self.half, 32), nn.Tanh(), nn.Linear(32, 2 * self.half))
            for _ in range(2)
        )
        self.centres = nn.Parameter(torch.randn(classes, columns) * 0.1)

    def forward(self, x: Tensor) -> Tensor:
        volume = x.new_zeros(len(x))
        for step in self.steps:
            kept, moved = x.split(self.half, dim=1)
            scale, shift = step(kept).chunk(2, dim=1)
            scale = torch.tanh(scale)
            x = torch.cat([moved * scale.exp() + shift, kept], dim=1)
            volume = volume + scale.sum(1)
        squares = ((x[:, None] - self.centres) ** 2).sum(2)
        constant = self.centres.shape[1] * math.log(2 * math.pi)
        return volume[:, None] - 0.5 * (squares + constant) - math.log(len(self.centres))


class Densities(Task):
    """A generative classifier: the likelihood of row and class is maximised."""

    def model(self, config: Config) -> nn.Module:
        return ByDensity(8, 3)

    def data(self, config: Config) -> Splits:
        x, y = samples.table(config.seed, rows=900, columns=8, classes=3, apart=0.8)
        return samples.divided(x, y, config.seed).splits()

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        return -outputs.gather(1, targets[:, None]).mean()


def sound(name: str, build: type[Task], least: float, notes: str, **training: object) -> Case:
    return Case(
        id=f"well_{name}", label=HEALTHY, build=build, config=settings(**training),  # type: ignore[arg-type]
        verify=reaches(least), notes=notes,
    )  # fmt: skip


CASES = [
    sound("coder", Coder, 0.35, "a variational coder of digits", epochs=12, learning_rate=0.005),
    sound("twins", SameDigit, 0.85, "contrastive pairs", epochs=12),
    sound("densities", Densities, 0.72, "a flow as a classifier", epochs=12, learning_rate=0.005),
]  # fmt: skip
