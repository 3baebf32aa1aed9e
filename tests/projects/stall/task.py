"""Sick: the learning rate is a ten-thousandth of what this optimizer needs."""

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import TensorDataset

from pytest_mltrainer import Config, Splits, Task


class ProjectTask(Task):
    """Malignant or benign? 309 training rows, 130 for validation, 130 for test."""

    kind = "classification"

    def model(self, config: Config) -> nn.Module:
        """One hidden layer."""
        width = config.model["width"]
        return nn.Sequential(nn.Linear(30, width), nn.ReLU(), nn.Linear(width, 2))

    def data(self, config: Config) -> Splits:
        """Stratified by a fixed seed; standardised by the training rows alone."""
        features, labels = load_breast_cancer(return_X_y=True)
        train, rest = train_test_split(
            range(len(labels)), test_size=260, stratify=labels, random_state=0
        )
        validation, test = train_test_split(
            rest, test_size=130, stratify=labels[rest], random_state=0
        )
        mean, scale = features[train].mean(axis=0), features[train].std(axis=0)
        inputs = torch.tensor((features - mean) / scale, dtype=torch.float32)
        targets = torch.tensor(labels, dtype=torch.int64)
        return Splits(
            train=TensorDataset(inputs[train], targets[train]),
            validation=TensorDataset(inputs[validation], targets[validation]),
            test=TensorDataset(inputs[test], targets[test]),
        )
