"""A shop: baskets, spending, stores, credit, orders, ratings of buyers and parcels."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task
from pytest_mltrainer.training.session import TrainingSession

from .. import samples
from ..cases import Case, both, broken, last_worse, settings, unsteady, worse
from ..scenes import Tuples, thirds


class Pooled(nn.Module):
    """Items looked at by a learned attention; 0 is no item."""

    def __init__(self, masked: float) -> None:
        super().__init__()
        self.items = nn.Embedding(80, 24, padding_idx=0)
        self.score, self.out = nn.Linear(24, 1), nn.Linear(24, 4)
        self.masked = masked

    def forward(self, x: Tensor) -> Tensor:
        items = self.items(x)
        score = self.score(torch.tanh(items)).squeeze(2).masked_fill(x == 0, self.masked)
        return self.out((score.softmax(1)[..., None] * items).sum(1))


class Basket(Task):
    """The kind of a buyer from the up to twelve items in a basket; a few baskets are empty."""

    masked = -1e4

    def model(self, config: Config) -> nn.Module:
        return Pooled(self.masked)

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x, y = samples.texts(config.seed, rows=1200, length=12, words=80, topical=0.45)
        sizes = np.maximum(draw.integers(3, 13, 1200) * (draw.random(1200) > 0.01), 0)
        return samples.divided(np.where(np.arange(12) < sizes[:, None], x, 0), y, 0).splits()


class BasketInfinite(Basket):
    """Places without an item score minus infinity, and in an empty basket all do."""

    masked = -math.inf


class Shift(nn.Module):
    """Less `by`."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, x: Tensor) -> Tensor:
        return x - self.by


class WideDeep(nn.Module):
    """A linear part and a deep one; the deep one passes only what stands out of its row."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.wide = nn.Linear(10, 1)
        self.deep = nn.Sequential(
            nn.Linear(10, 64), nn.LayerNorm(64, elementwise_affine=False), Shift(threshold),
            nn.ReLU(), nn.Linear(64, 1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.wide(x) + self.deep(x)


class Spending(Task):
    """What a buyer spends in a year."""

    kind = "regression"
    threshold = 0.35

    def model(self, config: Config) -> nn.Module:
        return WideDeep(self.threshold)

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x = draw.normal(size=(1100, 10))
        y = 0.6 * x[:, 0] - 0.4 * x[:, 1] + np.abs(x[:, 2] + x[:, 3]) + 0.5 * np.cos(2 * x[:, 4])
        y = (y - y.mean()) / y.std() + 0.2 * draw.normal(size=1100)
        return samples.divided(x, y, config.seed).splits()


class SpendingCut(Spending):
    """A threshold in percent of a scale that ends at 10: 3.5 deviations, which no unit reaches."""

    threshold = 3.5


class Scheduled(Task):
    """A rate that a function of the step multiplies."""

    def factor(self, step: int, session: TrainingSession) -> float:
        raise NotImplementedError

    def train(self, session: TrainingSession) -> None:
        schedule = torch.optim.lr_scheduler.LambdaLR(
            session.optimizer, lambda step: self.factor(step, session)
        )
        for epoch in session.epochs():
            for inputs, targets in session.batches():
                session.loss(inputs, targets).backward()
                session.update()
                schedule.step()
            session.finish_epoch(epoch)


class Stores(Scheduled):
    """Sales of a store on a day: store, weekday, month, and four numbers."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Linear(43, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 1)
        )

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        store, day, month = (draw.integers(0, count, 1500) for count in (20, 7, 12))
        numbers = draw.normal(size=(1500, 4))
        x = np.hstack([np.eye(20)[store], np.eye(7)[day], np.eye(12)[month], numbers])
        y = draw.normal(size=20)[store] + 0.8 * (day > 4) * np.sin(month) + 0.6 * numbers[:, 0]
        y = y + 0.6 * np.tanh(numbers[:, 1] * numbers[:, 2]) + 0.3 * draw.normal(size=1500)
        return samples.divided(x, y, config.seed).targets_standardised().splits()

    def factor(self, step: int, session: TrainingSession) -> float:
        return min(1.0, (step + 1) / 15)


class StoresRising(Stores):
    """A warm-up that does not end: the rate goes on growing."""

    def factor(self, step: int, session: TrainingSession) -> float:
        return (step + 1) / 15


