"""A training that was ended and resumed is the uninterrupted one, bit for bit."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trainings import (
    Blobs,
    NoisyData,
    NoisyLayers,
    recorded,
    rehearse,
    small_config,
    whole_state,
)
from torch import nn

from pytest_mltrainer import Config, Task
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.training.checkpoints import Checkpoint
from pytest_mltrainer.training.session import TrainingSession


class Ended(BaseException):
    """What a signal would do, where a test can see it."""


def ended_in_epoch(task: type[Task], epoch: int) -> Task:
    """The task, ended while it validates an epoch: behind its updates, before its checkpoint."""

    class Interrupted(task):  # type: ignore[misc, valid-type]
        validations = 0

        def predict(self, model: nn.Module, inputs: Any) -> torch.Tensor:
            if not model.training:
                self.validations += 1
                if self.validations == epoch + 1:
                    raise Ended
            return super().predict(model, inputs)  # type: ignore[no-any-return]

    return Interrupted()


def resume(task: Task, config: Config, output: Path) -> TrainingSession:
    session = TrainingSession.rehearse(config, task, output, steps=200)
    session.resume(Checkpoint.load(output / "checkpoints" / "last.pt"))
    session.run()
    return session


def assert_same_training(folder: Path, task: type[Task], config: Config, epoch: int) -> None:
    uninterrupted = rehearse(task(), config, folder / "one")
    with pytest.raises(Ended):
        rehearse(ended_in_epoch(task, epoch), config, folder / "two")
    resumed = resume(task(), config, folder / "two")
    assert whole_state(resumed) == whole_state(uninterrupted)
    one, two = recorded(folder / "one"), recorded(folder / "two")
    for column in ("step", "epoch", "loss", "gradient_norm", "learning_rate"):
        assert one.steps[column].tobytes() == two.steps[column].tobytes(), column
    assert [replace(entry, duration_s=0) for entry in one.epochs] == [
        replace(entry, duration_s=0) for entry in two.epochs
    ]
    checkpoints = [
        Checkpoint.load(folder / name / "checkpoints" / "best.pt") for name in ("one", "two")
    ]
    assert checkpoints[0].epoch == checkpoints[1].epoch
    assert checkpoints[0].rng.digest() == checkpoints[1].rng.digest()


@pytest.mark.parametrize("task", [Blobs, NoisyLayers, NoisyData])
@pytest.mark.parametrize("epoch", [1, 3])
def test_layers_and_data_that_draw_random_numbers(
    tmp_path: Path, task: type[Task], epoch: int
) -> None:
    assert_same_training(tmp_path, task, small_config(epochs=4, optimizer="adam"), epoch)


def test_data_that_loader_processes_draw(tmp_path: Path) -> None:
    config = small_config(epochs=3, loader_workers=2, optimizer="adam")
    assert_same_training(tmp_path, NoisyData, config, 1)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("scheduler", ["none", "plateau", "step", "cosine", "onecycle"])
def test_every_optimizer_and_schedule(tmp_path: Path, optimizer: str, scheduler: str) -> None:
    config = small_config(
        epochs=5,
        optimizer=optimizer,
        scheduler=scheduler,
        momentum=0.9,
        warmup_steps=0 if scheduler in ("plateau", "onecycle") else 4,
        scheduler_step_epochs=2,
        scheduler_patience=0,
        clip_norm=1.0,
        accumulate=2,
    )
    assert_same_training(tmp_path, NoisyLayers, config, 2)


def test_counters_of_early_stopping_go_on(tmp_path: Path) -> None:
    config = small_config(epochs=8, learning_rate=1e-9, early_stopping={"patience": 3})
    assert_same_training(tmp_path, Blobs, config, 2)
    assert len(recorded(tmp_path / "two").epochs) == 4


def test_finished_training_trains_nothing_more(tmp_path: Path) -> None:
    config = small_config(epochs=2)
    done = rehearse(Blobs(), config, tmp_path)
    again = resume(Blobs(), config, tmp_path)
    assert whole_state(again) == whole_state(done)
    assert len(recorded(tmp_path).steps) == 12


def test_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    rehearse(Blobs(), small_config(), tmp_path)
    session = TrainingSession.rehearse(small_config(), Blobs(), tmp_path, steps=5)
    session.identity = "other"
    with pytest.raises(UserError, match="other code, configuration or data"):
        session.resume(Checkpoint.load(tmp_path / "checkpoints" / "last.pt"))


def test_draws_do_not_depend_on_how_often_validation_looks(tmp_path: Path) -> None:
    """Evaluating draws no number that training would have drawn."""

    class Curious(NoisyData):
        def metrics(self, outputs: Any, targets: Any) -> Mapping[str, float]:
            torch.rand(17)
            return super().metrics(outputs, targets)

    config = small_config(epochs=3)
    plain = rehearse(NoisyData(), config, tmp_path / "plain")
    curious = rehearse(Curious(), config, tmp_path / "curious")
    assert whole_state(plain) == whole_state(curious)
