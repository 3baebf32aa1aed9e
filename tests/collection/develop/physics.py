"""Laws from measurements: smooth curves, angles, decays, deep stacks."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task
from pytest_mltrainer.training.session import TrainingSession

from .. import samples
from ..cases import HEALTHY, Case, broken, patch, reaches, settings, worse


def pendulum(seed: int, rows: int = 800, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """Length, mass, angle, time and friction, scaled; the height after that time."""
    draw = np.random.default_rng(seed)
    x = draw.uniform(-1.7, 1.7, (rows, 5))
    fade = np.exp(-0.3 * (x[:, 4] + 1.7))
    y = fade * np.cos(1.2 * x[:, 3] + 0.8 * x[:, 0]) * (1 + 0.5 * x[:, 2])
    return x, (y - y.mean()) / y.std() + noise * draw.normal(size=rows)


class Height(Task):
    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Linear(5, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 1)
        )

    def data(self, config: Config) -> Splits:
        return samples.divided(*pendulum(config.seed), config.seed).splits()


class RelativeError(Height):
    """The root of the squared difference of logarithms, of outputs that may be anything."""

    guarded = False

    def data(self, config: Config) -> Splits:
        x, y = pendulum(config.seed)
        return samples.divided(x, np.exp(0.8 * y) - 0.1, config.seed).splits()

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        found = model(inputs)
        return nn.functional.softplus(found) if self.guarded else found

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        found = outputs.squeeze(1)
        return ((torch.log1p(found) - torch.log1p(targets)) ** 2).mean().sqrt()


class RelativeErrorGuarded(RelativeError):
    guarded = True


class Sphere(Task):
    """A unit vector, judged by the angle between it and the true one.

    It is answered by a residual path; a tenth of the vectors does not turn at all.
    """

    kind = "regression"
    limit = 1.0

    def model(self, config: Config) -> nn.Module:
        return Turned()

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x = draw.normal(size=(700, 3))
        x[::10] *= np.array([0.0, 0.0, 1.0])
        y = x @ np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
        y /= np.linalg.norm(y, axis=1, keepdims=True)
        return samples.divided(x, y, config.seed).splits()

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        return nn.functional.normalize(model(inputs), dim=-1)

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        cosine = (outputs * targets).sum(-1).clamp(-self.limit, self.limit)
        return torch.acos(cosine).mean()


class SphereWithin(Sphere):
    limit = 1 - 1e-5


class Turned(nn.Module):
    """The input plus a correction that begins at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.correction = nn.Linear(3, 32), nn.Linear(32, 3)
        nn.init.zeros_(self.correction.weight)
        nn.init.zeros_(self.correction.bias)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.correction(torch.relu(self.hidden(x)))


