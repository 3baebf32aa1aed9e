"""An orchard in good health: trainings with habits that look odd and are right."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pytest_mltrainer import Config, Splits, Task
from pytest_mltrainer.training.session import TrainingSession

from .. import samples
from ..cases import HEALTHY, Case, reaches, settings
from ..scenes import counts


def r2(values: np.ndarray, targets: np.ndarray) -> float:
    return float(1 - ((values - targets) ** 2).mean() / targets.var())


class Blossoms(Task):
    """Half of the units dropped and much decay: training looks worse than validation."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Linear(14, 96), nn.ReLU(), nn.Dropout(0.5), nn.Linear(96, 48), nn.ReLU(),
            nn.Dropout(0.5), nn.Linear(48, 4),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = samples.table(config.seed, rows=1300, columns=14, classes=4, apart=0.7)
        return samples.divided(x, y, config.seed).standardised().splits()


class Grafts(Task):
    """A rate of one: each layer is followed by a norm that takes away its scale."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Linear(9, 48, bias=False), nn.BatchNorm1d(48), nn.ReLU(),
            nn.Linear(48, 48, bias=False), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 3),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x = draw.normal(size=(1800, 9))
        score = np.stack([x[:, 0] * 2, np.abs(x[:, 1]) * 2 - 1, x[:, 2] - x[:, 3]], axis=1)
        return samples.divided(x, score.argmax(1), config.seed).splits()


class Twins(Task):
    """Two sorts that overlap: the best rule there is errs on three of ten."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 2))

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x = draw.normal(size=(2000, 6))
        chance = 1 / (1 + np.exp(-1.1 * x[:, 0] + 0.7 * x[:, 1]))
        y = (draw.random(2000) < chance).astype(np.int64)
        return samples.divided(x, y, config.seed).splits()


