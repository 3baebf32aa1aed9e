"""Tumours, benign or malignant: few patients, far more features, no regularisation."""

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import TensorDataset

from pytest_mltrainer import Config, Splits, Task

SPLIT_SEED = 3
NOISE = 1000


class TumourTask(Task):
    """569 patients of the Wisconsin study: 30 measurements each, and 1,000 that mean nothing."""

    kind = "classification"

    def model(self, config: Config) -> nn.Module:
        """One hidden layer, dropout before each linear one."""
        width, dropout = config.model["width"], config.model["dropout"]
        return nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(30 + NOISE, width),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(width, 2),
        )

    def data(self, config: Config) -> Splits:
        """60 patients to train on, 250 to validate, 259 to test, benign ones in equal shares.

        Every feature is scaled by the mean and spread of the training patients alone.
        """
        measured, labels = load_breast_cancer(return_X_y=True)
        train, rest = train_test_split(
            range(len(labels)), train_size=60, stratify=labels, random_state=SPLIT_SEED
        )
        validation, test = train_test_split(
            rest, train_size=250, stratify=labels[rest], random_state=SPLIT_SEED
        )
        noise = np.random.default_rng(SPLIT_SEED).normal(size=(len(labels), NOISE))
        features = _scaled(np.hstack([measured, noise]), train)
        inputs, targets = torch.tensor(features, dtype=torch.float32), torch.tensor(labels)
        return Splits(
            train=TensorDataset(inputs[train], targets[train]),
            validation=TensorDataset(inputs[validation], targets[validation]),
            test=TensorDataset(inputs[test], targets[test]),
        )


def _scaled(values: np.ndarray, rows: list[int]) -> np.ndarray:
    return (values - values[rows].mean(axis=0)) / values[rows].std(axis=0)
