"""Handwritten digits by a network that is too narrow for them."""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import TensorDataset

from pytest_mltrainer import Config, Splits, Task

BRIGHTEST = 16.0
SPLIT_SEED = 0


class DigitsTask(Task):
    """Which digit is written here? Ten classes, about 180 images of 8 x 8 pixels each."""

    kind = "classification"

    def model(self, config: Config) -> nn.Module:
        """One hidden layer of `model.width` units."""
        width = config.model["width"]
        return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

    def data(self, config: Config) -> Splits:
        """1,077 images to train on, 360 to validate, 360 to test, digits in equal shares."""
        features, labels = load_digits(return_X_y=True)
        train, rest = train_test_split(
            range(len(labels)), test_size=720, stratify=labels, random_state=SPLIT_SEED
        )
        validation, test = train_test_split(
            rest, test_size=360, stratify=labels[rest], random_state=SPLIT_SEED
        )
        inputs = torch.tensor(features / BRIGHTEST - 0.5, dtype=torch.float32)
        targets = torch.tensor(labels)
        return Splits(
            train=TensorDataset(inputs[train], targets[train]),
            validation=TensorDataset(inputs[validation], targets[validation]),
            test=TensorDataset(inputs[test], targets[test]),
        )
