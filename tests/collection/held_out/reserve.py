"""A game reserve: pictures of camera traps, films, tracks and calls of animals."""

import numpy as np
import torch
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task

from .. import samples
from ..cases import Case, Check, Outcome, both, patch, settings, worse

FRAMES, MARKS = 6, 10


class Film(nn.Module):
    """Each frame by itself, then their mean."""

    def __init__(self, across: bool) -> None:
        super().__init__()
        self.across = across
        self.frame = nn.Sequential(nn.Linear(MARKS, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU())
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        found = self.frame(x.flatten(0, 1))
        if self.across:
            return self.head(found.view(FRAMES, len(x), -1).mean(0))
        return self.head(found.view(len(x), FRAMES, -1).mean(1))


class Films(Task):
    """Gait of three species in six frames."""

    across = False

    def model(self, config: Config) -> nn.Module:
        return Film(self.across)

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        y = draw.integers(0, 3, 800)
        gait = draw.normal(size=(3, MARKS)) * 0.5
        x = gait[y][:, None] * draw.choice([-1, 1], (800, FRAMES, 1))
        return samples.divided(x + draw.normal(size=x.shape) * 0.7, y, config.seed).splits()


class FilmsAcross(Films):
    """Frames of a film lie side by side, and are taken apart as if films did."""

    across = True


class Traps(Task):
    """Pictures of camera traps: nothing, a deer, and rarely a lynx that is much like a deer."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
            nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(64, 3),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        y = draw.choice(3, 2000, p=[0.6, 0.375, 0.025])
        x = 0.38 * draw.normal(size=(2000, 1, 10, 10))
        for picture, kind in zip(x[:, 0], y, strict=True):
            top, left = draw.integers(0, 6, 2)
            if kind:
                picture[top + 1 : top + 3, left : left + 4] += 0.9
                picture[top : top + 4, left if kind == 1 else left + 3] += 0.6
        return samples.divided(x, y, config.seed).splits()


class Calls(Task):
    """Five birds by fourteen numbers of their call."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(14, 64), nn.LeakyReLU(), nn.Linear(64, 32), nn.LeakyReLU(),
                             nn.Linear(32, 5))  # fmt: skip

    def rows(self, config: Config) -> samples.Parts:
        x, y = samples.table(config.seed, rows=1500, columns=14, classes=5, apart=0.8)
        return samples.divided(x, y, config.seed)

    def data(self, config: Config) -> Splits:
        return self.rows(config).splits()


class CallsOfVolunteers(Calls):
    """Volunteers wrote the training labels and often guessed where it was one of three warblers."""

    def rows(self, config: Config) -> samples.Parts:
        parts = super().rows(config)
        y, draw = parts.train.y, np.random.default_rng(config.seed + 7)
        guessed = (draw.random(len(y)) < 0.85) & (y >= 2)
        y[guessed] = draw.integers(2, 5, guessed.sum())
        return parts


class CallsBySpecies(Calls):
    """One folder a species, read one after the other."""

    def rows(self, config: Config) -> samples.Parts:
        parts = super().rows(config)
        order = np.argsort(parts.train.y, kind="stable")
        parts.train.x[:], parts.train.y[:] = parts.train.x[order], parts.train.y[order]
        return parts


class Sites(Task):
    """Eight species at five sites; two of them live at the last two sites alone."""

    mixed = True

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, 8))

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        y = np.concatenate([draw.integers(0, 6, 600), draw.integers(2, 8, 400)])
        x = 0.9 * draw.normal(size=(8, 12))[y] + draw.normal(size=(1000, 12))
        return (samples.divided(x, y, config.seed) if self.mixed else samples.cut(x, y)).splits()


class SitesInOrder(Sites):
    """The file stands by site, and was cut without being mixed."""

    mixed = False


class Tracks(Task):
    """Prints of four species, 8 by 8: a stem of convolutions, a body, a head."""

    taught: tuple[str, ...] = ("stem", "body", "head")

    def model(self, config: Config) -> nn.Module:
        model = nn.Sequential()
        model.add_module("stem", nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3), nn.Tanh(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        ))  # fmt: skip
        model.add_module("body", nn.Sequential(nn.Linear(4, 24), nn.ReLU()))
        model.add_module("head", nn.Linear(24, 4))
        return model

    def optimizer(self, model: nn.Module, config: Config) -> torch.optim.Optimizer:
        groups = [
            {"params": [part for key, part in model.named_parameters() if key.startswith(name)]}
            for name in self.taught
        ]
        groups[-1]["weight_decay"] = 0.01
        return torch.optim.AdamW(groups, lr=config.training.learning_rate, weight_decay=0.0)

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        y = draw.integers(0, 4, 800)
        waves = np.arange(8) * np.pi * 0.75
        down, along = np.cos(waves)[:, None] + np.zeros((8, 8)), np.cos(waves) + np.zeros((8, 8))
        kinds = np.stack([down, along, down * along, 0.7 * (down + along)])
        x = kinds[y] * draw.choice([-1, 1], (800, 1, 1)) + 0.5 * draw.normal(size=(800, 8, 8))
        return samples.divided(x[:, None], y, config.seed).splits()


class TracksRenamed(Tracks):
    """The optimizer goes by names, and `stem` was `backbone` when they were written."""

    taught = ("backbone", "body", "head")

    def optimizer(self, model: nn.Module, config: Config) -> torch.optim.Optimizer:
        made = super().optimizer(model, config)
        made.param_groups[:] = [group for group in made.param_groups if group["params"]]
        return made


def stays(prefix: str) -> Check:
    """A trainable parameter of that name is what it was."""

    def check(run: Outcome, twin: Outcome | None) -> str:
        found = any(name.startswith(prefix) for name in run.unchanged)
        return "" if found else f"{prefix} has changed; unchanged: {run.unchanged}"

    return check


CASES = [
    Case(
        id="ax_wild_frames", label="batch_mixing", build=FilmsAcross, twin=Films,
        config=settings(epochs=15), verify=worse(0.15),
        notes="view(frames, films) for view(films, frames)",
    ),
    Case(
        id="ax_wild_lynx", label="class_imbalance", build=Traps,
        config=settings(epochs=8, metric="balanced_accuracy"),
        twin_config=patch(training={"class_weights": "balanced"}), verify=worse(0.1),
        notes="2.5 % of a third class that looks like the second",
    ),
    Case(
        id="ax_wild_warblers", label="label_noise", build=CallsOfVolunteers, twin=Calls,
        config=settings(epochs=20), verify=worse(0.05),
        notes="half of the training labels of three classes of five are wrong",
    ),
    Case(
        id="ax_wild_by_species", label="unshuffled_data", build=CallsBySpecies,
        config=settings(optimizer="sgd", epochs=6, shuffle=False, learning_rate=0.05,
                        batch_size=16),
        twin_config=patch(training={"shuffle": True}), verify=worse(0.1),
        notes="sorted by class, read in order",
    ),
    Case(
        id="ax_wild_last_sites", label="train_val_skew", build=SitesInOrder, twin=Sites,
        config=settings(epochs=12), verify=worse(0.1),
        notes="two of eight species are in validation and test alone",
    ),
    Case(
        id="ax_wild_stem_renamed", label="params_not_updated", build=TracksRenamed, twin=Tracks,
        config=settings(optimizer="task", epochs=20, learning_rate=0.01),
        verify=both(worse(0.1), stays("stem")), notes="two convolutions are in no group",
    ),
]  # fmt: skip
