"""Made-up predictions of each kind."""

from collections.abc import Callable

import numpy as np
import pytest

Arrays = tuple[np.ndarray, np.ndarray]


@pytest.fixture(scope="session")
def made() -> Callable[..., Arrays]:
    """A function that makes outputs, right about half of the time, and targets of a kind."""
    return _made


def _made(kind: str, seed: int = 0, n: int = 40) -> Arrays:
    generator = np.random.default_rng(seed)
    if kind == "classification":
        targets = generator.integers(0, 4, n)
        return generator.normal(size=(n, 4)) + np.eye(4)[targets], targets
    if kind == "multilabel":
        targets = generator.integers(0, 2, (n, 3))
        return generator.normal(size=(n, 3)) + targets, targets
    if kind == "regression":
        targets = generator.normal(1e3, 2, (n, 2))
        return targets + generator.normal(size=(n, 2)), targets
    targets = generator.integers(0, 3, (n, 5))
    targets[generator.random((n, 5)) < 0.3] = -100
    return generator.normal(size=(n, 5, 3)), targets
