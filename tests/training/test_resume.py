"""A training that was ended and resumed is the uninterrupted one, bit for bit."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
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
from torch.optim.swa_utils import AveragedModel

from pytest_mltrainer import Config, Task
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.training.checkpoints import Checkpoint, CheckpointFolder
from pytest_mltrainer.training.reproducibility import digest_tensors
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


def ended_before_batch(task: type[Task], epoch: int, number: int) -> Task:
    """The task, ended by the first look at the loss of a batch within an epoch."""

    class Interrupted(task):  # type: ignore[misc, valid-type]
        losses = 0

        def train(self, session: TrainingSession) -> None:
            self.last = epoch * len(session.loader) + number
            super().train(session)

        def loss(self, outputs: torch.Tensor, targets: torch.Tensor, config: Config) -> Any:
            if torch.is_grad_enabled():
                if self.losses == self.last:
                    raise Ended
                self.losses += 1
            return super().loss(outputs, targets, config)

    return Interrupted()


def resume(task: Task, config: Config, output: Path) -> TrainingSession:
    session = TrainingSession.rehearse(config, task, output, steps=200)
    checkpoint = CheckpointFolder.newest(output / "checkpoints")
    assert checkpoint is not None
    session.resume(checkpoint)
    session.run()
    return session


def assert_same_training(
    folder: Path, task: type[Task], config: Config, epoch: int, batch: int | None = None
) -> None:
    """Ended behind the epoch's last update, or before one of its batches."""
    uninterrupted = rehearse(task(), config, folder / "one")
    ended = ended_in_epoch(task, epoch) if batch is None else ended_before_batch(task, epoch, batch)
    with pytest.raises(Ended):
        rehearse(ended, config, folder / "two")
    if batch is not None and config.training.checkpoint_steps == config.training.accumulate == 1:
        newest = CheckpointFolder.newest(folder / "two" / "checkpoints")
        assert newest is not None
        assert newest.position == batch
    resumed = resume(task(), config, folder / "two")
    assert whole_state(resumed) == whole_state(uninterrupted)
    one, two = recorded(folder / "one"), recorded(folder / "two")
    for column in ("step", "epoch", "loss", "gradient_norm", "learning_rate"):
        assert one.steps[column].tobytes() == two.steps[column].tobytes(), column
    assert [replace(entry, duration_s=0, memory_mb=0) for entry in one.epochs] == [
        replace(entry, duration_s=0, memory_mb=0) for entry in two.epochs
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


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch", [1, 3, 5])
def test_within_an_epoch(tmp_path: Path, batch: int, workers: int) -> None:
    """Dropout, batch norm and data that draw random numbers."""
    config = small_config(
        epochs=3, optimizer="adam", checkpoint_steps=1, loader_workers=workers, shuffle=True
    )
    assert_same_training(tmp_path, NoisyData, config, 1, batch)


@given(
    batch=st.integers(1, 16),
    every=st.integers(1, 7),
    accumulate=st.integers(1, 3),
    scheduler=st.sampled_from(["none", "plateau", "cosine", "onecycle"]),
)
@settings(max_examples=15, deadline=None, derandomize=True)
def test_at_any_batch_with_any_schedule_and_accumulation(
    tmp_path_factory: pytest.TempPathFactory,
    batch: int,
    every: int,
    accumulate: int,
    scheduler: str,
) -> None:
    config = small_config(
        epochs=3,
        batch_size=3,
        optimizer="adamw",
        checkpoint_steps=every,
        accumulate=accumulate,
        scheduler=scheduler,
        clip_norm=1.0,
    )
    # The first epoch may have no checkpoint yet: there is nothing to go on from then.
    assert_same_training(tmp_path_factory.mktemp("any"), NoisyData, config, 1, batch % 16)


def test_what_a_task_registers_goes_on_as_well(tmp_path: Path) -> None:
    class Averaged(NoisyData):
        def train(self, session: TrainingSession) -> None:
            self.average = AveragedModel(session.model)
            session.register("average", self.average)
            for epoch in session.epochs():
                for inputs, targets in session.batches():
                    session.loss(inputs, targets).backward()
                    session.update()
                    self.average.update_parameters(session.model)
                session.finish_epoch(epoch)

    config = small_config(epochs=3, checkpoint_steps=2)
    whole = rehearse(Averaged(), config, tmp_path / "one")
    with pytest.raises(Ended):
        rehearse(ended_before_batch(Averaged, 1, 5), config, tmp_path / "two")
    resumed = resume(Averaged(), config, tmp_path / "two")
    one, two = (session.task.average.state_dict() for session in (whole, resumed))  # type: ignore[attr-defined]
    assert digest_tensors(one) == digest_tensors(two)


def test_loader_processes_do_not_change_what_they_draw_with_their_number(tmp_path: Path) -> None:
    """Each batch has seeds of its own in a worker, so that any worker may make it."""
    one, two = (
        rehearse(NoisyData(), small_config(loader_workers=workers), tmp_path / f"{workers}")
        for workers in (1, 2)
    )
    assert whole_state(one) == whole_state(two)


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
