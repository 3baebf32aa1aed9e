"""Test rigs: bearings and gears by their sound and their oil."""

import numpy as np
import torch
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task

from .. import samples
from ..cases import Case, Check, Outcome, both, inflated, settings, worse

STEPS = 48


def bearings(seed: int, rows: int = 800, noise: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    """Series (steps,) of four states: a tone of the shaft and one of the state, out of phase."""
    draw = np.random.default_rng(seed)
    y = draw.integers(0, 4, rows)
    time = np.arange(STEPS) / STEPS
    first, second = draw.uniform(0, 2 * np.pi, (2, rows, 1))
    tone = np.array([4.0, 7.0, 10.0, 13.0])[y][:, None]
    x = np.sin(2 * np.pi * 2 * time + first) + 0.8 * np.sin(2 * np.pi * tone * time + second)
    return x + noise * draw.normal(size=x.shape), y


class Bearings(Task):
    """Readings of the converter to deviations around its middle, then a small convolution."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Unflatten(1, (1, STEPS)),
            nn.Conv1d(1, 12, 9, padding=4), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(12, 16, 5, padding=2), nn.ReLU(),
            nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(16, 4),
        )  # fmt: skip

    def scaled(self, counts: np.ndarray) -> np.ndarray:
        return (counts - 2048) / 160

    def data(self, config: Config) -> Splits:
        x, y = bearings(config.seed)
        return samples.divided(self.scaled(np.round(2048 + 150 * x)), y, config.seed).splits()


class BearingsInCounts(Bearings):
    """The converter's twelve bits as they come."""

    def scaled(self, counts: np.ndarray) -> np.ndarray:
        return counts


class Bank(nn.Module):
    """Learned filters, the logarithm of their energies, and a small head."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Conv1d(1, 3, 9, bias=False)
        self.head = nn.Sequential(nn.Linear(3, 24), nn.ReLU(), nn.Linear(24, 4))

    def energies(self, heard: Tensor) -> Tensor:
        return torch.log(heard.square().mean(-1) + 1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.energies(self.filters(x.unsqueeze(1))))


class BankByNumpy(Bank):
    """The energies are NumPy's, and so the way back ends at them."""

    def energies(self, heard: Tensor) -> Tensor:
        return torch.from_numpy(np.log(np.square(heard.detach().numpy()).mean(-1) + 1e-3))


class Filters(Task):
    bank: type[nn.Module] = Bank

    def model(self, config: Config) -> nn.Module:
        return self.bank()

    def data(self, config: Config) -> Splits:
        return samples.divided(*bearings(config.seed, 900), config.seed).splits()


class FiltersByNumpy(Filters):
    bank = BankByNumpy


COLOURS = 16


class Windows(Task):
    """Ten windows of each of 90 gears as energies of bands; a gear has a colour of its own, worn
    ones differ a little. Whole gears go to one split."""

    whole = True

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(COLOURS, 64), nn.ReLU(), nn.Linear(64, 2))

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        worn = draw.permutation(np.arange(90) % 2)
        change = draw.normal(size=COLOURS)
        colour = draw.normal(size=(90, COLOURS)) + 0.2 * np.outer(2 * worn - 1, change)
        x = np.repeat(colour, 10, axis=0) + 0.2 * draw.normal(size=(900, COLOURS))
        y = np.repeat(worn, 10)
        return (samples.cut(x, y) if self.whole else samples.divided(x, y, config.seed)).splits()


class WindowsMixed(Windows):
    """The windows of all gears are dealt to the splits one by one."""

    whole = False


MIDDLE = np.array([60.0, 320.0, 1.1, 0.03, 14000.0, 0.5])
SPREAD = np.array([25.0, 40.0, 0.3, 0.012, 5000.0, 0.2])


class Oil(Task):
    """What is wrong with a gear by iron, viscosity, acid, water, particles, soot: four logits."""

    scaled = True

    def model(self, config: Config) -> nn.Module:
        return nn.Linear(6, 4)

    def data(self, config: Config) -> Splits:
        x, y = samples.table(config.seed, rows=1000, columns=6, classes=4, apart=1.3)
        parts = samples.divided(x * SPREAD + MIDDLE, y, config.seed)
        return (parts.standardised() if self.scaled else parts).splits()


class OilAsMeasured(Oil):
    """The parts were never standardised."""

    scaled = False


class Thinned(nn.Module):
    """Half of the units are put out in training; `kept` is what the others are divided by."""

    def __init__(self, kept: float) -> None:
        super().__init__()
        self.kept = kept

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand_like(x) < 0.5) / self.kept if self.training else x


class Wear(Task):
    """The wear of a gear by ten measures of its oil."""

    kind = "regression"
    kept = 0.5

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Linear(10, 96), nn.ReLU(), Thinned(self.kept),
            nn.Linear(96, 96), nn.ReLU(), Thinned(self.kept), nn.Linear(96, 1),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = samples.straight(config.seed, rows=1000, noise=0.3)
        return samples.divided(x, y + 0.8 * np.abs(x[:, 0]), config.seed).splits()


class WearUnscaled(Wear):
    """A dropout of one's own that leaves the others as they are."""

    kept = 1.0


def stays(prefix: str) -> Check:
    """A trainable parameter of that name is what it was."""

    def check(run: Outcome, twin: Outcome | None) -> str:
        found = any(name.startswith(prefix) for name in run.unchanged)
        return "" if found else f"{prefix} has changed; unchanged: {run.unchanged}"

    return check


CASES = [
    Case(
        id="ax_bearing_twelve_bits", label="unnormalized_data", build=BearingsInCounts,
        twin=Bearings, config=settings(epochs=12), verify=worse(0.1),
        notes="counts of 2048 +- 190 into a convolution",
    ),
    Case(
        id="ax_bearing_filters_numpy", label="params_not_updated", build=FiltersByNumpy,
        twin=Filters, config=settings(epochs=15, learning_rate=0.01),
        verify=both(worse(0.05), stays("filters")), notes="filters before detach().numpy()",
    ),
    Case(
        id="ax_bearing_windows_dealt", label="data_leakage", build=WindowsMixed, twin=Windows,
        config=settings(epochs=20), verify=inflated(0.1),
        notes="ten windows of each gear, on both sides of the split",
    ),
    Case(
        id="ax_rig_oil", label="unnormalized_data", build=OilAsMeasured, twin=Oil,
        config=settings(epochs=20, learning_rate=0.01), verify=worse(0.1),
        notes="softmax regression on six units, from 0.03 to 14,000",
    ),
    Case(
        id="ax_rig_thinned", label="train_eval_mismatch", build=WearUnscaled, twin=Wear,
        config=settings(epochs=15), verify=worse(0.1),
        notes="a dropout that does not divide: outputs are larger in evaluation",
    ),
]  # fmt: skip
