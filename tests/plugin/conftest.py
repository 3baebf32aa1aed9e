"""Runs of pytest inside this process: a gate is judged in two seconds instead of seven."""

from collections.abc import Iterator
from pathlib import Path

# What a run of a gate imports. Pytester takes modules away that it saw imported, and then every
# run would import them again; torch's registries cannot be filled twice in one process.
import hypothesis  # noqa: F401
import pytest
import scipy.stats  # noqa: F401
import sklearn.datasets
import sklearn.metrics
import sklearn.model_selection  # noqa: F401
import torch
from gate_runs import Run

import pytest_mltrainer.driver
import pytest_mltrainer.training.run  # noqa: F401

torch.use_deterministic_algorithms(True)  # it imports torch._inductor
torch.use_deterministic_algorithms(False)


@pytest.fixture
def torch_state() -> Iterator[None]:
    """Judging makes torch deterministic and sets its threads: put that back."""
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, torch_state: None) -> Run:
    """`run(folder, *args)`; without pytest-randomly and the cache unless `args` ask for them."""

    def run_in(folder: Path, *args: str) -> pytest.RunResult:
        monkeypatch.chdir(folder)
        plugins = [args[place + 1] for place, value in enumerate(args[:-1]) if value == "-p"]
        quiet = [name for name in ("randomly", "cacheprovider") if name not in plugins]
        blocked = [word for name in quiet for word in ("-p", f"no:{name}")]
        return pytester.runpytest_inprocess(*blocked, *args)

    return run_in
