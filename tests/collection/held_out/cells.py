"""Cells: profiles, assays, markers, stains, plates and slides."""

import numpy as np
import torch
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task
from pytest_mltrainer.training.session import TrainingSession

from .. import samples
from ..cases import Case, Outcome, broken, settings, worse


class Apart(nn.Module):
    """Two profiles by one encoder, and how far apart they are."""

    def __init__(self, least: float) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(14, 40), nn.ReLU(), nn.Linear(40, 10))
        self.least = least

    def forward(self, x: Tensor) -> Tensor:
        between = self.encoder(x[:, 0]) - self.encoder(x[:, 1])
        distance = (between.square().sum(1) + self.least).sqrt()
        return torch.stack([distance, 2 - distance], dim=1)


class Clones(Task):
    """Whether two profiles are of one clone; some pairs are one profile twice."""

    least = 1e-6

    def model(self, config: Config) -> nn.Module:
        return Apart(self.least)

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        clones = draw.normal(size=(30, 14))
        y = draw.integers(0, 2, 1000)
        first = draw.integers(0, 30, 1000)
        second = np.where(y == 1, first, (first + draw.integers(1, 30, 1000)) % 30)
        x = clones[np.stack([first, second], axis=1)] + 0.4 * draw.normal(size=(1000, 2, 14))
        twice = (y == 1) & (draw.random(1000) < 0.02)
        x[twice, 1] = x[twice, 0]
        return samples.divided(x, y, config.seed).splits()


class ClonesRoot(Clones):
    """The root of a sum of squares that may be zero: no slope there."""

    least = 0.0


class Tower(nn.Module):
    """Sixteen blocks of one layer."""

    def __init__(self, skips: bool) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(9, 32), nn.Linear(32, 4)
        self.blocks = nn.ModuleList(nn.Linear(32, 32) for _ in range(16))
        self.skips = skips

    def forward(self, x: Tensor) -> Tensor:
        state = self.into(x)
        for block in self.blocks:
            change = nn.functional.gelu(block(state))
            state = state + change if self.skips else change
        return self.out(state)


class Assay(Task):
    """Four kinds of reaction from nine measurements."""

    skips = True

    def model(self, config: Config) -> nn.Module:
        return Tower(self.skips)

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x = draw.normal(size=(1200, 9))
        y = 2 * (x[:, 0] + np.abs(x[:, 1]) > 0.7) + (x[:, 2] - 0.5 * x[:, 3] > 0)
        return samples.divided(x, y, config.seed).splits()


class AssayBare(Assay):
    """The skips of the blocks were lost when they were rewritten."""

    skips = False


class Stain(Task):
    """Four shapes in a stained picture."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(216, 32), nn.ReLU(), nn.Linear(32, 4),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        return samples.divided(*samples.shapes(config.seed, rows=900), config.seed).splits()


class StainWide(Stain):
    """Normal weights without a deviation: it is 1, however many inputs there are."""

    def model(self, config: Config) -> nn.Module:
        model = super().model(config)
        for layer in model:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.normal_(layer.weight)
        return model


class Plate(Task):
    """Which of four drugs is in a well, by two pairs of readings that agree or do not."""

    mode = "min"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 4)
        )

    def data(self, config: Config) -> Splits:
        x = np.random.default_rng(config.seed).normal(size=(1800, 8))
        y = 2 * (x[:, 0] * x[:, 1] > 0) + (x[:, 2] * x[:, 3] > 0)
        return samples.divided(x, y, config.seed).splits()

    def train(self, session: TrainingSession) -> None:
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
            session.optimizer, mode=self.mode, factor=0.1, patience=1
        )
        for epoch in session.epochs():
            losses = []
            for inputs, targets in session.batches():
                loss = session.loss(inputs, targets)
                loss.backward()
                session.update()
                losses.append(loss.item())
            session.finish_epoch(epoch)
            schedule.step(float(np.mean(losses)))


class PlateUpward(Plate):
    """The schedule waits for the loss to rise, and takes its fall for a plateau."""

    mode = "max"


class Slides(Task):
    """Bright spots on slides: in which quarter."""

    keeps = False

    def model(self, config: Config) -> nn.Module:
        self.maps: list[Tensor] = []
        model = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveMaxPool2d(4), nn.Flatten(),
            nn.Linear(256, 4),
        )  # fmt: skip
        if self.keeps:
            model[1].register_forward_hook(lambda module, inputs, found: self.maps.append(found))
        return model

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        y = draw.integers(0, 4, 700)
        x = 0.3 * draw.normal(size=(700, 1, 24, 24))
        top, left = draw.integers(0, 10, (2, 700)) + 12 * np.stack([y // 2, y % 2])
        for high in (0, 1):
            x[np.arange(700), 0, top + high, left] += 1.5
        return samples.divided(x, y, config.seed).splits()


class SlidesKept(Slides):
    """The maps of every batch are kept for a figure, with all that led to them."""

    keeps = True


def grows(run: Outcome, twin: Outcome | None) -> str:
    """The run holds 150 MB more than its twin."""
    assert twin is not None
    more = run.memory_mb - twin.memory_mb
    return "" if more >= 150 else f"{more:.0f} MB more than the twin"


CASES = [
    Case(
        id="bx_clones_root_of_zero", label="nan_loss", build=ClonesRoot, twin=Clones,
        config=settings(epochs=10), verify=broken, notes="identical pairs; the loss is finite",
    ),
    Case(
        id="bx_assay_lost_skips", label="vanishing_gradients", build=AssayBare, twin=Assay,
        config=settings(optimizer="sgd", learning_rate=0.01, epochs=12), verify=worse(0.2),
        notes="16 layers of gelu in a row, default weights",
    ),
    Case(
        id="bx_stain_wide_weights", label="bad_init", build=StainWide, twin=Stain,
        config=settings(epochs=12), verify=worse(0.1), notes="deviation 1 with up to 216 inputs",
    ),
    Case(
        id="bx_plate_mode_max", label="convergence_stall", build=PlateUpward, twin=Plate,
        config=settings(optimizer="sgd", learning_rate=0.015, epochs=40),
        verify=worse(0.2), notes="divided by ten at every second epoch, before anything is learned",
    ),
    Case(
        id="bx_slides_kept_maps", label="resource_inefficiency", build=SlidesKept, twin=Slides,
        config=settings(epochs=6), verify=grows, notes="1.2 MB more at each step",
    ),
]  # fmt: skip
