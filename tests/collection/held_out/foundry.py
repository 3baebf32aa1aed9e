"""A foundry: melts, valves and drills; tables and series."""

import numpy as np
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task
from pytest_mltrainer.training.session import TrainingSession

from .. import samples
from ..cases import Case, settings, worse


def melts(seed: int, rows: int = 900) -> tuple[np.ndarray, np.ndarray]:
    """Eight readings of a melt and its grade, one of four, by two bent sums of them."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(rows, 8))
    one = x[:, 0] + x[:, 1] * x[:, 2] + 0.3 * draw.normal(size=rows)
    other = x[:, 3] - 0.8 * np.abs(x[:, 4]) + 0.6 + 0.3 * draw.normal(size=rows)
    return x, 2 * (one > 0) + (other > 0)


class Valves(Task):
    """Drops counted at six valves, as logarithms; which of three moulds they fill."""

    def logarithm(self, counts: np.ndarray) -> np.ndarray:
        return np.log1p(counts) - 2.5

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 32), nn.GELU(), nn.Dropout(0.1), nn.Linear(32, 3))

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        rates = draw.normal(size=(900, 6))
        y = np.argmax(rates @ draw.normal(size=(6, 3)) + 0.5 * np.tanh(rates[:, :3]), axis=1)
        counts = draw.poisson(np.exp(2.6 + 0.8 * rates)).astype(np.float64)
        with np.errstate(divide="ignore"):
            return samples.divided(self.logarithm(counts), y, config.seed).splits()


class ValvesByLog(Valves):
    """Some valve did not drip at all, and the logarithm of nothing was taken."""

    def logarithm(self, counts: np.ndarray) -> np.ndarray:
        return np.log(counts) - 2.5


class Listener(nn.Module):
    """A GRU over the readings of one sensor."""

    def __init__(self, first: nn.Module) -> None:
        super().__init__()
        self.first, self.gru = first, nn.GRU(1, 24, batch_first=True)
        self.head = nn.Linear(24, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(self.first(x))[0].mean(1))


class Drills(Task):
    """Torque of a drill over 24 times: whether the bit is blunt, by its rise and its trembling."""

    def model(self, config: Config) -> nn.Module:
        return Listener(nn.Identity())

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        y = draw.integers(0, 2, 700)
        rise = (0.4 + 0.8 * y)[:, None] * np.linspace(0, 1, 24)
        x = rise + (0.3 + 0.2 * y)[:, None] * draw.normal(size=(700, 24))
        return samples.divided((2 * x - 0.6)[..., None], y, config.seed).splits()


class DrillsNormed(Drills):
    """A layer norm over the last axis, which holds the one reading."""

    def model(self, config: Config) -> nn.Module:
        return Listener(nn.LayerNorm(1))


class Grades(Task):
    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(8, 48), nn.SiLU(), nn.Linear(48, 24), nn.SiLU(),
                             nn.Linear(24, 4))  # fmt: skip

    def rows(self, config: Config) -> samples.Parts:
        return samples.divided(*melts(config.seed, 1400), config.seed)

    def data(self, config: Config) -> Splits:
        return self.rows(config).splits()


class GradesSlipped(Grades):
    """A line was lost in the laboratory's file: grades after it belong to the melt before."""

    def rows(self, config: Config) -> samples.Parts:
        parts = super().rows(config)
        lost = int(0.5 * len(parts.train.y))
        parts.train.y[lost:] = np.roll(parts.train.y[lost:], -1)
        return parts


class GradesClearedByEpoch(Grades):
    """Gradients are cleared where an epoch begins, and nowhere else."""

    def train(self, session: TrainingSession) -> None:
        for epoch in session.epochs():
            session.optimizer.zero_grad()
            for inputs, targets in session.batches():
                session.loss(inputs, targets).backward()
                session.optimizer.step()
            session.finish_epoch(epoch)


class RawGrades(Grades):
    """As the furnace says it: every reading has its unit, a batch norm comes first."""

    momentum = 0.1

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.BatchNorm1d(8, momentum=self.momentum), *super().model(config))

    def rows(self, config: Config) -> samples.Parts:
        draw = np.random.default_rng(config.seed + 5)
        middle, spread = draw.uniform(-4, 4, 8), draw.uniform(0.5, 3, 8)
        return super().rows(config).each(lambda x, y: (x * spread + middle, y))


class RawGradesKept(RawGrades):
    """The momentum of another framework, which counts what is kept: 0.999 became 0.001."""

    momentum = 0.001


CASES = [
    Case(
        id="ax_valve_dry", label="bad_input_values", build=ValvesByLog, twin=Valves,
        config=settings(epochs=15, learning_rate=0.005), verify=worse(0.1),
        notes="log of a count of zero is minus infinity in some rows of each split",
    ),
    Case(
        id="ax_drill_single_reading", label="input_ignored", build=DrillsNormed, twin=Drills,
        config=settings(epochs=10, learning_rate=0.005), verify=worse(0.2),
        notes="LayerNorm(1) makes every reading its bias",
    ),
    Case(
        id="ax_melt_line_lost", label="label_noise", build=GradesSlipped, twin=Grades,
        config=settings(epochs=20), verify=worse(0.05),
        notes="the second half of the training grades is off by one row",
    ),
    Case(
        id="ax_melt_cleared_by_epoch", label="missing_zero_grad", build=GradesClearedByEpoch,
        twin=Grades, config=settings(optimizer="sgd", learning_rate=0.05, epochs=12),
        verify=worse(0.05), notes="zero_grad stands one loop too far out",
    ),
    Case(
        id="ax_melt_momentum_meaning", label="train_eval_mismatch", build=RawGradesKept,
        twin=RawGrades, config=settings(epochs=10), verify=worse(0.1),
        notes="running statistics of a first batch norm hardly move",
    ),
]  # fmt: skip
