"""Sound programs: experts, a critic with an optimizer of its own, counts, mixed rows."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pytest_mltrainer import Config, Splits, Task
from pytest_mltrainer.training.session import TrainingSession

from .. import samples
from .matching import sound


class Experts(nn.Module):
    """Four experts and a gate that mixes them."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(8, 4)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 1)) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        share = torch.softmax(self.gate(x), dim=-1)
        return (torch.cat([expert(x) for expert in self.experts], 1) * share).sum(1, keepdim=True)


class Curve(Task):
    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return Experts()

    def data(self, config: Config) -> Splits:
        return samples.divided(*samples.curved(config.seed, rows=1000), config.seed).splits()


class WithCritic(Curve):
    """A second network tells true targets from answers and is trained beside the first."""

    def train(self, session: TrainingSession) -> None:
        critic = nn.Sequential(nn.Linear(9, 24), nn.LeakyReLU(0.2), nn.Linear(24, 1))
        second = torch.optim.Adam(critic.parameters(), lr=0.001)
        session.register("critic", critic)
        session.register("critic_optimizer", second)
        for epoch in session.epochs():
            for inputs, targets in session.batches():
                answers = session.model(inputs)
                true, false = (
                    critic(torch.cat([inputs, column], 1))
                    for column in (targets[:, None], answers.detach())
                )
                second.zero_grad()
                (functional.softplus(-true).mean() + functional.softplus(false).mean()).backward()
                second.step()
                fooled = functional.softplus(-critic(torch.cat([inputs, answers], 1))).mean()
                (session.loss(inputs, targets) + 0.02 * fooled).backward()
                session.update()
            session.finish_epoch(epoch)


class Sales(Task):
    """Counts whose logarithm is linear in shop, day and price, and a Poisson loss."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(9, 24), nn.ReLU(), nn.Linear(24, 1))

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x = draw.normal(size=(1200, 9))
        mean = np.exp(0.8 + x @ (draw.normal(size=9) * 0.25))
        return samples.divided(x, draw.poisson(mean).astype(float), config.seed).splits()

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        return functional.poisson_nll_loss(outputs.squeeze(1), targets, log_input=True)

    def metrics(self, outputs: np.ndarray, targets: np.ndarray) -> Mapping[str, float]:
        return super().metrics(np.exp(np.clip(outputs, -20, 8)), targets)


class MixedUp(Task):
    """Two rows and their labels mixed by a random share."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))

    def data(self, config: Config) -> Splits:
        return samples.digits(config.seed).splits()

    def train(self, session: TrainingSession) -> None:
        for epoch in session.epochs():
            for inputs, targets in session.batches():
                share = float(torch.distributions.Beta(0.4, 0.4).sample())
                order = torch.randperm(len(inputs))
                mixed = share * inputs + (1 - share) * inputs[order]
                first = session.loss(mixed, targets)
                (share * first + (1 - share) * session.loss(mixed, targets[order])).backward()
                session.update()
            session.finish_epoch(epoch)


CASES = [
    sound("experts", Curve, 0.65, "a mixture of experts", epochs=20, learning_rate=0.008),
    sound("critic", WithCritic, 0.6, "a critic with an optimizer of its own", epochs=15,
          learning_rate=0.008),
    sound("sales", Sales, 0.2, "counts under a Poisson loss", epochs=10),
    sound("mixed_up", MixedUp, 0.9, "mixup in a loop of one's own", epochs=10),
]  # fmt: skip
