"""A hospital's tables: admissions, laboratory values, rare events, labels by many hands."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pytest_mltrainer import Config, Splits, Task
from pytest_mltrainer.training.session import TrainingSession

from .. import samples
from ..cases import HEALTHY, Case, inflated, last_worse, patch, reaches, settings, worse


def admissions(seed: int, rows: int = 1000, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Laboratory values, some of them skewed, and an outcome of overlapping classes."""
    draw = np.random.default_rng(seed)
    y = draw.integers(0, classes, rows)
    centre = draw.normal(size=(classes, 14)) * 0.35
    x = centre[y] + draw.normal(size=(rows, 14))
    x[:, :3] = np.sinh(x[:, :3] / 2)
    return x, y


class Outcome3(Task):
    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(14, 48), nn.LeakyReLU(), nn.Linear(48, 3))

    def rows(self, config: Config) -> samples.Parts:
        return samples.divided(*admissions(config.seed), config.seed)

    def data(self, config: Config) -> Splits:
        return self.rows(config).splits()


class LogOfConcentration(Outcome3):
    """A logarithm of concentrations, which are 0 below what the device can see."""

    floor = 0.0

    def rows(self, config: Config) -> samples.Parts:
        x, y = admissions(config.seed)
        level = np.maximum(np.exp(x[:, 6]) - 0.15, 0.0)
        with np.errstate(divide="ignore"):
            x[:, 6] = np.log10(np.maximum(level, self.floor))
        return samples.divided(x, y, config.seed)


class LogOfAtLeast(LogOfConcentration):
    floor = 0.01


class BilledCode(Task):
    """The invoice is written after the outcome, and its sum gives it away."""

    given_away = True

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(15, 32), nn.ReLU(), nn.Linear(32, 3))

    def data(self, config: Config) -> Splits:
        x, y = admissions(config.seed)
        draw = np.random.default_rng(config.seed + 3)
        bill = draw.normal(size=len(y)) * 0.05 + (y * 1.0 if self.given_away else 0.0)
        return samples.divided(np.column_stack([x, bill]), y, config.seed).splits()


class BeforeTheBill(BilledCode):
    given_away = False


class Sepsis(Task):
    """Three in a hundred fall ill; the signs overlap with those of the others."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 2))

    def data(self, config: Config) -> Splits:
        x, y = samples.table(
            config.seed, rows=2000, columns=10, classes=2, apart=config.data["apart"],
            share=[1 - config.data["ill"], config.data["ill"]],
        )  # fmt: skip
        return samples.divided(x, y, config.seed).splits()


class Triage(Sepsis):
    """Five grades; the gravest, one in fifty, looks much like the one before."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(10, 48), nn.Tanh(), nn.Linear(48, 5))

    def data(self, config: Config) -> Splits:
        x, y = samples.table(config.seed, rows=3000, columns=10, classes=4, apart=0.7)
        draw = np.random.default_rng(config.seed + 4)
        worst = (y == 3) & (draw.random(len(y)) < 0.08)
        x[worst] += 1.1 * np.sign(draw.normal(size=10)) * (np.arange(10) < 2)
        y[worst] = 4
        return samples.divided(x, y, config.seed).splits()


class Household(Outcome3):
    """Income in the currency, age in years, shares between 0 and 1."""

    scaled = False

    def rows(self, config: Config) -> samples.Parts:
        unit = np.array([30000, 12, 0.1, 1, 1, 500, 1, 0.05, 1, 1, 90, 1, 1, 1])
        zero = np.array([50000, 45, 0.3, 0, 0, 2000, 0, 0.2, 0, 0, 400, 0, 0, 0])
        parts = super().rows(config).each(lambda x, y: (x * unit + zero, y))
        return parts.standardised() if self.scaled else parts


class HouseholdScaled(Household):
    scaled = True


class NeverCleared(Outcome3):
    """The usual loop, but one line of it is missing."""

    cleared = False

    def train(self, session: TrainingSession) -> None:
        for epoch in session.epochs():
            for inputs, targets in session.batches():
                if self.cleared:
                    session.optimizer.zero_grad()
                session.loss(inputs, targets).backward()
                session.optimizer.step()
            session.finish_epoch(epoch)


class Cleared(NeverCleared):
    cleared = True


class CrowdLabels(Outcome3):
    """Four in ten training labels were clicked at random; experts wrote those of validation."""

    share = 0.4

    def rows(self, config: Config) -> samples.Parts:
        parts = samples.divided(*samples.table(config.seed, rows=1500, columns=14, apart=0.55),
                                config.seed)  # fmt: skip
        draw = np.random.default_rng(config.seed + 9)
        clicked = draw.random(len(parts.train.y)) < self.share
        parts.train.y[clicked] = draw.integers(0, 3, clicked.sum())
        return parts


