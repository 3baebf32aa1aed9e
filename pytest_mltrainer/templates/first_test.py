"""First tests of the task that `pyproject.toml` names: `pytest` runs them, and so does a release.

Add what your own data and model must keep, and take out what does not fit them.
"""

from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_mltrainer import Config, Splits, Task
from pytest_mltrainer.core.config import load_config
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.training.reproducibility import digest_nested
from pytest_mltrainer.training.task import load_task

PROJECT = Project.load(Path(__file__).parents[1])
READ = 1_000
"""Samples of each split that are compared; a first test should be over in seconds."""


@pytest.fixture
def config() -> Config:
    """`training_config.yaml`."""
    return load_config(PROJECT.config_path)


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Task:
    """The task, imported from the project's folder."""
    monkeypatch.syspath_prepend(PROJECT.root)
    return load_task(PROJECT.task)


@pytest.fixture
def splits(task: Task, config: Config) -> Splits:
    """The data."""
    return task.data(config)


def test_an_untrained_model_answers(task: Task, config: Config, splits: Splits) -> None:
    """Two samples in, two finite answers out, of a shape that the loss can compare with targets."""
    inputs, targets = task.collate([splits.train[0], splits.train[1]])
    with torch.no_grad():
        outputs = task.predict(task.model(config).eval(), inputs)
    assert len(outputs) == 2
    assert torch.isfinite(outputs).all()
    assert torch.isfinite(task.loss(outputs, targets, config))


def test_no_sample_is_in_two_splits(task: Task, splits: Splits) -> None:
    """By `Task.sample_key` where it names samples, else by the content of their inputs."""
    train, validation, test = (
        identities(task, name, getattr(splits, name)) for name in ("train", "validation", "test")
    )
    assert not train & validation
    assert not train & test
    assert not validation & test


def identities(task: Task, split: str, dataset: Any) -> set[str]:
    """What the first samples of a split are known by."""
    rows = range(min(len(dataset), READ))
    return {task.sample_key(split, row) or digest_nested(dataset[row][0]) for row in rows}
