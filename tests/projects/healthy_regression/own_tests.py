"""The project's own tests, by a name that no gate collects."""

import torch
from task import Curve, ProjectTask

from pytest_mltrainer import Config


def test_targets_are_scaled_by_the_training_rows() -> None:
    targets = ProjectTask().data(Config()).train.tensors[1]
    assert abs(float(targets.mean())) < 1e-4


def test_one_number_a_row() -> None:
    assert Curve(width=4)(torch.zeros(3, 10)).shape == (3,)
