"""What every loop must do: the same training, repeatable, resumable, watched, nothing left over."""

import logging
import os
import signal
import socket
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loops import LOOPS, OTHERS, Accelerated, BuiltIn, HuggingFace, Lightning, OwnModule, by
from small_trainings import (
    Blobs,
    NoisyData,
    NoisyLayers,
    recorded,
    rehearse,
    small_config,
    weights,
    whole_state,
)
from test_resume import assert_same_training
from torch import nn
from torch.nn.modules import module as module_hooks
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks
from torch.utils.data import TensorDataset

from pytest_mltrainer import Config, Splits, Task

BACKWARD = torch.autograd.backward
COLUMNS = ("step", "epoch", "loss", "gradient_norm", "learning_rate")
USUAL: dict[str, Any] = {
    "optimizer": "adamw",
    "clip_norm": 0.5,
    "scheduler": "cosine",
    "warmup_steps": 2,
    "checkpoint_steps": 1,
}


@pytest.mark.parametrize("loop", OTHERS)
@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_same_numbers_as_the_built_in_loop(
    tmp_path: Path, loop: type[Task], accumulate: int
) -> None:
    """Six batches an epoch: the last of four accumulated ones is an update of two."""
    config = small_config(**USUAL, accumulate=accumulate)
    usual = rehearse(by(BuiltIn, NoisyData)(), config, tmp_path / "built-in")
    other = rehearse(by(loop, NoisyData)(), config, tmp_path / "other")
    one, two = recorded(tmp_path / "built-in"), recorded(tmp_path / "other")
    assert len(two.steps) == 3 * -(-6 // accumulate)
    for column in COLUMNS:
        np.testing.assert_allclose(two.steps[column], one.steps[column], rtol=1e-6)
    assert weights(other) == weights(usual)
    assert [entry.validation for entry in two.epochs] == [entry.validation for entry in one.epochs]
    metrics = {"loss"} if loop is OwnModule else {"loss", "accuracy"}
    assert [set(entry.train) for entry in two.epochs] == [metrics] * 3
    assert [entry.train["loss"] for entry in two.epochs] == [
        entry.train["loss"] for entry in one.epochs
    ]


@pytest.mark.parametrize("loop", LOOPS)
def test_two_runs_are_equal(tmp_path: Path, loop: type[Task]) -> None:
    config = small_config(**USUAL, loader_workers=2)
    one, two = (rehearse(by(loop, NoisyData)(), config, tmp_path / name) for name in "ab")
    assert whole_state(one) == whole_state(two)
    steps = [recorded(tmp_path / name).steps for name in "ab"]
    assert all(steps[0][column].tobytes() == steps[1][column].tobytes() for column in COLUMNS)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("batch", "accumulate", "workers", "scheduler"),
    [
        (1, 1, 0, "cosine"),
        (5, 1, 0, "plateau"),
        (3, 2, 0, "onecycle"),
        (5, 4, 0, "cosine"),
        (2, 1, 2, "cosine"),
        (4, 2, 2, "step"),
    ],
)
def test_resumed_within_an_epoch(
    tmp_path: Path,
    loop: type[Task],
    batch: int,
    accumulate: int,
    workers: int,
    scheduler: str,
) -> None:
    """Dropout, batch norm, data that draw random numbers; ended before a batch of epoch 1."""
    config = small_config(
        **USUAL
        | {
            "accumulate": accumulate,
            "loader_workers": workers,
            "scheduler": scheduler,
            "warmup_steps": 0,
        }
    )
    assert_same_training(tmp_path, by(loop, NoisyData), config, 1, batch)


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("epoch", [1, 2])
def test_resumed_between_epochs(tmp_path: Path, loop: type[Task], epoch: int) -> None:
    """Ended behind the last update of an epoch, before its checkpoint."""
    config = small_config(**USUAL | {"checkpoint_steps": None})
    assert_same_training(tmp_path, by(loop, NoisyData), config, epoch)


@pytest.mark.parametrize("loop", LOOPS)
def test_early_stopping_is_obeyed(tmp_path: Path, loop: type[Task]) -> None:
    config = small_config(epochs=8, learning_rate=1e-9, early_stopping={"patience": 2})
    session = rehearse(by(loop, Blobs)(), config, tmp_path)
    assert session.progress.stopped_early
    assert len(recorded(tmp_path).epochs) == 3
    assert len(recorded(tmp_path).steps) == 18


