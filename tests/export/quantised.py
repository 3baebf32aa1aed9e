"""Models that were really trained, in seconds, for the formats with coarser numbers."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits, make_friedman1
from torch import nn
from torch.nn import functional

from pytest_mltrainer.export.format import (
    Exported,
    exporters,
    load_export,
    precision_of,
    with_samples,
)
from pytest_mltrainer.export.parity import Decides, Parity, compare
from pytest_mltrainer.export.signature import ONLY, OUTPUTS, Array, Metadata, specs
from pytest_mltrainer.training.task import Task

TASK = Task()
TRAINING = 1077


class Attention(nn.Module):
    """The rows of an image as a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(8, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.0)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(32, 10)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.head(self.encoder(self.embedding(inputs)).mean(1))
        return outputs


class LastState(nn.Module):
    """A recurrent layer over the rows of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 32, batch_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.head(self.lstm(inputs)[0][:, -1])
        return outputs


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (1, 8)),
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )


def regressor() -> nn.Module:
    return nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "mlp": mlp, "cnn": cnn, "attention": Attention, "lstm": LastState, "regression": regressor,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A model with the samples that it was trained on, and those that it never saw."""

    model: nn.Module
    training: list[Any]
    inputs: torch.Tensor
    targets: torch.Tensor
    decides: Decides

    def eager(self, inputs: torch.Tensor) -> Array:
        """The model's own answers."""
        with torch.no_grad():
            return self.model(inputs).numpy()

    def parity(self, name: str, exported: Exported) -> Parity:
        """On all samples that it never saw."""
        return compare(
            self.eager(self.inputs),
            exported(self.inputs),
            decides=self.decides,
            precision=precision_of(exporters({})[name]),
        )

    def with_model(self, model: nn.Module) -> "Trained":
        """The same samples with another model."""
        return replace(self, model=model.eval())


@cache
def trained(name: str, epochs: int = 15) -> Trained:
    """One of `MODELS`, trained for a second on 1,077 samples; 360 or more are left."""
    torch.manual_seed(0)
    is_regression = name == "regression"
    if is_regression:
        features, values = make_friedman1(1500, noise=1.0, random_state=0)
        values = (values - values.mean()) / values.std()
        inputs = torch.tensor((features - 0.5) / 0.29, dtype=torch.float32)
        targets = torch.tensor(values[:, None], dtype=torch.float32)
    else:
        digits = load_digits()
        inputs = torch.tensor(digits.images / 16, dtype=torch.float32)
        targets = torch.tensor(digits.target)
    model = MODELS[name]()
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    loss = functional.mse_loss if is_regression else functional.cross_entropy
    for _ in range(epochs):
        for rows in torch.randperm(TRAINING).split(64):
            optimizer.zero_grad()
            loss(model(inputs[rows]), targets[rows]).backward()
            optimizer.step()
    return Trained(
        model=model.eval(),
        training=[(inputs[row], targets[row]) for row in range(TRAINING)],
        inputs=inputs[TRAINING:],
        targets=targets[TRAINING:],
        decides="nothing" if is_regression else "class",
    )


def export(name: str, case: Trained, folder: Path) -> Path:
    """The file of a format, calibrated on the case's training samples."""
    inputs = case.inputs[:2]
    metadata = Metadata(
        kind="regression" if case.decides == "nothing" else "classification",
        inputs=specs(inputs, ONLY),
        outputs=specs(torch.from_numpy(case.eager(inputs)), OUTPUTS),
        checkpoint="c" * 64,
        weights="w" * 64,
    )
    exporter = with_samples(exporters({})[name], TASK, case.training)
    path = folder / exporter.file_name
    assert exporter.export(TASK, case.model, inputs, path, metadata) == (path.name,)
    return path


def load(name: str, path: Path) -> Exported:
    """The file as a service has it."""
    return load_export(exporters({})[name], path)


def noise(case: Trained, exported: Exported) -> float:
    """Root mean square of the differences over that of the model's errors."""
    own, targets = case.eager(case.inputs), case.targets.numpy()
    apart = np.mean((exported(case.inputs) - own) ** 2)
    return float(np.sqrt(apart / np.mean((own - targets) ** 2)))
