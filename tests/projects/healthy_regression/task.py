"""Sound: Friedman's first function of ten inputs with noise, a small MLP."""

import torch
from sklearn.datasets import make_friedman1
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from pytest_mltrainer import Config, Splits, Task


class ProjectTask(Task):
    """Five of ten uniform inputs matter; the noise leaves an R2 of at most about 0.96."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        """One hidden layer and one output."""
        return Curve(width=config.model["width"])

    def data(self, config: Config) -> Splits:
        """Independent draws, so their order is a split; scaled by the training rows."""
        features, values = make_friedman1(n_samples=900, noise=1.0, random_state=0)
        inputs = torch.tensor((features - 0.5) * 12**0.5, dtype=torch.float32)
        scaled = (values - values[:600].mean()) / values[:600].std()
        targets = torch.tensor(scaled, dtype=torch.float32)
        return Splits(
            train=TensorDataset(inputs[:600], targets[:600]),
            validation=TensorDataset(inputs[600:750], targets[600:750]),
            test=TensorDataset(inputs[750:], targets[750:]),
        )


class Curve(nn.Module):
    """Ten inputs, one number a row."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(10, width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, inputs: Tensor) -> Tensor:
        """One value for each row, of the targets' shape."""
        values: Tensor = self.layers(inputs)
        return values.squeeze(-1)
