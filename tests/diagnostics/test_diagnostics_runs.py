"""Sick runs are named with the right cause first; healthy ones that look odd stay silent."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from pytest_mltrainer.diagnostics import detectors
from torch import nn
from trainings import (
    Data,
    Recipe,
    breast_cancer,
    digits,
    linear_regression,
    load,
    mlp,
    split,
    standardised,
    train,
)

from pytest_mltrainer.core.evidence import Evidence
from pytest_mltrainer.core.ranking import Findings, diagnose, text

Run = Callable[[], Evidence]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small are faster on one thread, and repeat bit for bit on any machine size."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def findings(evidence: Evidence) -> Findings:
    found = diagnose(evidence, detectors())
    assert not found.failed
    return found


def with_noisy_labels(data: Data, share: float) -> Data:
    draw = np.random.default_rng(0)
    changed = draw.random(len(data.train_y)) < share
    noise = draw.integers(0, data.classes, len(data.train_y))
    labels = np.where(changed, noise, data.train_y)
    return Data(data.train_x, labels, data.validation_x, data.validation_y)


def with_wide_column(data: Data, scale: float) -> Data:
    widths = np.ones(data.train_x.shape[1], dtype=np.float32)
    widths[0] = scale
    return Data(data.train_x * widths, data.train_y, data.validation_x * widths, data.validation_y)


def with_nan(data: Data) -> Data:
    broken = data.train_x.copy()
    broken[3, 5] = np.nan
    return Data(broken, data.train_y, data.validation_x, data.validation_y)


def few_samples_many_columns() -> Data:
    draw = np.random.default_rng(1)
    x = draw.normal(size=(260, 40)).astype(np.float32)
    y = (x[:, 0] + 0.5 * draw.normal(size=260)).astype(np.float32)
    return split(x, y, train=60)


def noise_only() -> Data:
    draw = np.random.default_rng(5)
    x, y = draw.normal(size=(400, 8)), draw.normal(size=400)
    return split(x.astype(np.float32), y.astype(np.float32), train=200)


def xor() -> Data:
    x = np.random.default_rng(0).normal(size=(600, 2)).astype(np.float32)
    return split(x, (x[:, 0] * x[:, 1] > 0).astype(int), train=400)


def imbalanced() -> Data:
    draw = np.random.default_rng(0)
    y = (draw.random(600) < 0.04).astype(int)
    return split((draw.normal(size=(600, 5)) + y[:, None]).astype(np.float32), y, train=400)


def run(data: Data, width: int = 32, dropout: float = 0.0, **recipe: object) -> Evidence:
    return train(data, mlp(data, width, dropout), Recipe(**recipe))


def early_decay(share: float) -> float:
    return 1.0 if share < 0.05 else 1e-3


def cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))


SICK: dict[str, tuple[str, Run]] = {
    "sgd diverges": ("nan_loss", lambda: run(linear_regression(0.5), **SGD, learning_rate=1e3)),
    "nan in a row": ("nan_loss", lambda: run_on_nan()),
    # Every unit is dead: why the training stands still is measured, not only that it does.
    "sgd rate far too high": ("dead_relu", lambda: run(digits(), **SGD, learning_rate=50)),
    "adam rate far too high": ("dead_relu", lambda: run(digits(), learning_rate=1.0)),
    "adam rate far too low": ("lr_too_low", lambda: run(digits(), learning_rate=1e-7)),
    "rate decayed away": (
        "convergence_stall",
        lambda: run(digits(), **SGD, learning_rate=0.01, rate_at=early_decay),
    ),
    "low rate, error metric": (
        "lr_too_low",
        lambda: run(linear_regression(0.5), metric="rmse", learning_rate=1e-6),
    ),
    "weight decay": ("underfitting", lambda: run(digits(), weight_decay=0.3)),
    "too few epochs": ("underfitting", lambda: run(digits(), epochs=3, learning_rate=2e-3)),
    "noisy labels by heart": (
        "overfitting",
        lambda: run(with_noisy_labels(digits(200), 0.4), 256, epochs=60),
    ),
    "few digits": ("overfitting", lambda: run(digits(60), 256, epochs=30, target=0.9)),
    "few samples, regression": (
        "overfitting",
        lambda: run(few_samples_many_columns(), 256, epochs=60, batch_size=20),
    ),
    "raw columns, sgd": (
        "unnormalized_data",
        lambda: run(breast_cancer(), **SGD, learning_rate=1e-3),
    ),
    "one wide column": (
        "unnormalized_data",
        lambda: run(with_wide_column(linear_regression(0.5), 1e4)),
    ),
}
SGD = {"optimizer": "sgd"}

HEALTHY: dict[str, Run] = {
    "plain": lambda: run(digits(), target=0.9),
    "dropout puts training below validation": lambda: run(digits(), 64, 0.7),
    "near 100 % on validation": lambda: run(standardised(breast_cancer())),
    "the noise of tiny batches": lambda: run(
        digits(300), batch_size=2, epochs=5, learning_rate=3e-3
    ),
    "learning rate 0 at the end": lambda: run(digits(), rate_at=cosine),
    "regression at its noise ceiling": lambda: run(linear_regression(6.0), 4, epochs=8),
    "regression": lambda: run(linear_regression(0.5)),
    "a metric that is minimised": lambda: run(linear_regression(0.5), metric="rmse"),
    "raw inputs before a first BatchNorm": lambda: train_with_norm_first(breast_cancer()),
    "raw inputs that did no harm": lambda: run(raw_digits(), 64, learning_rate=3e-3, epochs=20),
    "small data, gap of some points": lambda: run(digits(150), target=0.8, epochs=20),
    "pure noise, nothing to learn": lambda: run(noise_only(), epochs=8),
    "a linear model finds nothing": lambda: run(xor()),
    "rare class, score near the majority": lambda: run(imbalanced(), 8),
    "noisy labels, not learned": lambda: run(with_noisy_labels(digits(), 0.3), learning_rate=3e-3),
    "trained long after converging": lambda: run(digits(300), 128, epochs=60),
    "frozen first layer": lambda: train_frozen(digits()),
}


def raw_digits() -> Data:
    x, y = load("digits")
    return split(x * 8, y, train=600, validation=300)


def run_on_nan() -> Evidence:
    return run(with_nan(digits(200)), epochs=2)


def train_with_norm_first(data: Data) -> Evidence:
    return train(data, nn.Sequential(nn.BatchNorm1d(data.train_x.shape[1]), mlp(data)))


def train_frozen(data: Data) -> Evidence:
    model = mlp(data, 128)
    features = nn.Sequential(*list(model.children())[:2])
    with torch.no_grad():
        frozen = [features(torch.from_numpy(x)).numpy() for x in (data.train_x, data.validation_x)]
    head = Data(frozen[0], data.train_y, frozen[1], data.validation_y)
    return train(head, nn.Sequential(nn.Linear(128, 10)), Recipe(epochs=20))


@pytest.mark.parametrize("case", SICK)
def test_sick_run_is_named(case: str) -> None:
    wanted, sick = SICK[case]
    evidence = sick()
    found = findings(evidence)
    assert found.primary is not None
    assert found.primary.id == wanted, text(found, evidence.config)


@pytest.mark.parametrize("case", HEALTHY)
def test_healthy_run_is_silent(case: str) -> None:
    evidence = HEALTHY[case]()
    found = findings(evidence)
    assert found.primary is None, text(found, evidence.config)


@pytest.mark.parametrize(
    ("case", "key", "old_is_lower"),
    [
        ("adam rate far too low", "training.learning_rate", True),
        ("adam rate far too high", "training.learning_rate", False),
        ("sgd diverges", "training.learning_rate", False),
        ("weight decay", "training.weight_decay", False),
        ("too few epochs", "training.epochs", True),
        ("few samples, regression", "training.weight_decay", True),
    ],
)
def test_the_change_goes_the_right_way(case: str, key: str, old_is_lower: bool) -> None:
    evidence = SICK[case][1]()
    primary = findings(evidence).primary
    assert primary is not None
    changes = [entry.patch[key] for entry in primary.recommendations if key in entry.patch]
    assert len(changes) == 1
    assert (evidence.config["training"][key.split(".")[1]] < changes[0]) is old_is_lower


@pytest.mark.parametrize("case", ["adam rate far too low", "weight decay", "rate decayed away"])
def test_the_proposed_change_mends_the_run(case: str) -> None:
    evidence = SICK[case][1]()
    primary = findings(evidence).primary
    assert primary is not None
    patch = primary.recommendations[0].patch
    rate = patch.get("training.learning_rate", 1e-2)
    decay = patch.get("training.weight_decay", 0.0)
    schedule = cosine if patch.get("training.scheduler") == "cosine" else lambda _: 1.0
    optimizer = evidence.config["training"]["optimizer"]
    mended = run(
        digits(), optimizer=optimizer, learning_rate=rate, weight_decay=decay, rate_at=schedule
    )
    assert mended.epochs[-1].validation["loss"] < evidence.epochs[-1].validation["loss"] - 0.02
