"""Ordinary tests of the project: they run without `--phase`, and before a release."""

import torch
from digits import DigitsNet, DigitsTask
from torch.utils.data import TensorDataset

from pytest_mltrainer import Config
from pytest_mltrainer.core.config import apply_patch


def test_the_splits_take_every_image() -> None:
    config = apply_patch(Config(), {"data.validation": 360, "data.test": 360, "data.split_seed": 0})
    splits = DigitsTask().data(config)
    parts = (splits.train, splits.validation, splits.test)
    sizes = [len(part) for part in parts if isinstance(part, TensorDataset)]
    assert sizes == [1077, 360, 360]


def test_the_network_answers_any_batch() -> None:
    network = DigitsNet(width=4, dropout=0.0).eval()
    assert network(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
