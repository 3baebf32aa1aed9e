"""Sound, and made of several files: the task, a helper module, and a table of numbers."""

from pathlib import Path

import torch
from helper import read_rows
from torch import nn
from torch.utils.data import TensorDataset

from pytest_mltrainer import Config, Splits, Task

ROWS = Path(__file__).parent / "rows.csv"


class ProjectTask(Task):
    """Which of two clouds of points? 120 training rows, 40 for validation, 40 for test."""

    kind = "classification"

    def model(self, config: Config) -> nn.Module:
        """One hidden layer."""
        return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 2))

    def data(self, config: Config) -> Splits:
        """The rows of the table in their order."""
        rows = read_rows(ROWS)
        inputs = torch.tensor([row[:2] for row in rows], dtype=torch.float32)
        targets = torch.tensor([row[2] for row in rows], dtype=torch.int64)
        return Splits(
            train=TensorDataset(inputs[:120], targets[:120]),
            validation=TensorDataset(inputs[120:160], targets[120:160]),
            test=TensorDataset(inputs[160:], targets[160:]),
        )
