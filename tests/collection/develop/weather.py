"""Weather stations: pressure, temperature, wind and what comes of them."""

import io

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from pytest_mltrainer import Config, Splits, Task
from pytest_mltrainer.training.session import TrainingSession

from .. import samples
from ..cases import HEALTHY, Case, Outcome, last_worse, patch, reaches, settings, worse

COLUMNS = 7


def days(seed: int, rows: int = 1000, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Seven measurements of deviation 1 and tomorrow's rain, smooth and curved in them."""
    draw = np.random.default_rng(seed)
    hidden = draw.normal(size=(rows, 3))
    x = hidden @ draw.normal(size=(3, COLUMNS)) * 0.6 + draw.normal(size=(rows, COLUMNS)) * 0.7
    x /= x.std(0)
    y = np.tanh(x[:, 0] + x[:, 1]) + 0.7 * np.cos(1.5 * x[:, 2]) + 0.5 * x[:, 3] - 0.3 * x[:, 4]
    y = (y - y.mean()) / y.std()
    return x, y + noise * draw.normal(size=rows)


UNITS = np.array([7.0, 12.0, 900.0, 0.02, 4000.0, 15.0, 1.0])
ZERO = np.array([1013.0, 285.0, 3000.0, 0.05, 9000.0, 60.0, 5.0])


class Rain(Task):
    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Linear(COLUMNS, 32), nn.SiLU(), nn.Linear(32, 32), nn.SiLU(), nn.Linear(32, 1)
        )

    def rows(self, config: Config) -> samples.Parts:
        return samples.divided(*days(config.seed), config.seed)

    def data(self, config: Config) -> Splits:
        return self.rows(config).splits()


class WithGaps(Rain):
    """A broken hygrometer: some training rows lack one value."""

    def rows(self, config: Config) -> samples.Parts:
        parts = super().rows(config)
        lost = np.random.default_rng(config.seed + 1).random(len(parts.train.x)) < 0.02
        parts.train.x[lost, 5] = np.nan
        return parts


class InUnits(Rain):
    """As measured: hectopascal, kelvin, metres, kilograms of water a kilogram of air."""

    def rows(self, config: Config) -> samples.Parts:
        return super().rows(config).each(lambda x, y: (x * UNITS + ZERO, y))


class Degrees(Rain):
    """Ten thermometers at a wall in degrees, hidden units of tanh."""

    scaled = False

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(10, 32), nn.Tanh(), nn.Linear(32, 16), nn.Tanh(),
                             nn.Linear(16, 1))  # fmt: skip

    def rows(self, config: Config) -> samples.Parts:
        draw = np.random.default_rng(config.seed)
        x, y = days(config.seed, 900)
        wall = x @ draw.normal(size=(COLUMNS, 10)) + 0.1 * draw.normal(size=(900, 10))
        parts = samples.divided(40 + 8 * wall / wall.std(0), y, config.seed)
        return parts.standardised() if self.scaled else parts


class DegreesScaled(Degrees):
    scaled = True


class Fahrenheit(Rain):
    """Validation and test come from an archive with other units in two columns."""

    def rows(self, config: Config) -> samples.Parts:
        parts = super().rows(config)
        for part in (parts.validation, parts.test):
            part.x[:, [0, 3]] = part.x[:, [0, 3]] * 1.8 + 3.2
        return parts


class Sorted(Rain):
    """The archive is sorted from dry to wet."""

    def rows(self, config: Config) -> samples.Parts:
        parts = super().rows(config)
        order = np.argsort(parts.train.y)
        parts.train.x[:], parts.train.y[:] = parts.train.x[order], parts.train.y[order]
        return parts


class Written(Dataset):
    """Rows as lines of text, parsed each time they are read; `keeps` what was parsed."""

    def __init__(self, rows: samples.Rows, keeps: bool) -> None:
        self.lines = [" ".join(f"{value:.6f}" for value in row) for row in rows.x]
        self.y = torch.tensor(rows.y, dtype=torch.float32)
        self.known: dict[int, Tensor] = {}
        self.keeps = keeps

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if index in self.known:
            return self.known[index], self.y[index]
        row = torch.tensor(np.genfromtxt(io.StringIO(self.lines[index])), dtype=torch.float32)
        if self.keeps:
            self.known[index] = row
        return row, self.y[index]


class ReadAgain(Rain):
    keeps = False

    def data(self, config: Config) -> Splits:
        parts = self.rows(config)
        return Splits(
            train=Written(parts.train, self.keeps),
            validation=Written(parts.validation, True),
            test=Written(parts.test, True),
        )


