"""What is trained: a model and its data. Replace both by your own; the rest has defaults."""

import torch
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import TensorDataset

from pytest_mltrainer import Config, Splits, Task


class MyTask(Task):
    """Malignant or benign, from 30 measurements of a tumour (scikit-learn's breast cancer data)."""

    # Or multilabel, regression, sequence; a custom task defines loss and metrics too.
    kind = "classification"

    def model(self, config: Config) -> nn.Module:
        """A fresh model. Its initial weights come from the seed of the configuration."""
        width = config.model["width"]
        return nn.Sequential(
            nn.Linear(30, width),
            nn.ReLU(),
            nn.Dropout(config.model["dropout"]),
            nn.Linear(width, 2),
        )

    def data(self, config: Config) -> Splits:
        """Three data sets of (input, target), the same ones at every call."""
        features, labels = load_breast_cancer(return_X_y=True)
        seed, held_out = config.data["split_seed"], config.data["held_out"]
        train, rest = train_test_split(
            range(len(labels)), test_size=2 * held_out, stratify=labels, random_state=seed
        )
        validation, test = train_test_split(
            rest, test_size=held_out, stratify=labels[rest], random_state=seed
        )
        # Only training rows may say how to scale, or validation and test leak into the training.
        mean, scale = features[train].mean(axis=0), features[train].std(axis=0)
        inputs = torch.tensor((features - mean) / scale, dtype=torch.float32)
        targets = torch.tensor(labels, dtype=torch.int64)
        return Splits(
            train=TensorDataset(inputs[train], targets[train]),
            validation=TensorDataset(inputs[validation], targets[validation]),
            test=TensorDataset(inputs[test], targets[test]),
        )
