"""Sound trainings of models and losses that look odd: densities, routes, two tasks."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pytest_mltrainer import Config, Splits, Task

from .. import samples, scenes
from ..cases import HEALTHY, Case, reaches, settings


class Flow(nn.Module):
    """The logarithm of each class's density: two couplings per class, then a normal one."""

    def __init__(self, columns: int = 6, classes: int = 2) -> None:
        super().__init__()
        half = columns // 2
        self.couplings = nn.ModuleList(
            nn.ModuleList(
                nn.Sequential(nn.Linear(half, 32), nn.Tanh(), nn.Linear(32, 2 * half))
                for _ in range(4)
            )
            for _ in range(classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.density(x, layers) for layers in self.couplings], dim=1)

    def density(self, x: Tensor, layers: nn.ModuleList) -> Tensor:
        left, right = x[:, ::2], x[:, 1::2]
        volume = torch.zeros(len(x))
        for layer in layers:
            scale, shift = layer(left).chunk(2, dim=1)
            scale = torch.tanh(scale)
            left, right = right * scale.exp() + shift, left
            volume = volume + scale.sum(1)
        return volume - 0.5 * (left**2 + right**2 + np.log(2 * np.pi)).sum(1)


class MoonDensities(Task):
    """A classifier by densities: its loss is the likelihood of the own class alone."""

    def model(self, config: Config) -> nn.Module:
        return Flow()

    def data(self, config: Config) -> Splits:
        return samples.divided(*scenes.moons(config.seed, rows=1000), config.seed).splits()

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        return -outputs.gather(1, targets[:, None]).mean()


class NoisyCode(nn.Module):
    """An autoencoder with noise on its code in training only."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(44, 48), nn.GELU(), nn.Linear(48, 16))
        self.decode = nn.Sequential(nn.Linear(16, 48), nn.GELU(), nn.Linear(48, 44))

    def forward(self, x: Tensor) -> Tensor:
        code = self.encode(x)
        if self.training:
            code = code + 0.3 * torch.randn_like(code)
        return self.decode(code)


class Denoised(Task):
    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return NoisyCode()

    def data(self, config: Config) -> Splits:
        return scenes.inked(config.seed).splits()


class HeavyTails(Task):
    """Absolute errors, since some targets are far off."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(8, 48), nn.SiLU(), nn.Linear(48, 1))

    def data(self, config: Config) -> Splits:
        x, y = samples.straight(config.seed, rows=1000, columns=8, noise=0.2)
        y = y + 0.15 * np.random.default_rng(config.seed).standard_t(3, len(y))
        return samples.divided(x, y, config.seed).splits()

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        return functional.l1_loss(outputs.squeeze(1), targets)


class TwoTasks(nn.Module):
    """One body, a head for each of two targets."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 48), nn.Tanh(), nn.Linear(48, 32), nn.Tanh())
        self.heads = nn.ModuleList(nn.Linear(32, 1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        body = self.body(x)
        return torch.cat([head(body) for head in self.heads], dim=1)


class TwoTargets(Task):
    """Two targets, one of them weighs a fifth."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return TwoTasks()

    def data(self, config: Config) -> Splits:
        x, y = samples.curved(config.seed, rows=1200, noise=0.2)
        both = np.stack([y, x[:, 0] - x[:, 4] + 0.2 * np.tanh(y)], axis=1)
        return samples.divided(x, both, config.seed).splits()

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        errors = (outputs - targets).pow(2).mean(0)
        return errors[0] + 0.2 * errors[1]


class Routed(nn.Module):
    """Each sample goes to the one expert that its gate likes best."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(64, 4)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        scores = self.gate(x)
        if self.training:
            scores = scores + torch.randn_like(scores)
        chances = scores.softmax(-1)
        best, chosen = chances.max(-1)
        answers = torch.stack([expert(x) for expert in self.experts], dim=1)
        return best[:, None] * answers[torch.arange(len(x)), chosen]


class DigitsRouted(Task):
    """A mixture of experts with hard routes, and noise on the gate in training."""

    def model(self, config: Config) -> nn.Module:
        return Routed()

    def data(self, config: Config) -> Splits:
        return samples.digits(config.seed).splits()


class Rates(Task):
    """Counts by a rate behind `exp`, with the loss that fits it."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 1))

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        return model(inputs).squeeze(1).exp()

    def data(self, config: Config) -> Splits:
        return samples.divided(*scenes.counts(config.seed, rows=1200), config.seed).splits()

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        return functional.poisson_nll_loss(outputs, targets, log_input=False)


def healthy(
    name: str, build: type[Task], score: float, below: float = 0.05, **training: object
) -> Case:
    notes = (build.__doc__ or "Noise on the code in training.").strip()
    return Case(
        id=name, label=HEALTHY, build=build, config=settings(**training),
        verify=reaches(score, below_linear=below), notes=notes,
    )  # fmt: skip


CASES = [
    healthy("ok_moon_densities", MoonDensities, 0.92, epochs=15, learning_rate=0.003),
    healthy("ok_noisy_code", Denoised, 0.75, 1.0, epochs=25, learning_rate=0.003),
    healthy("ok_heavy_tails", HeavyTails, 0.75, epochs=15),
    healthy("ok_two_targets", TwoTargets, 0.75, epochs=25, learning_rate=0.005),
    healthy("ok_digits_routed", DigitsRouted, 0.92, epochs=15),
    healthy("ok_rates", Rates, 0.5, epochs=20, learning_rate=0.005),
]  # fmt: skip