class Spread(Height):
    """Mean and variance of the height; the variance is what a ReLU leaves of an output."""

    least = 0.0

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Linear(5, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh(), nn.Linear(40, 2)
        )

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        variance = torch.relu(outputs[:, 1]) + self.least
        return (torch.log(variance) + (targets - outputs[:, 0]) ** 2 / variance).mean()

    def metrics(self, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        return dict(super().metrics(outputs[:, :1], targets))


class SpreadAtLeast(Spread):
    least = 0.01


class Stack(Task):
    """Three kinds of particles by a stack of sigmoids, as deep as the configuration says."""

    def model(self, config: Config) -> nn.Module:
        layers: list[nn.Module] = [nn.Linear(10, 24), nn.Sigmoid()]
        for _ in range(config.model["depth"] - 1):
            layers += [nn.Linear(24, 24), nn.Sigmoid()]
        return nn.Sequential(*layers, nn.Linear(24, 3))

    def data(self, config: Config) -> Splits:
        x, y = samples.table(config.seed, rows=800, columns=10, classes=3, apart=0.8)
        return samples.divided(x, y, config.seed).splits()


class SmallTanh(Height):
    """Twelve tanh layers whose weights begin near 0."""

    scale = 0.02

    def model(self, config: Config) -> nn.Module:
        layers: list[nn.Module] = []
        for inputs in (5, *[32] * 11):
            layer = nn.Linear(inputs, 32)
            self.start(layer.weight)
            layers += [layer, nn.Tanh()]
        return nn.Sequential(*layers, nn.Linear(32, 1))

    def start(self, weight: Tensor) -> None:
        nn.init.normal_(weight, std=self.scale)


class XavierTanh(SmallTanh):
    def start(self, weight: Tensor) -> None:
        nn.init.xavier_normal_(weight)


class Waves(nn.Module):
    """Layers of sines."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(5, 32), nn.Linear(32, 32), nn.Linear(32, 1)
        nn.init.uniform_(self.second.weight, -math.sqrt(6 / 32) / 2, math.sqrt(6 / 32) / 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.sin(self.second(torch.sin(2 * self.first(x)))))


class BySines(Height):
    def model(self, config: Config) -> nn.Module:
        return Waves()


class Outliers(Height):
    """One target in twenty is far off, in every split; Huber's loss."""

    def data(self, config: Config) -> Splits:
        x, y = pendulum(config.seed, 1000)
        draw = np.random.default_rng(config.seed + 1)
        far = draw.random(1000) < 0.05
        return samples.divided(
            x, np.where(far, y + 8 * draw.normal(size=1000), y), config.seed
        ).splits()

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        return nn.functional.huber_loss(outputs.squeeze(1), targets, delta=0.5)


class UpAndDown(Height):
    """A rate that goes up and down in triangles."""

    def train(self, session: TrainingSession) -> None:
        top = session.config.training.learning_rate
        schedule = torch.optim.lr_scheduler.CyclicLR(
            session.optimizer, top / 20, top, step_size_up=40, cycle_momentum=False
        )
        for epoch in session.epochs():
            for inputs, targets in session.batches():
                session.loss(inputs, targets).backward()
                session.update()
                schedule.step()
            session.finish_epoch(epoch)


CASES = [
    Case(id="lab_log_of_negative", label="nan_loss", build=RelativeError,
         config=settings(epochs=6, optimizer="sgd", learning_rate=0.3),
         twin=RelativeErrorGuarded, verify=broken,
         notes="log1p of outputs that are below -1"),
    Case(id="lab_angle_of_none", label="nan_loss", build=Sphere, config=settings(epochs=8),
         twin=SphereWithin, verify=broken, notes="the slope of acos at 1 is infinite"),
    Case(id="lab_no_variance", label="nan_loss", build=Spread, config=settings(epochs=8),
         twin=SpreadAtLeast, verify=broken, notes="the logarithm of a variance of 0"),
    Case(id="lab_nine_sigmoids", label="vanishing_gradients", build=Stack,
         config=settings(model={"depth": 9}, epochs=12), twin_config=patch(model={"depth": 1}),
         verify=worse(0.3), notes="nine layers of sigmoids"),
    Case(id="lab_small_tanh", label="vanishing_gradients", build=SmallTanh,
         config=settings(epochs=10, learning_rate=0.001), twin=XavierTanh, verify=worse(0.3),
         notes="twelve tanh layers whose weights begin at 0.02"),
    Case(id="lab_sgd_copied_rate", label="lr_too_low", build=Height,
         config=settings(epochs=12, optimizer="sgd", learning_rate=1e-5),
         twin_config=patch(training={"learning_rate": 0.05}), verify=worse(0.3),
         notes="the rate of a fine-tuned adam for sgd"),
    Case(id="well_lab_sines", label=HEALTHY, build=BySines,
         config=settings(epochs=15, learning_rate=0.005), verify=reaches(0.85),
         notes="sine activations, a start of one's own"),
    Case(id="well_lab_outliers", label=HEALTHY, build=Outliers,
         config=settings(metric="mae", epochs=20, learning_rate=0.006), verify=reaches(0.6),
         notes="targets with outliers in every split, Huber"),
    Case(id="well_lab_up_and_down", label=HEALTHY, build=UpAndDown,
         config=settings(epochs=20, learning_rate=0.02), verify=reaches(0.85),
         notes="a cyclic rate"),
]  # fmt: skip
