"""Real trainings for the tests: a plain loop that leaves the evidence a session would leave."""

import functools
import math
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pytest_mltrainer.core.evidence import EpochRecord, Evidence
from pytest_mltrainer.training.observation.activation_facts import dead_units
from pytest_mltrainer.training.observation.layer_records import LayerRecords
from pytest_mltrainer.training.observation.layers import LayerRecorder

STEP_FIELDS = ("step", "epoch", "loss", "gradient_norm", "learning_rate", "step_s", "wait_s")


@dataclass
class Data:
    """Two splits; integer targets make a classification, others a regression."""

    train_x: np.ndarray
    train_y: np.ndarray
    validation_x: np.ndarray
    validation_y: np.ndarray

    @property
    def classes(self) -> int | None:
        integers = np.issubdtype(self.train_y.dtype, np.integer)
        return int(self.train_y.max()) + 1 if integers else None


@dataclass
class Recipe:
    """How to train; `config` adds to the configuration, `rate_at` is a schedule."""

    epochs: int = 12
    batch_size: int = 64
    optimizer: str = "adam"
    learning_rate: float = 1e-2
    weight_decay: float = 0.0
    momentum: float = 0.0
    epsilon: float = 1e-8
    target: float | None = None
    metric: str | None = None
    rate_at: Callable[[float], float] = lambda _share: 1.0
    config: dict[str, Any] = field(default_factory=dict)


@functools.cache
def load(name: str) -> tuple[np.ndarray, np.ndarray]:
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    return bunch.data.astype(np.float32), bunch.target


def split(
    x: np.ndarray, y: np.ndarray, *, train: int, validation: int = 200, seed: int = 0
) -> Data:
    order = np.random.default_rng(seed).permutation(len(x))
    first, second = order[:train], order[train : train + validation]
    return Data(x[first], y[first], x[second], y[second])


def standardised(data: Data) -> Data:
    mean, std = data.train_x.mean(0), data.train_x.std(0) + 1e-6
    scaled = ((part - mean) / std for part in (data.train_x, data.validation_x))
    train_x, validation_x = scaled
    return Data(train_x, data.train_y, validation_x, data.validation_y)


def digits(train: int = 600, validation: int = 300) -> Data:
    x, y = load("digits")
    return split(x / 16, y, train=train, validation=validation)


def breast_cancer(train: int = 350) -> Data:
    x, y = load("breast_cancer")
    return split(x, y, train=train)


def linear_regression(noise: float, n: int = 400, columns: int = 8, seed: int = 0) -> Data:
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(n, columns)).astype(np.float32)
    y = (x @ draw.normal(size=columns) + noise * draw.normal(size=n)).astype(np.float32)
    return split(x, y, train=n // 2, validation=n // 2)


def mlp(data: Data, width: int = 32, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(data.train_x.shape[1], width),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(width, data.classes or 1),
    )


def train(data: Data, model: nn.Module, recipe: Recipe | None = None, **facts: Any) -> Evidence:
    """Train and return the evidence; `facts` replace parts of the measured profile."""
    recipe = recipe or Recipe()
    torch.manual_seed(0)
    optimizer = make_optimizer(model, recipe)
    x, y = as_tensors(data.train_x, data.train_y)
    steps, epochs, total = [], [], recipe.epochs * math.ceil(len(x) / recipe.batch_size)
    metric = recipe.metric or ("accuracy" if data.classes else "r2")
    folder = Path(tempfile.mkdtemp())
    recorder = LayerRecorder(model, folder)
    recorder.__enter__()
    for epoch in range(recipe.epochs):
        model.train()
        outputs, losses = [], []
        order = torch.randperm(len(x))
        for rows in order.split(recipe.batch_size):
            rate = recipe.learning_rate * recipe.rate_at(len(steps) / total)
            for group in optimizer.param_groups:
                group["lr"] = rate
            output = model(x[rows])
            loss = loss_of(data)(output, y[rows])
            optimizer.zero_grad()
            loss.backward()
            norm = nn.utils.get_total_norm(
                [p.grad for p in model.parameters() if p.grad is not None]
            )
            if math.isfinite(norm.item()):
                recorder.before_update(len(steps), optimizer)
            optimizer.step()
            if math.isfinite(norm.item()):
                recorder.after_update(len(steps), optimizer)
            outputs.append(output.detach())
            losses.append(loss.item())
            steps.append((len(steps), epoch, loss.item(), norm.item(), rate, 0.0, 0.0))
        model.eval()
        with torch.no_grad():
            held_x, held_y = as_tensors(data.validation_x, data.validation_y)
            held = model(held_x)
        epochs.append(
            EpochRecord(
                epoch=epoch,
                steps=len(losses),
                learning_rate=rate,
                duration_s=0.0,
                train={
                    "loss": float(np.mean(losses)),
                    metric: score(metric, torch.cat(outputs), y[order]),
                },
                validation={
                    "loss": loss_of(data)(held, held_y).item(),
                    metric: score(metric, held, held_y),
                },
            )
        )
    recorder.__exit__(None, None, None)
    records = LayerRecords(folder)
    layers, names = records.read(), records.names()
    shutil.rmtree(folder)
    return Evidence(
        kind="classification" if data.classes else "regression",
        metric=metric,
        maximize=metric in ("accuracy", "r2"),
        target=recipe.target,
        config=config_of(recipe),
        config_reads=tuple(f"model.{key}" for key in recipe.config.get("model", {})),
        epochs=tuple(epochs),
        planned_epochs=recipe.epochs,
        steps=np.array(steps, dtype=[(name, "f8") for name in STEP_FIELDS]),
        layers=layers if layers.size else None,
        layer_names=tuple(entry.name for entry in names),
        layer_types=tuple(entry.type for entry in names),
        trained={
            "dead_units": dead_units(model, lambda: model(x[:256])),
            "dead_units_rows": min(256, len(x)),
        },
        profile=profile_of(data, model) | facts,
        references=references(data, metric),
    )


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            model.parameters(),
            recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            momentum=recipe.momentum,
        )
    kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[recipe.optimizer]
    return kind(
        model.parameters(),
        recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        eps=recipe.epsilon,
    )


