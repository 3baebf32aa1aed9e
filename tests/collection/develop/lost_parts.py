"""Parts that no gradient reaches: lists, rates of zero, steps without a slope."""

import torch
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task

from .. import samples, scenes
from ..cases import Case, Outcome, both, settings, worse


class Experts(nn.Module):
    """A gate over four experts that are kept in a plain list."""

    listed = True

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(6, 4)
        experts = [nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, 2)) for _ in range(4)]
        self.experts = experts if self.listed else nn.ModuleList(experts)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.gate(x).softmax(-1)
        answers = torch.stack([expert(x) for expert in self.experts], dim=1)
        return (weights.unsqueeze(-1) * answers).sum(1)


class RegisteredExperts(Experts):
    listed = False


class MoonExperts(Task):
    net: type[nn.Module] = Experts

    def model(self, config: Config) -> nn.Module:
        return self.net()

    def data(self, config: Config) -> Splits:
        return samples.divided(*scenes.moons(config.seed), config.seed).splits()


class MoonExpertsRight(MoonExperts):
    net = RegisteredExperts


class TwoTowers(nn.Module):
    """One tower for both measurements of a pair, and a score of their difference."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Linear(12, 48), nn.ReLU(), nn.Linear(48, 16))
        self.score = nn.Sequential(nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 2))

    def forward(self, pair: Tensor) -> Tensor:
        left, right = self.tower(pair[:, 0]), self.tower(pair[:, 1])
        return self.score((left - right).abs())


class BackboneAtZero(Task):
    """The group of the tower got the rate 0, left over from a first stage of training."""

    tower_rate = 0.0

    def model(self, config: Config) -> nn.Module:
        return TwoTowers()

    def data(self, config: Config) -> Splits:
        return samples.divided(*scenes.pairs(config.seed, rows=1200, noise=0.6)).splits()

    def optimizer(self, model: nn.Module, config: Config) -> torch.optim.Optimizer:
        rate = config.training.learning_rate
        groups = [
            {"params": model.tower.parameters(), "lr": self.tower_rate * rate},
            {"params": model.score.parameters(), "lr": rate},
        ]
        return torch.optim.RMSprop(groups, lr=rate)


class BackboneAtRate(BackboneAtZero):
    tower_rate = 1.0


class Codes(nn.Module):
    """An autoencoder whose code is replaced by the nearest of 24 code words."""

    straight = False

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(44, 48), nn.ReLU(), nn.Linear(48, 8))
        self.words = nn.Parameter(torch.randn(24, 8))
        self.decode = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 44))

    def forward(self, x: Tensor) -> Tensor:
        code = self.encode(x)
        word = self.words[torch.cdist(code, self.words).argmin(1)]
        if self.straight:
            word = code + word - code.detach()
        return self.decode(word)


class StraightCodes(Codes):
    straight = True


class DigitCodes(Task):
    kind = "regression"
    net: type[nn.Module] = Codes

    def model(self, config: Config) -> nn.Module:
        return self.net()

    def data(self, config: Config) -> Splits:
        return scenes.inked(config.seed).splits()


class DigitCodesRight(DigitCodes):
    net = StraightCodes


def same_parts(run: Outcome, twin: Outcome | None) -> str:
    """Some trainable parameter is what it was at the start, and none of the twin's."""
    assert twin is not None
    return "" if len(run.unchanged) > len(twin.unchanged) else f"unchanged: {run.unchanged}"


CASES = [
    Case(
        id="moons_listed_experts", label="params_not_updated", build=MoonExperts,
        config=settings(epochs=25, learning_rate=0.01), twin=MoonExpertsRight,
        verify=worse(0.05), notes="experts in a list are not registered",
    ),
    Case(
        id="pairs_tower_at_zero", label="params_not_updated", build=BackboneAtZero,
        config=settings(optimizer="task", epochs=25, learning_rate=0.002), twin=BackboneAtRate,
        verify=both(worse(0.01), same_parts), notes="a parameter group with rate 0",
    ),
    Case(
        id="digit_codes_by_argmin", label="params_not_updated", build=DigitCodes,
        config=settings(optimizer="adamw", epochs=25), twin=DigitCodesRight,
        verify=both(worse(0.05), same_parts), notes="no straight-through estimate",
    ),
]  # fmt: skip
