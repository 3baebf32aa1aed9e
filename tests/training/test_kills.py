"""Killed twenty times at random points, a training ends as the uninterrupted one."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

from small_trainings import NoisyData, recorded, small_config, whole_state

from pytest_mltrainer import Config
from pytest_mltrainer.training.checkpoints import CheckpointFolder
from pytest_mltrainer.training.session import TrainingSession

KILLS = 20
SLOW_IMPORTS = ["torch._dynamo", "sklearn.metrics", "pytest_mltrainer.training.session"]
MARGIN_S = 0.06
CONFIG: dict[str, Any] = {"epochs": 30, "checkpoint_steps": 2, "optimizer": "adam"}


class Slow(NoisyData):
    """Long enough to be killed in the middle: some 5 ms a batch, 180 batches."""

    def __init__(self, started: Path) -> None:
        self.started = started

    def collate(self, samples: Any) -> Any:
        self.started.touch()
        time.sleep(0.005)
        return super().collate(samples)


def train(output: Path) -> None:
    """Go on from what an earlier process left, and say that it started and how it ended."""
    config: Config = small_config(**CONFIG)
    task = Slow(output / "started")
    session = TrainingSession.rehearse(config, task, output, steps=200)
    checkpoint = CheckpointFolder.newest(output / "checkpoints")
    if checkpoint is not None:
        session.resume(checkpoint)
    session.run()
    (output / "state").write_text(whole_state(session))


def start(output: Path) -> Any:
    # Each is a new process of a server that has torch loaded, so that twenty of them take seconds.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(SLOW_IMPORTS)
    (output / "started").unlink(missing_ok=True)
    process = context.Process(target=train, args=(output,))
    process.start()
    end = time.monotonic() + 60
    while not (output / "started").exists():
        assert process.is_alive(), "the training did not start"
        assert time.monotonic() < end
        time.sleep(0.001)
    return process


def finish(output: Path) -> str:
    process = start(output)
    process.join(120)
    assert process.exitcode == 0
    return (output / "state").read_text()


def test_killed_twenty_times(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    draw = random.Random(0)
    for _ in range(KILLS):
        process = start(two)
        time.sleep(draw.uniform(0, MARGIN_S))
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL, "it had ended before it was killed"
    reached = CheckpointFolder.newest(two / "checkpoints")
    assert reached is not None, "no kill came behind a checkpoint"
    assert finish(two) == finish(one)
    killed, whole = recorded(two).steps, recorded(one).steps
    for column in ("step", "epoch", "loss", "gradient_norm", "learning_rate"):
        assert killed[column].tobytes() == whole[column].tobytes(), column
    assert [entry.epoch for entry in recorded(two).epochs] == list(range(30))
