"""Sound trainings of graphs, attention and memories that start or learn oddly."""

import torch
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task

from .. import samples, scenes
from ..cases import HEALTHY, Case, reaches, settings


class ZeroBranches(nn.Module):
    """Attention and residual branches whose last layers start at zero, and learned places."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(6, 32), nn.Parameter(0.3 * torch.randn(14, 32))
        self.mix = nn.ModuleList(nn.MultiheadAttention(32, 2, batch_first=True) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(32) for _ in range(4))
        self.feed = nn.ModuleList(
            nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32)) for _ in range(2)
        )
        for mix, feed in zip(self.mix, self.feed, strict=True):
            for layer in (mix.out_proj, feed[2]):
                nn.init.zeros_(layer.weight)
                nn.init.zeros_(layer.bias)
        self.head = nn.Linear(32, 4)

    def forward(self, words: Tensor) -> Tensor:
        hidden = self.embed(words) + self.place
        for number, (mix, feed) in enumerate(zip(self.mix, self.feed, strict=True)):
            own = self.norms[2 * number](hidden)
            hidden = hidden + mix(own, own, own, need_weights=False)[0]
            hidden = hidden + feed(self.norms[2 * number + 1](hidden))
        return self.head(hidden)


class TagsFromZero(Task):
    """A transformer whose branches start at zero, with warm-up and cosine."""

    kind = "sequence"

    def model(self, config: Config) -> nn.Module:
        return ZeroBranches()

    def data(self, config: Config) -> Splits:
        return samples.divided(
            *samples.tagged(config.seed, rows=800, words=6), config.seed
        ).splits()


class Neighbours(nn.Module):
    """Two rounds of messages, summed; the norm comes behind them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 32), nn.Linear(64, 32)
        self.norm, self.head = nn.LayerNorm(32), nn.Linear(32, 2)

    def forward(self, graph: tuple[Tensor, Tensor]) -> Tensor:
        nodes, links = graph
        own = torch.relu(self.first(torch.cat([nodes, nodes * (links @ nodes)], dim=-1)))
        own = torch.relu(self.norm(self.second(torch.cat([own, links @ own], dim=-1))))
        return self.head(own.mean(1))


class GraphsSummed(Task):
    """Graphs, with sums over neighbours."""

    def model(self, config: Config) -> nn.Module:
        return Neighbours()

    def data(self, config: Config) -> Splits:
        nodes, links, y = scenes.graphs(config.seed, rows=900)
        return scenes.thirds(
            lambda rows: scenes.Tuples((nodes[rows], links[rows]), y[rows]), len(y)
        )


class LateSums(Task):
    """The loss lies flat for epochs before it falls; the forget gates start open."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return Remembering()

    def data(self, config: Config) -> Splits:
        x, y = scenes.adding(config.seed, rows=1800, steps=14)
        return samples.divided(x, y, config.seed).splits()


class Remembering(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(2, 32, batch_first=True), nn.Linear(32, 1)
        nn.init.constant_(self.lstm.bias_ih_l0[32:64], 3.0)

    def forward(self, series: Tensor) -> Tensor:
        return self.head(self.lstm(series)[0][:, -1])


def healthy(name: str, build: type[Task], score: float, **training: object) -> Case:
    notes = (build.__doc__ or "Noise on the code in training.").strip()
    return Case(
        id=name, label=HEALTHY, build=build, config=settings(**training), verify=reaches(score),
        notes=notes,
    )  # fmt: skip


CASES = [
    healthy("ok_tags_from_zero", TagsFromZero, 0.9, epochs=20, learning_rate=0.006, warmup_steps=20,
            scheduler="cosine", optimizer="adamw"),
    healthy("ok_graphs_summed", GraphsSummed, 0.85, epochs=15),
    healthy("ok_late_sums", LateSums, 0.85, epochs=15, learning_rate=0.005),
]  # fmt: skip
