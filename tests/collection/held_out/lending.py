"""A lender: applicants, loans, shops; tables whose columns were made by hand."""

import numpy as np
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task

from .. import samples
from ..cases import Case, inflated, patch, settings, worse

COLUMNS = 9


def applicants(seed: int, rows: int = 1000, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Nine traits of deviation 1 and a score of risk that is bent in them."""
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(rows, COLUMNS))
    x[:, 5:] = 0.7 * x[:, 5:] + 0.7 * x[:, :4]
    risk = x[:, 0] + np.maximum(x[:, 1], -0.3) * 1.2 - 0.7 * x[:, 2] * x[:, 3] + 0.4 * x[:, 4]
    return x, (risk - risk.mean()) / risk.std() + noise * draw.normal(size=rows)


class Revenue(Task):
    """What a shop will turn over, by its traits and the share of its invoices that was paid."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(COLUMNS + 1, 40), nn.ReLU(), nn.Linear(40, 20), nn.ReLU(),
                             nn.Linear(20, 1))  # fmt: skip

    def share(self, paid: np.ndarray, sent: np.ndarray) -> np.ndarray:
        return np.where(sent > 0, paid / np.maximum(sent, 1), 0.5)

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed + 1)
        x, y = applicants(config.seed)
        sent = draw.poisson(3.5, len(y)).astype(np.float64)
        paid = np.floor(sent * draw.random(len(y)))
        y = y + 0.8 * np.where(sent > 0, paid / np.maximum(sent, 1), 0.5)
        with np.errstate(invalid="ignore"):
            columns = np.column_stack([x, 2 * self.share(paid, sent)])
        return samples.divided(columns, y, config.seed).splits()


class RevenueOfNewcomers(Revenue):
    """Shops without an invoice so far: nothing paid, divided by nothing sent."""

    def share(self, paid: np.ndarray, sent: np.ndarray) -> np.ndarray:
        return paid / sent


class Limit(Task):
    """The limit of a card, by the logarithm of the hyperbolic cosine."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(COLUMNS, 32), nn.Tanh(), nn.Linear(32, 1))

    def data(self, config: Config) -> Splits:
        return samples.divided(*applicants(config.seed), config.seed).splits()

    def left(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs.squeeze(1) - targets

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        left = self.left(outputs, targets)
        return (left + nn.functional.softplus(-2 * left)).mean()


class LimitSpread(Limit):
    """A column less a row is a square: every output is compared with every target."""

    def left(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return outputs - targets


class Amount(Task):
    """The amount asked for, to deviation 1 around 0, with a long tail."""

    kind = "regression"

    def last(self) -> nn.Module:
        return nn.Identity()

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(COLUMNS, 48), nn.ELU(), nn.Linear(48, 24), nn.ELU(),
                             nn.Linear(24, 1), self.last())  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = applicants(config.seed, 1200, noise=0.1)
        parts = samples.divided(x, np.log1p(np.exp(1.5 * y)), config.seed)
        return parts.targets_standardised().splits()


class AmountBounded(Amount):
    """The last layer of another project, whose targets lay between -1 and 1."""

    def last(self) -> nn.Module:
        return nn.Tanh()


class Fraud(Task):
    """One payment in thirty is fraud and lies among the others."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(COLUMNS, 24), nn.ReLU(), nn.Dropout(0.2), nn.Linear(24, 2))

    def data(self, config: Config) -> Splits:
        x, risk = applicants(config.seed, 2800, noise=0.8)
        y = (risk > np.quantile(risk, 0.967)).astype(np.int64)
        return samples.divided(x, y, config.seed).splits()


class Branches(Task):
    """Whether a loan is repaid, with the share of the branch among the columns. The share comes
    from training alone, of a training row from the rows of other folds."""

    honest = True

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(7, 32), nn.ReLU(), nn.Linear(32, 2))

    def shares(self, branch: np.ndarray, y: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """The share of ones by branch in the rows `seen`, of all where a branch has none."""
        sums = np.bincount(branch[seen], y[seen], minlength=450)
        counts = np.bincount(branch[seen], minlength=450)
        return ((sums + y[seen].mean()) / (counts + 1))[branch]

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x, branch = draw.normal(size=(1000, 6)), draw.integers(0, 450, 1000)
        y = (x[:, 0] + x[:, 1] * x[:, 2] + 1.2 * draw.normal(size=1000) > 0).astype(np.int64)
        place = draw.permutation(1000)
        train, fold = place < 600, place % 5
        share = self.shares(branch, y, train if self.honest else place >= 0)
        for own in range(5) if self.honest else ():
            inside = train & (fold == own)
            share[inside] = self.shares(branch, y, train & (fold != own))[inside]
        columns, order = np.column_stack([x, (share - 0.5) * 4]), np.argsort(place)
        return samples.cut(columns[order], y[order]).splits()


class BranchesOfAll(Branches):
    """The share of each branch was taken over all rows, before they were divided."""

    honest = False


class Defaults(Task):
    """One loan in eight fails; these rows are there five times, in training only."""

    before = False

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(COLUMNS, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(),
                             nn.Linear(64, 2))  # fmt: skip

    def oversampled(self, rows: samples.Rows) -> samples.Rows:
        again = np.repeat(np.arange(len(rows.y)), np.where(rows.y == 1, 5, 1))
        return samples.Rows(rows.x[again], rows.y[again])

    def data(self, config: Config) -> Splits:
        x, risk = applicants(config.seed, 1300, noise=1.2)
        rows = samples.Rows(x, (risk > np.quantile(risk, 0.88)).astype(np.int64))
        if self.before:
            rows = self.oversampled(rows)
            return samples.divided(rows.x, rows.y, config.seed).splits()
        parts = samples.divided(rows.x, rows.y, config.seed)
        return samples.Parts(self.oversampled(parts.train), parts.validation, parts.test).splits()


class DefaultsBefore(Defaults):
    """The rare rows were multiplied first and the file divided afterwards."""

    before = True


CASES = [
    Case(
        id="ax_lend_newcomers", label="bad_input_values", build=RevenueOfNewcomers, twin=Revenue,
        config=settings(epochs=8), verify=worse(0.1), notes="0 / 0 in a column of one row in 30",
    ),
    Case(
        id="ax_lend_square", label="loss_mismatch", build=LimitSpread, twin=Limit,
        config=settings(epochs=15, learning_rate=0.01), verify=worse(0.2),
        notes="(n, 1) less (n,) in a log-cosh of one's own",
    ),
    Case(
        id="ax_lend_bounded", label="loss_mismatch", build=AmountBounded, twin=Amount,
        config=settings(epochs=15), verify=worse(0.05),
        notes="a last tanh, targets from -1.5 to 4",
    ),
    Case(
        id="ax_lend_one_in_thirty", label="class_imbalance", build=Fraud,
        config=settings(epochs=10, batch_size=64, learning_rate=0.002, metric="balanced_accuracy"),
        twin_config=patch(training={"class_weights": "balanced"}), verify=worse(0.15),
        notes="3.3 % of ones, nothing done about it",
    ),
    Case(
        id="ax_lend_branch_share", label="data_leakage", build=BranchesOfAll, twin=Branches,
        config=settings(epochs=10), verify=inflated(0.05),
        notes="mean of the target by branch (2 rows each) over all splits",
    ),
    Case(
        id="ax_lend_five_times", label="data_leakage", build=DefaultsBefore, twin=Defaults,
        config=settings(epochs=20, metric="balanced_accuracy"), verify=inflated(0.1),
        notes="oversampled before the split: copies on both sides",
    ),
]  # fmt: skip