class ReadOnce(ReadAgain):
    keeps = True


class Unforeseeable(Rain):
    """A year ahead: an eighth of the variance follows from today."""

    def rows(self, config: Config) -> samples.Parts:
        return samples.divided(*days(config.seed, 1600, noise=2.6), config.seed)


class Median(Rain):
    """The median by the pinball loss, under noise with long tails."""

    def rows(self, config: Config) -> samples.Parts:
        x, y = days(config.seed, 1000, noise=0.0)
        tails = np.random.default_rng(config.seed + 2).standard_t(2.5, len(y))
        return samples.divided(x, y + 0.3 * tails, config.seed)

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        left = targets - outputs.squeeze(1)
        return torch.maximum(0.5 * left, -0.5 * left).mean()


class Restarted(Rain):
    """Cosines of doubling length, each from the top again."""

    def train(self, session: TrainingSession) -> None:
        schedule = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(
            session.optimizer, T_0=3 * session.updates_per_epoch, T_mult=2
        )
        for epoch in session.epochs():
            for inputs, targets in session.batches():
                session.loss(inputs, targets).backward()
                session.update()
                schedule.step()
            session.finish_epoch(epoch)


def waits(run: Outcome, twin: Outcome | None) -> str:
    """Over half of the time is waiting for rows, and a step takes twice the twin's."""
    assert twin is not None
    if run.waiting >= 0.5 and run.step_s >= 2 * twin.step_s:
        return ""
    return f"waiting {run.waiting:.2f} of {run.step_s:.4f} s a step, twin {twin.step_s:.4f} s"


CASES = [
    Case(
        id="sky_hygrometer_gaps", label="bad_input_values", build=WithGaps,
        config=settings(epochs=6), twin=Rain, verify=worse(0.1),
        notes="NaN in one column of a fiftieth of the training rows",
    ),
    Case(
        id="sky_in_units", label="unnormalized_data", build=InUnits,
        config=settings(epochs=10), twin=Rain, verify=worse(0.2),
        notes="seven units, from 0.05 to 9,000",
    ),
    Case(
        id="sky_wall_in_degrees", label="saturation", build=Degrees,
        config=settings(epochs=12), twin=DegreesScaled, verify=worse(0.2),
        notes="ten correlated columns near 40 into tanh",
    ),
    Case(
        id="sky_fahrenheit", label="train_val_skew", build=Fahrenheit,
        config=settings(epochs=10), twin=Rain, verify=worse(0.3),
        notes="two columns of validation in other units",
    ),
    Case(
        id="sky_dry_to_wet", label="unshuffled_data", build=Sorted,
        config=settings(optimizer="sgd", learning_rate=0.05, epochs=6, batch_size=16,
                        shuffle=False),
        twin_config=patch(training={"shuffle": True}), verify=worse(0.1),
        notes="sorted by the target, read in sequence",
    ),
    Case(
        id="sky_pairs_of_rows", label="unstable_training", build=Rain,
        config=settings(optimizer="sgd", learning_rate=0.01, momentum=0.95, batch_size=2,
                        epochs=4),
        twin_config=patch(training={"learning_rate": 0.001, "momentum": 0.9}),
        verify=last_worse(0.2), notes="momentum of 0.95 with batches of two",
    ),
    Case(
        id="sky_warms_up_for_ever", label="convergence_stall", build=Rain,
        config=settings(optimizer="sgd", learning_rate=0.02, epochs=12, warmup_steps=30000),
        twin_config=patch(training={"warmup_steps": 30}), verify=worse(0.3),
        notes="a warm-up a hundred times as long as the run",
    ),
    Case(
        id="sky_text_parsed_again", label="resource_inefficiency", build=ReadAgain,
        config=settings(epochs=15), twin=ReadOnce, verify=waits,
        notes="each row is parsed from text each time by genfromtxt",
    ),
    Case(
        id="well_sky_year_ahead", label=HEALTHY, build=Unforeseeable,
        config=settings(optimizer="adamw", weight_decay=0.05, learning_rate=0.001, epochs=6),
        verify=reaches(0.05), notes="seven eighths of the variance are noise",
    ),
    Case(
        id="well_sky_median", label=HEALTHY, build=Median,
        config=settings(metric="mae", epochs=10), verify=reaches(0.45),
        notes="pinball loss, noise with long tails",
    ),
    Case(
        id="well_sky_restarts", label=HEALTHY, build=Restarted,
        config=settings(learning_rate=0.01, epochs=21, batch_size=64), verify=reaches(0.75),
        notes="cosines with warm restarts; the last one ends with the run",
    ),
]  # fmt: skip
