"""Handwritten digits: a small convolutional network on scikit-learn's 1,797 images of 8 x 8."""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from pytest_mltrainer import Config, Splits, Task

BRIGHTEST = 16.0
"""Pixels count the ink in a 4 x 4 block of the original scan: 0 to 16."""


class DigitsTask(Task):
    """Which digit is written here? Ten classes, near balanced, about 180 images each."""

    kind = "classification"

    def model(self, config: Config) -> nn.Module:
        """Three convolutions and a linear head: 19,178 parameters at width 16."""
        return DigitsNet(width=config.model["width"], dropout=config.model["dropout"])

    def data(self, config: Config) -> Splits:
        """Train, validation and test with the same share of each digit, by a fixed seed."""
        digits = load_digits()
        images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1)
        labels = torch.tensor(digits.target, dtype=torch.int64)
        held_out = config.data["validation"] + config.data["test"]
        train, rest = train_test_split(
            range(len(labels)),
            test_size=held_out,
            stratify=labels,
            random_state=config.data["split_seed"],
        )
        validation, test = train_test_split(
            rest,
            test_size=config.data["test"],
            stratify=labels[rest],
            random_state=config.data["split_seed"],
        )
        # The range of a pixel is known beforehand, so nothing of validation or test leaks in here.
        scaled = images / BRIGHTEST - 0.5
        return Splits(
            train=TensorDataset(scaled[train], labels[train]),
            validation=TensorDataset(scaled[validation], labels[validation]),
            test=TensorDataset(scaled[test], labels[test]),
        )


class DigitsNet(nn.Module):
    """Two convolutions at 8 x 8, one at 4 x 4, dropout, a linear head."""

    def __init__(self, *, width: int, dropout: float) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(2 * width, 2 * width, kernel_size=3, padding=1),
            nn.ReLU(),
        )
        self.head = nn.Sequential(
            nn.Flatten(), nn.Dropout(dropout), nn.Linear(2 * width * 4 * 4, 10)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the ten digits for images of shape (batch, 1, 8, 8)."""
        logits: Tensor = self.head(self.features(images))
        return logits
