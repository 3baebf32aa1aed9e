"""Ratings and visits: ids of users and things, looked up in tables."""

import numpy as np
import torch
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task

from .. import samples
from ..cases import HEALTHY, Case, patch, reaches, settings, worse

USERS, FILMS, WORDS = 80, 50, 300


class Factors(nn.Module):
    """A dot product of two tables and a bias each."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.users, self.films = nn.Embedding(USERS, width), nn.Embedding(FILMS, width)
        self.user_bias, self.film_bias = nn.Embedding(USERS, 1), nn.Embedding(FILMS, 1)
        for table in (self.users, self.films):
            nn.init.normal_(table.weight, std=0.3)
        for table in (self.user_bias, self.film_bias):
            nn.init.zeros_(table.weight)

    def forward(self, pairs: Tensor) -> Tensor:
        user, film = pairs.unbind(1)
        likes = (self.users(user) * self.films(film)).sum(1, keepdim=True)
        return likes + self.user_bias(user) + self.film_bias(film)


class Stars(Task):
    """Centred stars of a user for a film; a fifth of the variance is mood."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return Factors(config.model["width"])

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x = np.stack([draw.integers(0, USERS, 3600), draw.integers(0, FILMS, 3600)], 1)
        taste, kind = draw.normal(size=(USERS, 2)), draw.normal(size=(FILMS, 2))
        strict, good = draw.normal(size=USERS), draw.normal(size=FILMS)
        y = (taste[x[:, 0]] * kind[x[:, 1]]).sum(1) * 0.5 + strict[x[:, 0]] + good[x[:, 1]]
        y = y / y.std() + 0.45 * draw.normal(size=len(y))
        return samples.divided(x, y, config.seed, train=0.7, validation=0.15).splits()


class TowerOfIds(nn.Module):
    """Tables, then an MLP; `cut` reads the tables past autograd."""

    def __init__(self, width: int, cut: bool) -> None:
        super().__init__()
        self.users, self.films = nn.Embedding(USERS, width), nn.Embedding(FILMS, width)
        self.mix = nn.Sequential(nn.Linear(2 * width, 32), nn.ReLU(), nn.Linear(32, 1))
        self.cut = cut

    def forward(self, pairs: Tensor) -> Tensor:
        user, film = pairs.unbind(1)
        if self.cut:
            known = torch.cat([self.users.weight.data[user], self.films.weight.data[film]], 1)
        else:
            known = torch.cat([self.users(user), self.films(film)], 1)
        return self.mix(known)


class StarsByTower(Stars):
    cut = False

    def model(self, config: Config) -> nn.Module:
        return TowerOfIds(config.model["width"], self.cut)


class StarsByCutTower(StarsByTower):
    cut = True


class Bag(nn.Module):
    """The mean of the words of a page, read with an offset each."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(WORDS, width, mode="mean")
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, 4))

    def forward(self, pages: Tensor) -> Tensor:
        return self.head(self.words(pages))


class Pages(Task):
    """The section of a page from 20 of its words."""

    def model(self, config: Config) -> nn.Module:
        return Bag(config.model["width"], config.model["dropout"])

    def data(self, config: Config) -> Splits:
        x, y = samples.texts(config.seed, rows=1500, length=20, words=WORDS, topical=0.3)
        return samples.divided(x, y, config.seed).splits()


class NextBuy(Task):
    """Which of eight shelves a visitor buys from, by the counts of earlier visits, most of them 0.

    The choice is made by chance within what the counts say.
    """

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Linear(60, 64), nn.GELU(), nn.Dropout(config.model["dropout"]), nn.Linear(64, 8)
        )

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        counts = draw.poisson(draw.gamma(0.3, 1.0, (2400, 60)))
        pull = counts @ (draw.normal(size=(60, 8)) * 0.5)
        y = np.argmax(pull + draw.gumbel(size=pull.shape), 1)
        return samples.divided(np.log1p(counts), y, config.seed).splits()


CASES = [
    Case(
        id="cf_sgd_for_tables", label="lr_too_low", build=Stars,
        config=settings(model={"width": 4}, optimizer="sgd", learning_rate=0.001, momentum=0.0,
                        epochs=8, batch_size=128),
        twin_config=patch(training={"optimizer": "adam", "learning_rate": 0.02}), verify=worse(0.3),
        notes="plain sgd at 0.001 for tables of ids",
    ),
    Case(
        id="cf_decayed_tables", label="underfitting", build=Stars,
        config=settings(model={"width": 4}, learning_rate=0.02, weight_decay=0.05, epochs=10,
                        batch_size=128),
        twin_config=patch(training={"weight_decay": 0.0}), verify=worse(0.15),
        notes="a weight decay of 0.05 inside adam on tables of ids",
    ),
    Case(
        id="cf_tables_past_autograd", label="params_not_updated", build=StarsByCutTower,
        config=settings(model={"width": 8}, learning_rate=0.01, epochs=10, batch_size=64),
        twin=StarsByTower, verify=worse(0.1), notes="tables read through .weight.data",
    ),
    Case(
        id="cf_too_many_factors", label="overfitting", build=Stars,
        config=settings(model={"width": 48}, learning_rate=0.02, epochs=30, batch_size=128),
        twin_config=patch(model={"width": 2}, training={"epochs": 12}), verify=worse(0.03),
        notes="48 factors a user for 30 ratings each",
    ),
    Case(
        id="well_cf_stars", label=HEALTHY, build=Stars,
        config=settings(model={"width": 2}, learning_rate=0.02, epochs=10, batch_size=128,
                        optimizer="adamw", weight_decay=0.01),
        verify=reaches(0.55), notes="tables of ids, a noise ceiling",
    ),
    Case(
        id="well_pages_bag", label=HEALTHY, build=Pages,
        config=settings(model={"width": 16, "dropout": 0.3}, learning_rate=0.01, epochs=8),
        verify=reaches(0.75), notes="EmbeddingBag, dropout on the mean",
    ),
    Case(
        id="well_visits_by_chance", label=HEALTHY, build=NextBuy,
        config=settings(model={"dropout": 0.5}, optimizer="adamw", weight_decay=0.05, epochs=8,
                        learning_rate=0.002),
        verify=reaches(0.3), notes="sparse counts, a choice made largely by chance",
    ),
]  # fmt: skip
