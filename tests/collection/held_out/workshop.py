"""A workshop in good health: trainings with losses and nets that look odd and are right."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pytest_mltrainer import Config, Splits, Task

from .. import samples
from ..cases import HEALTHY, Case, reaches, settings


class Planks(nn.Module):
    """Attention after norms, over places that are numbered."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(12, 32), nn.Parameter(0.5 * torch.randn(10, 32))
        self.layer = nn.TransformerEncoderLayer(
            32, 4, 64, dropout=0.0, batch_first=True, norm_first=True
        )
        self.out = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layer(self.words(x) + self.places))


class Cuts(Task):
    """Each place by itself and the first one; the rate warms up and ends at zero."""

    kind = "sequence"

    def model(self, config: Config) -> nn.Module:
        return Planks()

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x = draw.integers(0, 12, (900, 10))
        return samples.divided(x, 2 * (x > 5) + (x[:, :1] % 2), config.seed).splits()


class Wines(Task):
    """A hundred wines, a small net, much decay."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(13, 8), nn.Tanh(), nn.Linear(8, 3))

    def data(self, config: Config) -> Splits:
        return samples.divided(*samples.load("wine"), config.seed).standardised().splits()


class Lathe(Task):
    """All rows at once, and a step for each weight by the sign of its slope."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x = draw.normal(size=(1500, 8))
        y = np.tanh(x[:, 0] - x[:, 1]) + 0.4 * np.tanh(2 * x[:, 2]) + 0.2 * draw.normal(size=1500)
        return samples.divided(x, y, config.seed).splits()

    def optimizer(self, model: nn.Module, config: Config) -> torch.optim.Optimizer:
        return torch.optim.Rprop(model.parameters(), lr=config.training.learning_rate)


class Screws(Task):
    """A margin: once all rows keep it, loss and gradients are zero."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 3))

    def data(self, config: Config) -> Splits:
        x, y = samples.table(config.seed, rows=900, columns=10, classes=3, apart=2.5)
        return samples.divided(x, y, config.seed).standardised().splits()

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        return functional.multi_margin_loss(outputs, targets)


class Waves(nn.Module):
    """Fixed random waves and a linear layer that is learned."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("directions", 0.8 * torch.randn(3, 250))
        self.register_buffer("phases", 6.283 * torch.rand(250))
        self.out = nn.Linear(250, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.cos(x @ self.directions + self.phases))


class Polish(Task):
    """Random features of Fourier, never trained."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return Waves()

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x = draw.normal(size=(1500, 3))
        y = np.sin(1.5 * x[:, 0]) + 0.6 * np.cos(x[:, 1] + x[:, 2])
        return samples.divided(x, y + 0.2 * draw.normal(size=1500), config.seed).splits()


class Chain(nn.Module):
    """The next symbol from those before."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.out = nn.Embedding(8, 12), nn.Linear(24, 8)
        self.past = nn.GRU(12, 24, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.past(self.words(x))[0])


class Moves(Task):
    """The next of eight moves, drawn by chances that only the last one sets."""

    kind = "sequence"

    def model(self, config: Config) -> nn.Module:
        return Chain()

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        edges = draw.dirichlet(np.full(8, 0.5), size=8).cumsum(axis=1)
        moves = draw.integers(0, 8, (600, 17))
        for step in range(16):
            chances = edges[moves[:, step]]
            moves[:, step + 1] = (draw.random((600, 1)) > chances[:, :-1]).sum(1)
        return samples.divided(moves[:, :-1], moves[:, 1:], config.seed).splits()