class Credit(Task):
    """Whether a loan is paid back, from fourteen columns."""

    epsilon = 1e-8

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Linear(14, 48), nn.GELU(), nn.Dropout(0.1), nn.Linear(48, 24), nn.GELU(),
            nn.Linear(24, 2),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x = draw.normal(size=(1400, 14))
        score = x[:, 0] * x[:, 1] + x[:, 2] - 0.8 * x[:, 3] + np.maximum(x[:, 4], 0) - 0.4
        y = (score + 0.3 * draw.normal(size=1400) > 0).astype(np.int64)
        return samples.divided(x, y, config.seed).splits()

    def optimizer(self, model: nn.Module, config: Config) -> torch.optim.Optimizer:
        rate = config.training.learning_rate
        return torch.optim.Adam(model.parameters(), lr=rate, eps=self.epsilon)


class CreditSteady(Credit):
    """An epsilon of 1, from the recipe of a model with gradients a thousand times as large."""

    epsilon = 1.0


class Orders(Scheduled):
    """The department, of six, that an order goes to, from a form of 30 ticks."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Linear(30, 40), nn.LayerNorm(40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(),
            nn.Linear(40, 6),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        y = draw.integers(0, 6, 1800)
        chance = draw.uniform(0.1, 0.9, size=(6, 30))[y]
        return samples.divided((draw.random((1800, 30)) < chance) * 2.0 - 1, y, 0).splits()

    def factor(self, step: int, session: TrainingSession) -> float:
        return max(0.0, 1 - step / (self.epochs * session.updates_per_epoch))

    def optimizer(self, model: nn.Module, config: Config) -> torch.optim.Optimizer:
        self.epochs = config.training.epochs
        return super().optimizer(model, config)


class OrdersInEpochs(Orders):
    """A linear decay over the epochs that is asked at each batch: zero after the tenth."""

    def factor(self, step: int, session: TrainingSession) -> float:
        return max(0.0, 1 - step / self.epochs)


class Taste(nn.Module):
    """Columns of an article, and the buyer's number as a vector."""

    def __init__(self, buyers: int) -> None:
        super().__init__()
        self.buyers = nn.Embedding(buyers, 24) if buyers else None
        self.rest = nn.Sequential(nn.Linear(6 + 24 * bool(buyers), 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        columns, buyer = inputs
        both_parts = [columns] if self.buyers is None else [columns, self.buyers(buyer)]
        return self.rest(torch.cat(both_parts, dim=1))


class Buyers(Task):
    """A rating from what the article is; who rates matters little."""

    kind = "regression"
    known = 0

    def model(self, config: Config) -> nn.Module:
        return Taste(self.known)

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x = draw.normal(size=(1500, 6))
        y = np.tanh(x[:, 0] + x[:, 1]) + 0.6 * x[:, 2] + 0.5 * draw.normal(size=1500)
        buyer = draw.integers(0, 600, 1500)
        return thirds(lambda rows: Tuples([x[rows], buyer[rows]], y[rows]), 1500)


class BuyersByNumber(Buyers):
    """A vector for each of 600 buyers, of whom one or two ratings are known."""

    known = 600


CASES = [
    Case(
        id="bx_basket_empty", label="nan_loss", build=BasketInfinite, twin=Basket, verify=broken,
        config=settings(epochs=14, learning_rate=0.005),
        notes="a softmax over nothing but minus infinity",
    ),
    Case(
        id="bx_spending_threshold", label="dead_relu", build=SpendingCut, twin=Spending,
        config=settings(epochs=15), verify=worse(0.2),
        notes="the deep half passes nothing; the linear half learns",
    ),
    Case(
        id="bx_stores_rate_rises", label="unstable_training", build=StoresRising, twin=Stores,
        config=settings(optimizer="sgd", learning_rate=0.02, epochs=16, clip_norm=1.0),
        verify=both(unsteady, last_worse(0.15)), notes="no min() around the warm-up",
    ),
    Case(
        id="bx_credit_epsilon", label="lr_too_low", build=CreditSteady, twin=Credit,
        config=settings(optimizer="task", epochs=10), verify=worse(0.1),
        notes="Adam's step of 0.003 times the gradient itself",
    ),
    Case(
        id="bx_orders_decayed", label="convergence_stall", build=OrdersInEpochs, twin=Orders,
        config=settings(optimizer="sgd", learning_rate=0.005, epochs=10, batch_size=16),
        verify=worse(0.2), notes="the rate is zero before the first epoch ends",
    ),
    Case(
        id="bx_buyers_by_number", label="overfitting", build=BuyersByNumber, twin=Buyers,
        config=settings(epochs=30), verify=both(worse(0.05), last_worse(0.15)),
        notes="a vector of 24 numbers for one or two rows each",
    ),
]  # fmt: skip