def as_tensors(x: np.ndarray, y: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    integers = np.issubdtype(y.dtype, np.integer)
    target = torch.from_numpy(y.astype(np.int64) if integers else y.astype(np.float32)[:, None])
    return torch.from_numpy(x), target


def loss_of(data: Data) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    return nn.functional.cross_entropy if data.classes else nn.functional.mse_loss


def score(metric: str, output: torch.Tensor, wanted: torch.Tensor) -> float:
    if metric == "accuracy":
        return (output.argmax(1) == wanted).double().mean().item()
    error = ((output - wanted) ** 2).mean()
    return (error**0.5 if metric == "rmse" else 1 - error / wanted.var(correction=0)).item()


def references(data: Data, metric: str) -> dict[str, float]:
    """Scores of the trivial and of a linear model; none on data that are not finite."""
    if not np.isfinite(data.train_x).all():
        return {}
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(data.train_x)
    train_x, validation_x = scaler.transform(data.train_x), scaler.transform(data.validation_x)
    if data.classes:
        linear: Any = LogisticRegression(max_iter=300).fit(train_x, data.train_y)
        share = np.bincount(data.validation_y).max() / len(data.validation_y)
        return {
            "trivial": float(share),
            "linear_train": float(linear.score(train_x, data.train_y)),
            "linear_validation": float(linear.score(validation_x, data.validation_y)),
        }
    linear = Ridge().fit(train_x, data.train_y)

    def reference(x: np.ndarray, y: np.ndarray) -> float:
        prediction = torch.from_numpy(np.asarray(linear.predict(x), dtype=np.float32))
        return score(metric, prediction, torch.from_numpy(y))

    spread = float(data.validation_y.std())
    return {
        "trivial": spread if metric == "rmse" else 0.0,
        "linear_train": reference(train_x, data.train_y),
        "linear_validation": reference(validation_x, data.validation_y),
    }


def profile_of(data: Data, model: nn.Module) -> dict[str, Any]:
    """The facts of the data that a detector may read, for vectors of features and images."""
    flat = data.train_x.reshape(len(data.train_x), -1)
    std = flat.std(0)
    moving = std[std > 0]
    first = next(
        module
        for module in model.modules()
        if not list(module.children()) and not isinstance(module, nn.Flatten)
    )
    classes = {
        str(label): {
            "train": int((data.train_y == label).sum()),
            "validation": int((data.validation_y == label).sum()),
            "test": 0,
        }
        for label in range(data.classes or 0)
    }
    return {
        "splits": {
            "train": {"n": len(data.train_x), "sampled": len(data.train_x)},
            "validation": {"n": len(data.validation_x), "sampled": len(data.validation_x)},
        },
        "inputs": {
            "dtype": "float32",
            "shape": list(data.train_x.shape[1:]),
            "columns": flat.shape[1],
            "nonfinite": int((~np.isfinite(flat)).sum()),
            "max_abs": float(np.abs(flat).max()),
            "scale_ratio": float(moving.max() / moving.min()),
            "tabular": data.train_x.ndim == 2,
            "widest": [
                {"column": int(i), "mean": float(flat[:, i].mean()), "std": float(std[i])}
                for i in np.argsort(-std)[:5]
            ],
        },
        "targets": {"nonfinite": 0, "classes": classes or None},
        "overlap": {"train/validation": {"ids": 0, "content": 0, "share": 0.0, "examples": []}},
        "model": {"first_layer": type(first).__name__},
    }


def config_of(recipe: Recipe) -> Mapping[str, Any]:
    training = {
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "optimizer": recipe.optimizer,
        "learning_rate": recipe.learning_rate,
        "weight_decay": recipe.weight_decay,
        "momentum": recipe.momentum,
        "scheduler": "none",
        "warmup_steps": 0,
        "clip_norm": None,
        "early_stopping": None,
        "label_smoothing": 0.0,
    }
    config = {"training": training, "model": {}, "data": {}, "objective": {"metric": "accuracy"}}
    return {**config, **recipe.config}
