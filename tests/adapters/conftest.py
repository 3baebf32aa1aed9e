"""The small trainings of tests/training, and a process that each test leaves as it found it."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parents[1] / "training"))

from pytest_mltrainer.training.reproducibility import RngState


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    rng, threads = RngState.capture(), torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    yield
    rng.restore()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
