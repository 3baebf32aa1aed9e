"""Models that learn too much by heart, and models that cannot learn enough."""

import numpy as np
from torch import nn

from pytest_mltrainer import Config, Splits, Task

from .. import samples
from ..cases import Case, patch, settings, worse


class FewPatients(Task):
    """Many measurements of few patients, and a wide network."""

    def model(self, config: Config) -> nn.Module:
        width = config.model["width"]
        return nn.Sequential(
            nn.Linear(60, width), nn.ReLU(), nn.Dropout(config.model["dropout"]),
            nn.Linear(width, width), nn.ReLU(), nn.Dropout(config.model["dropout"]),
            nn.Linear(width, 2),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x = draw.normal(size=(1200, 60))
        chance = 1 / (1 + np.exp(-x[:, :6].sum(1)))
        y = (draw.random(len(x)) < chance).astype(np.int64)
        parts = samples.divided(x, y, config.seed)
        kept = config.data["patients"]
        few = samples.Rows(parts.train.x[:kept], parts.train.y[:kept])
        return samples.Parts(few, parts.validation, parts.test).splits()


class Curve(Task):
    """A noisy curve, few points, many weights."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Linear(20, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 1)
        )

    def data(self, config: Config) -> Splits:
        x, y = samples.straight(config.seed, rows=config.data["rows"], columns=20, noise=0.7)
        return samples.divided(x, y, config.seed, train=config.data["share"]).splits()


class NarrowDigits(Task):
    """Digits through a hidden layer that is far too narrow."""

    def model(self, config: Config) -> nn.Module:
        width = config.model["width"]
        return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

    def data(self, config: Config) -> Splits:
        return samples.digits(config.seed).standardised().splits()


CASES = [
    Case(
        id="patients_by_heart",
        label="overfitting",
        build=FewPatients,
        config=settings(model={"width": 128, "dropout": 0.0}, data={"patients": 100}, epochs=40),
        twin_config=patch(
            data={"patients": 720},
            model={"width": 32, "dropout": 0.3},
            training={"epochs": 15, "weight_decay": 0.001},
        ),
        verify=worse(0.03),
        notes="100 rows of 60 columns, 54 of them noise, for 25,000 weights",
    ),
    Case(
        id="curve_by_heart",
        label="overfitting",
        build=Curve,
        config=settings(data={"rows": 300, "share": 0.3}, epochs=60),
        twin_config=patch(data={"rows": 3000, "share": 0.6}, training={"epochs": 5}),
        verify=worse(0.1),
        notes="90 points, 71,000 weights, noise of half the variance",
    ),
    Case(
        id="digits_narrow",
        label="underfitting",
        build=NarrowDigits,
        config=settings(model={"width": 2}, learning_rate=0.01),
        twin_config=patch(model={"width": 64}),
        verify=worse(0.15),
        notes="ten classes through two units",
    ),
    Case(
        id="digits_decayed_weights",
        label="underfitting",
        build=NarrowDigits,
        config=settings(
            model={"width": 64}, optimizer="sgd", learning_rate=0.05, weight_decay=0.4, epochs=12
        ),
        twin_config=patch(training={"weight_decay": 0.0001}),
        verify=worse(0.15),
        notes="a weight decay of 0.4 with plain sgd",
    ),
]
