"""Sound, but far too small: ten digits through a bottleneck of two units."""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import TensorDataset

from pytest_mltrainer import Config, Splits, Task


class ProjectTask(Task):
    """Ten classes from 64 pixels; a linear model reads 95 % of them."""

    kind = "classification"

    def model(self, config: Config) -> nn.Module:
        """The planted fault: `width` units carry everything that the head gets to see."""
        width = config.model["width"]
        return nn.Sequential(nn.Linear(64, width), nn.Linear(width, 10))

    def data(self, config: Config) -> Splits:
        """Stratified by a fixed seed; pixels from -0.5 to 0.5."""
        pixels, labels = load_digits(return_X_y=True)
        train, rest = train_test_split(
            range(len(labels)), test_size=720, stratify=labels, random_state=0
        )
        validation, test = train_test_split(
            rest, test_size=360, stratify=labels[rest], random_state=0
        )
        inputs = torch.tensor(pixels / 16 - 0.5, dtype=torch.float32)
        targets = torch.tensor(labels, dtype=torch.int64)
        return Splits(
            train=TensorDataset(inputs[train], targets[train]),
            validation=TensorDataset(inputs[validation], targets[validation]),
            test=TensorDataset(inputs[test], targets[test]),
        )
