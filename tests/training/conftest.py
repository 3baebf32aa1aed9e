"""Training switches torch's determinism on: each test here leaves torch as it found it."""

from collections.abc import Iterator

import pytest
import torch

from pytest_mltrainer.training.reproducibility import RngState


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    rng, threads = RngState.capture(), torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    yield
    rng.restore()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
