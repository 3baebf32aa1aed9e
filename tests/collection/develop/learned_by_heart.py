"""More freedom than the rows can pin down."""

from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task

from .. import samples, scenes
from ..cases import Case, last_worse, patch, settings


class FewSeries(Task):
    """Sixty noisy series for a large recurrent net."""

    few = True

    def model(self, config: Config) -> nn.Module:
        return Reader()

    def data(self, config: Config) -> Splits:
        x, y = samples.waves(config.seed, rows=1100, noise=1.6)
        parts = samples.divided(x, y, config.seed)
        rows = slice(0, 60 if self.few else None)
        train = samples.Rows(parts.train.x[rows], parts.train.y[rows])
        return samples.Parts(train, parts.validation, parts.test).splits()


class Reader(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(1, 48, batch_first=True)
        self.head = nn.Linear(48, 3)

    def forward(self, series: Tensor) -> Tensor:
        return self.head(self.gru(series)[0].mean(1))


class ManySeries(FewSeries):
    few = False


class TooManyTastes(Task):
    """Vectors of 64 numbers for users and films with some forty ratings each."""

    kind = "regression"
    size = 64

    def model(self, config: Config) -> nn.Module:
        return Films(self.size)

    def data(self, config: Config) -> Splits:
        x, y = scenes.ratings(config.seed, rows=2000)
        return samples.divided(x, y - 3, config.seed).splits()


class Films(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.users, self.items = nn.Embedding(60, size), nn.Embedding(50, size)
        for table in (self.users, self.items):
            nn.init.normal_(table.weight, std=size**-0.5)

    def forward(self, ids: Tensor) -> Tensor:
        return (self.users(ids[:, 0]) * self.items(ids[:, 1])).sum(1)


class FewTastes(TooManyTastes):
    size = 4


class ManyColumns(Task):
    """Sixty rows of forty columns for a wide regression net."""

    kind = "regression"
    few = True

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Linear(40, 256), nn.ReLU(), nn.Linear(256, 64), nn.ReLU(), nn.Linear(64, 1)
        )

    def data(self, config: Config) -> Splits:
        x, y = samples.straight(config.seed, rows=1200, columns=40, noise=0.4)
        parts = samples.divided(x, y, config.seed)
        rows = slice(0, 60 if self.few else None)
        train = samples.Rows(parts.train.x[rows], parts.train.y[rows])
        return samples.Parts(train, parts.validation, parts.test).splits()


class ManyRows(ManyColumns):
    few = False


CASES = [
    Case(
        id="waves_few_series", label="overfitting", build=FewSeries,
        config=settings(epochs=40, batch_size=16, learning_rate=0.01), twin=ManySeries,
        twin_config=patch(training={"epochs": 15}), verify=last_worse(0.08),
        notes="sixty noisy series",
    ),
    Case(
        id="films_too_many_tastes", label="overfitting", build=TooManyTastes,
        config=settings(epochs=30, learning_rate=0.01), twin=FewTastes,
        twin_config=patch(training={"weight_decay": 0.0005}), verify=last_worse(0.07),
        notes="64 numbers a user",
    ),
    Case(
        id="line_many_columns", label="overfitting", build=ManyColumns,
        config=settings(epochs=80, batch_size=16), twin=ManyRows,
        twin_config=patch(training={"epochs": 15}), verify=last_worse(0.15),
        notes="sixty rows of forty columns",
    ),
]  # fmt: skip