class Leaves(Task):
    """Noise is taken from 24 points of a leaf's edge; what remains is noise as well."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Linear(24, 48), nn.GELU(), nn.Linear(48, 4), nn.Linear(4, 48), nn.GELU(),
            nn.Linear(48, 24),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        size, long, lobes = draw.normal(size=(3, 1400, 1))
        clean = size + long * np.cos(2 * angle) + lobes * np.sin(5 * angle)
        first, second = 0.5 * draw.normal(size=(2, 1400, 24))
        return samples.divided(clean + first, clean + second, config.seed).splits()


class Fruits(Task):
    """Counts by the likelihood of Poisson, which is below zero."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(),
                             nn.Linear(32, 1))  # fmt: skip

    def data(self, config: Config) -> Splits:
        return samples.divided(*counts(config.seed, rows=1600), config.seed).splits()

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        return functional.poisson_nll_loss(outputs.squeeze(1), targets)

    def metrics(self, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        return {"r2": r2(np.exp(outputs[:, 0]), targets)}


class Harvest(nn.Module):
    """A trunk with two heads: the sort, of three, and the weight."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(10, 48), nn.ReLU(), nn.Linear(48, 32), nn.ReLU())
        self.sort, self.weight = nn.Linear(32, 3), nn.Linear(32, 1)

    def forward(self, x: Tensor) -> Tensor:
        trunk = self.trunk(x)
        return torch.cat([self.sort(trunk), self.weight(trunk)], dim=1)


class SortAndWeight(Task):
    """Two tasks at once, one loss far larger than the other."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return Harvest()

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x, sort = samples.table(config.seed, rows=1400, columns=10, classes=3, apart=0.9)
        weight = np.tanh(x[:, 0]) + 0.5 * sort + 0.3 * x[:, 1] + 0.2 * draw.normal(size=1400)
        y = np.stack([sort, weight], axis=1).astype(np.float32)
        return samples.divided(x, y, config.seed).standardised().splits()

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        sort = functional.cross_entropy(outputs[:, :3], targets[:, 0].long())
        return sort + 5 * functional.mse_loss(outputs[:, 3], targets[:, 1])

    def metrics(self, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        return {
            "accuracy": float((outputs[:, :3].argmax(1) == targets[:, 0]).mean()),
            "r2": r2(outputs[:, 3], targets[:, 1]),
        }


class Layered(nn.Module):
    """Sixteen blocks that begin as nothing: the last weights of each are zero."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(8, 24), nn.Linear(24, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(24), nn.Linear(24, 24), nn.GELU(), nn.Linear(24, 24))
            for _ in range(16)
        )
        for block in self.blocks:
            nn.init.zeros_(block[-1].weight)
            nn.init.zeros_(block[-1].bias)

    def forward(self, x: Tensor) -> Tensor:
        state = self.into(x)
        for block in self.blocks:
            state = state + block(state)
        return self.out(state)


class Espalier(Task):
    """A deep net of residual blocks, the branches switched off at first."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return Layered()

    def data(self, config: Config) -> Splits:
        x, y = samples.curved(config.seed, rows=1100, noise=0.2)
        return samples.divided(x, y, config.seed).splits()


class Seasons(nn.Module):
    """A recurrent net over forty days."""

    def __init__(self) -> None:
        super().__init__()
        self.days, self.out = nn.GRU(3, 24, batch_first=True), nn.Linear(24, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.days(x)[0][:, -1])


class Growth(Task):
    """Growth after forty days of rain and sun; every gradient is clipped."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return Seasons()

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x = draw.normal(size=(700, 40, 3))
        y = np.zeros(700)
        for day in range(40):
            y = 0.92 * y + np.maximum(x[:, day, 0], 0) + 0.5 * x[:, day, 1]
        y = (y - y.mean()) / y.std() + 0.2 * draw.normal(size=700)
        return samples.divided(x, y, config.seed).splits()


class Presses(Task):
    """A rate that swings between a tenth and all of it, five times."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(16, 48), nn.ReLU(), nn.Linear(48, 5))

    def data(self, config: Config) -> Splits:
        x, y = samples.table(config.seed, rows=1500, columns=16, classes=5, apart=0.8)
        return samples.divided(x, y, config.seed).standardised().splits()

    def train(self, session: TrainingSession) -> None:
        schedule = torch.optim.lr_scheduler.CyclicLR(
            session.optimizer, 0.005, 0.05, step_size_up=session.updates_per_epoch,
            cycle_momentum=False,
        )  # fmt: skip
        for epoch in session.epochs():
            for inputs, targets in session.batches():
                session.loss(inputs, targets).backward()
                session.update()
                schedule.step()
            session.finish_epoch(epoch)


CASES = [
    Case(
        id="bx_well_blossoms_half", label=HEALTHY, build=Blossoms, verify=reaches(0.8),
        config=settings(optimizer="adamw", weight_decay=0.1, epochs=14), notes="dropout 0.5 twice",
    ),
    Case(
        id="bx_well_grafts_rate_one", label=HEALTHY, build=Grafts, verify=reaches(0.88),
        config=settings(optimizer="sgd", learning_rate=1.0, momentum=0.0, epochs=14,
                        batch_size=64, scheduler="cosine"), notes="SGD at 1.0 over norms",
    ),
    Case(
        id="bx_well_sorts_overlap", label=HEALTHY, build=Twins, verify=reaches(0.66),
        config=settings(epochs=10), notes="the best possible is 0.71 or so",
    ),
    Case(
        id="bx_well_leaves_denoised", label=HEALTHY, build=Leaves, verify=reaches(0.7),
        config=settings(epochs=15), notes="a bottleneck of 4; a fifth of the variance is noise",
    ),
    Case(
        id="bx_well_fruits_counted", label=HEALTHY, build=Fruits, verify=reaches(0.45),
        config=settings(epochs=12), notes="a negative loss of Poisson",
    ),
    Case(
        id="bx_well_sort_and_weight", label=HEALTHY, build=SortAndWeight, verify=reaches(0.8),
        config=settings(metric="r2", epochs=12), notes="cross entropy and five times MSE",
    ),
    Case(
        id="bx_well_espalier_deep", label=HEALTHY, build=Espalier, verify=reaches(0.75),
        config=settings(epochs=12, learning_rate=0.002, warmup_steps=40, scheduler="cosine"),
        notes="16 residual blocks that begin as zero",
    ),
    Case(
        id="bx_well_growth_clipped", label=HEALTHY, build=Growth, verify=reaches(0.8),
        config=settings(epochs=10, clip_norm=0.1, learning_rate=0.005),
        notes="gradients clipped at every step",
    ),
    Case(
        id="bx_well_presses_cyclic", label=HEALTHY, build=Presses, verify=reaches(0.8),
        config=settings(optimizer="sgd", learning_rate=0.05, epochs=10), notes="CyclicLR",
    ),
]  # fmt: skip