class Cracks(Task):
    """One piece in twelve is cracked; the focal loss is small from the start."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(9, 32), nn.ReLU(), nn.Linear(32, 2))

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        y = (draw.random(1800) < 1 / 12).astype(np.int64)
        x = draw.normal(size=(1800, 9))
        x[:, :3] += 1.6 * y[:, None]
        return samples.divided(x, y, config.seed).splits()

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        each = functional.cross_entropy(outputs, targets, reduction="none")
        weight = torch.where(targets == 1, 0.75, 0.25)
        return (weight * (1 - torch.exp(-each)) ** 2 * each).mean()


class Winners(nn.Module):
    """Of all units the eight largest of each row pass."""

    def forward(self, x: Tensor) -> Tensor:
        least = x.topk(8, dim=1).values[:, -1:]
        return torch.relu(x) * (x >= least)


class Tools(Task):
    """Digits by units of which seven in eight are silent on each picture."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(64, 64), Winners(), nn.Linear(64, 10))

    def data(self, config: Config) -> Splits:
        return samples.digits(config.seed).standardised().splits()


class Mixture(Task):
    """A density of two bells a row: a likelihood above one, a loss below zero."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(5, 40), nn.Tanh(), nn.Linear(40, 6))

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x = draw.normal(size=(1400, 5))
        centre = 0.4 * np.tanh(x[:, 0]) + 0.3 * np.sin(x[:, 1])
        spread = np.where(draw.random(1400) < 0.8, 0.04, 0.12)
        return samples.divided(x, centre + spread * draw.normal(size=1400), config.seed).splits()

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        share, centre, raw = outputs.chunk(3, dim=1)
        bells = torch.distributions.Normal(centre, functional.softplus(raw) + 0.02)
        each = bells.log_prob(targets[:, None]) + share.log_softmax(1)
        return -each.logsumexp(1).mean()

    def metrics(self, outputs: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        share, centre = np.exp(outputs[:, :2]), outputs[:, 2:4]
        mean = (share * centre).sum(1) / share.sum(1)
        return {"r2": float(1 - ((mean - targets) ** 2).mean() / targets.var())}


CASES = [
    Case(
        id="bx_well_cuts_warmed", label=HEALTHY, build=Cuts, verify=reaches(0.97),
        config=settings(optimizer="adamw", weight_decay=0.01, warmup_steps=50, epochs=12,
                        scheduler="cosine"), notes="pre-norm attention, warm-up, cosine to zero",
    ),
    Case(
        id="bx_well_wines_few", label=HEALTHY, build=Wines, verify=reaches(0.93),
        config=settings(optimizer="adamw", weight_decay=0.5, learning_rate=0.01, epochs=20,
                        batch_size=16), notes="106 rows",
    ),
    Case(
        id="bx_well_lathe_rprop", label=HEALTHY, build=Lathe, verify=reaches(0.85),
        config=settings(optimizer="task", learning_rate=0.01, epochs=60, batch_size=900),
        notes="Rprop, one step an epoch",
    ),
    Case(
        id="bx_well_screws_margin", label=HEALTHY, build=Screws, verify=reaches(0.97),
        config=settings(epochs=15), notes="hinge: gradients of zero at the end",
    ),
    Case(
        id="bx_well_polish_waves", label=HEALTHY, build=Polish, verify=reaches(0.85),
        config=settings(learning_rate=0.01, epochs=15), notes="only a linear layer learns",
    ),
    Case(
        id="bx_well_moves_chance", label=HEALTHY, build=Moves, verify=reaches(0.4),
        config=settings(epochs=12, learning_rate=0.005), notes="at the entropy of a Markov chain",
    ),
    Case(
        id="bx_well_cracks_focal", label=HEALTHY, build=Cracks, verify=reaches(0.93),
        config=settings(epochs=12), notes="focal loss, one in twelve",
    ),
    Case(
        id="bx_well_tools_winners", label=HEALTHY, build=Tools, verify=reaches(0.93),
        config=settings(epochs=12), notes="k winners of a layer take all",
    ),
    Case(
        id="bx_well_mixture_density", label=HEALTHY, build=Mixture, verify=reaches(0.85),
        config=settings(epochs=20), notes="a mixture of two normal densities",
    ),
]  # fmt: skip
