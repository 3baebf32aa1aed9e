"""Sound, but it memorises: 100 training rows, 20 columns of which 4 matter, a wide MLP."""

import torch
from sklearn.datasets import make_classification
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import TensorDataset

from pytest_mltrainer import Config, Splits, Task


class ProjectTask(Task):
    """Two classes; 300 rows to validate, 300 to test; one label in twenty is wrong everywhere."""

    kind = "classification"

    def model(self, config: Config) -> nn.Module:
        """One hidden layer, much wider than 100 rows can fill."""
        width = config.model["width"]
        return nn.Sequential(
            nn.Linear(20, width),
            nn.ReLU(),
            nn.Dropout(config.model["dropout"]),
            nn.Linear(width, 2),
        )

    def data(self, config: Config) -> Splits:
        """Stratified by a fixed seed; the columns come standardised well enough."""
        features, labels = make_classification(
            n_samples=700,
            n_features=20,
            n_informative=4,
            n_redundant=0,
            flip_y=0.1,
            class_sep=1.0,
            random_state=3,
        )
        train, rest = train_test_split(
            range(len(labels)), test_size=600, stratify=labels, random_state=0
        )
        validation, test = train_test_split(
            rest, test_size=300, stratify=labels[rest], random_state=0
        )
        inputs = torch.tensor(features, dtype=torch.float32)
        targets = torch.tensor(labels, dtype=torch.int64)
        return Splits(
            train=TensorDataset(inputs[train], targets[train]),
            validation=TensorDataset(inputs[validation], targets[validation]),
            test=TensorDataset(inputs[test], targets[test]),
        )