@pytest.mark.parametrize("loop", LOOPS)
def test_steps_of_a_rehearsal_are_obeyed(tmp_path: Path, loop: type[Task]) -> None:
    rehearse(by(loop, Blobs)(), small_config(), tmp_path, steps=8)
    assert len(recorded(tmp_path).steps) == 8


class Overflowing(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs * torch.where(inputs.abs().max() > 1e3, torch.nan, 1.0)


class OneBadSample(Blobs):
    """The 21st sample, of the third batch, is too large for a module of the model."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 8), Overflowing(), nn.ReLU(), nn.Linear(8, 3))

    def data(self, config: Config) -> Splits:
        splits = super().data(config)
        assert isinstance(splits.train, TensorDataset)
        splits.train.tensors[0][20] = 1e6
        return splits


@pytest.mark.parametrize("loop", LOOPS)
def test_non_finite_loss_is_found_with_step_and_module(tmp_path: Path, loop: type[Task]) -> None:
    config = small_config(shuffle=False)
    session = rehearse(by(loop, OneBadSample)(), config, tmp_path)
    fault = session.fault
    assert fault is not None
    assert (fault["step"], fault["epoch"], fault["what"]) == (2, 0, "loss")
    assert (fault["module"], fault["module_type"]) == ("1", "Overflowing")
    assert 20 in fault["batch_ids"]
    assert len(recorded(tmp_path).steps) == 2
    assert all(bool(torch.isfinite(part).all()) for part in session.model.parameters())
    assert_nothing_is_attached()


def assert_nothing_is_attached() -> None:
    assert torch.autograd.backward is BACKWARD
    assert not _global_optimizer_pre_hooks
    assert not _global_optimizer_post_hooks
    assert not module_hooks._global_forward_hooks
    assert not module_hooks._global_forward_pre_hooks
    assert not module_hooks._global_backward_hooks


def global_state() -> dict[str, Any]:
    """What a framework might change for the whole process."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    logs = logging.root.manager.loggerDict.items()
    state: dict[str, Any] = {
        "environment": dict(os.environ),
        "signals": [signal.getsignal(number) for number in numbers],
        "levels": {name: log.level for name, log in logs if isinstance(log, logging.Logger)},
        "filters": list(warnings.filters),
        "cudnn": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "warn only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "gradients": torch.is_grad_enabled(),
        "precision": torch.get_float32_matmul_precision(),
        "threads": torch.get_num_threads(),
        "type": torch.get_default_dtype(),
    }
    return state


@pytest.mark.parametrize("loop", LOOPS)
def test_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loop: type[Task]
) -> None:
    """The session itself makes torch deterministic: so did the training before the comparison."""
    here, config = tmp_path / "here", small_config(**USUAL)
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(socket.socket, "connect", _refuse)
    rehearse(by(loop, NoisyLayers)(), config, tmp_path / "before")
    rehearse(by(BuiltIn, NoisyLayers)(), config, tmp_path / "built-in")
    before = global_state()
    session = rehearse(by(loop, NoisyLayers)(), config, tmp_path / "out")
    after = global_state()
    for name, value in before.items():
        assert after[name] == value, name
    assert_nothing_is_attached()
    assert list(here.iterdir()) == []
    assert files_in(tmp_path / "out") == files_in(tmp_path / "built-in")
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    for module in session.model.modules():
        assert not any(getattr(module, name) for name in hooks)
        assert "forward" not in vars(module)


def _refuse(*args: Any) -> None:
    raise AssertionError("a loop looked for the network")


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


FRAMEWORKS = [entry for entry in OTHERS if entry.values[0] in (Lightning, HuggingFace, Accelerated)]


@pytest.mark.parametrize("loop", FRAMEWORKS)
def test_ctrl_c_is_ctrl_c(tmp_path: Path, loop: type[Task]) -> None:
    class Interrupted(Blobs):
        def predict(self, model: nn.Module, inputs: Any) -> torch.Tensor:
            raise KeyboardInterrupt

    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt):
        rehearse(by(loop, Interrupted)(), small_config(), tmp_path)
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert_nothing_is_attached()