class ExpertLabels(CrowdLabels):
    share = 0.0


class DroppedAlways(nn.Module):
    """Dropout by function, which asks nobody whether this is training."""

    def __init__(self, asks: bool) -> None:
        super().__init__()
        self.first, self.last, self.asks = nn.Linear(14, 64), nn.Linear(64, 3), asks

    def forward(self, x: Tensor) -> Tensor:
        seen = functional.dropout(
            torch.relu(self.first(x)), 0.8, training=self.training or not self.asks
        )
        return self.last(seen)


class DropoutByFunction(CrowdLabels):
    share, asks = 0.0, False

    def model(self, config: Config) -> nn.Module:
        return DroppedAlways(self.asks)


class DropoutThatAsks(DropoutByFunction):
    asks = True


class AllEqual(Outcome3):
    """Every weight begins as one constant."""

    def model(self, config: Config) -> nn.Module:
        layers = [nn.Linear(14, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 3)]
        for layer in layers[::2]:
            nn.init.constant_(layer.weight, 0.05)
        return nn.Sequential(*layers)


class UsualStart(AllEqual):
    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Linear(14, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 3)
        )


class FewPatients(Outcome3):
    """Ninety patients in all, thirty of them to validate on."""

    def rows(self, config: Config) -> samples.Parts:
        x, y = samples.table(config.seed, rows=90, columns=6, classes=2, apart=0.9)
        return samples.divided(x, y, config.seed, train=0.5, validation=0.3)

    def model(self, config: Config) -> nn.Module:
        return nn.Linear(6, 2)


RARE = {"metric": "balanced_accuracy", "epochs": 10}

CASES = [
    Case(id="ward_log_of_unseen", label="bad_input_values", build=LogOfConcentration,
         config=settings(epochs=8), twin=LogOfAtLeast, verify=worse(0.1),
         notes="minus infinity where a concentration is 0"),
    Case(id="ward_bill", label="data_leakage", build=BilledCode, config=settings(epochs=12),
         twin=BeforeTheBill, verify=inflated(0.1), notes="a column written after the outcome"),
    Case(id="ward_sepsis", label="class_imbalance", build=Sepsis,
         config=settings(data={"ill": 0.04, "apart": 0.45}, **RARE),
         twin_config=patch(training={"class_weights": "balanced"}), verify=worse(0.1),
         notes="one in 25, plain cross entropy"),
    Case(id="ward_gravest_grade", label="class_imbalance", build=Triage, config=settings(**RARE),
         twin_config=patch(training={"class_weights": "balanced"}), verify=worse(0.05),
         notes="one grade of five is one in fifty, and like its neighbour"),
    Case(id="ward_household", label="unnormalized_data", build=Household,
         config=settings(epochs=12, learning_rate=0.001), twin=HouseholdScaled, verify=worse(0.1),
         notes="incomes of 50,000 beside shares of 0.2, adam"),
    Case(id="ward_never_cleared", label="missing_zero_grad", build=NeverCleared,
         config=settings(epochs=12, optimizer="sgd", learning_rate=0.05), twin=Cleared,
         verify=last_worse(0.05), notes="no zero_grad at all"),
    Case(id="ward_crowd", label="label_noise", build=CrowdLabels,
         config=settings(epochs=25, learning_rate=0.005), twin=ExpertLabels,
         verify=last_worse(0.08), notes="four of ten training labels are clicks at random"),
    Case(id="ward_dropout_by_function", label="train_eval_mismatch", build=DropoutByFunction,
         config=settings(epochs=15), twin=DropoutThatAsks, verify=worse(0.04),
         notes="F.dropout at 0.8, always on"),
    Case(id="ward_all_equal", label="bad_init", build=AllEqual, config=settings(epochs=10),
         twin=UsualStart, verify=worse(0.1), notes="all weights 0.05"),
    Case(id="well_ward_few", label=HEALTHY, build=FewPatients,
         config=settings(epochs=25, batch_size=16, learning_rate=0.02, weight_decay=0.05,
                         optimizer="adamw"),
         verify=reaches(0.75), notes="45 training rows, 27 of validation, a linear model"),
    Case(id="well_ward_sepsis", label=HEALTHY, build=Sepsis,
         config=settings(data={"ill": 0.06, "apart": 0.7}, class_weights="balanced", **RARE),
         verify=reaches(0.7), notes="rare, weighed, judged class by class"),
    Case(id="well_ward_smoothed", label=HEALTHY, build=Outcome3,
         config=settings(epochs=8, label_smoothing=0.15, optimizer="adamw", weight_decay=0.02),
         verify=reaches(0.6), notes="overlapping classes, smoothed labels"),
]  # fmt: skip
