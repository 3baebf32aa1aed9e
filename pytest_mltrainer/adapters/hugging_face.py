"""Hugging Face's Trainer under a session.

The Trainer restores generators at a checkpoint, but not what a data set drew from them for the
batches it had fetched ahead; it fetches all batches of an update at once. Here it draws each batch
from the session when it is due, computes the task's loss, lets the session do every update, and
begins at the epoch, batch and step that the session begins with. Its own checkpoints, evaluation,
reports, schedules and seeds are off.
"""

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from pytest_mltrainer.adapters.governed import SessionSteps, missing, nothing_to_train, quiet
from pytest_mltrainer.training.session import TrainingSession

try:
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    from pytest_mltrainer.adapters.accelerate import process_left_alone
    from pytest_mltrainer.adapters.hugging_face_rules import check, governed
except ModuleNotFoundError as error:
    raise missing("transformers", "transformers") from error


def fit(
    session: TrainingSession,
    arguments: TrainingArguments | None = None,
    *,
    callbacks: Sequence[TrainerCallback] = (),
) -> None:
    """Train with Hugging Face's Trainer and the task's own loss.

    Arguments that stand at their defaults take the session's values. Raises UserError for others
    that contradict the session.
    """
    with process_left_alone(), quiet("transformers"):
        plain = TrainingArguments(
            output_dir=str(session.output), use_cpu=session.device.type == "cpu", report_to="none"
        )
        check(session, arguments or plain, plain)
        if nothing_to_train(session):
            return
        ours = copy.copy(arguments or plain)
        ours.output_dir = str(session.output)
        for name, setting in governed(session).items():
            setattr(ours, name, setting.value)
        trainer = SessionTrainer(session, ours, callbacks)
        trainer.train()


class SessionTrainer(Trainer):
    """A Trainer that goes over the session's epochs and batches and lets it do the updates."""

    def __init__(
        self,
        session: TrainingSession,
        arguments: TrainingArguments,
        callbacks: Sequence[TrainerCallback],
    ) -> None:
        """`arguments` have the session's values already."""
        self._session = session
        self._epoch, self._skipped = session.start
        self._seeding = SessionEpochs(session)
        super().__init__(session.model, arguments, callbacks=list(callbacks))
        self.remove_callback(PrinterCallback)
        self.callback_handler.callbacks.insert(0, self._seeding)

    def get_train_dataloader(self) -> Any:
        """The session's batches."""
        return SessionBatches(self._session)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """None of its own: the session's update advances the schedule.

        It is called when everything is prepared, so that the optimizer is put in place here too.
        """
        self.optimizer: Any = SessionSteps(self._session)
        self.lr_scheduler = SessionSchedule(self._session)
        return self.lr_scheduler

    def create_optimizer(self, model: Any = None) -> Any:
        """The session's."""
        self.optimizer = self._session.optimizer
        return self.optimizer

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple["BatchesOfUpdate", None]:
        """The batches of an update; each is drawn when the one before it is done."""
        return BatchesOfUpdate(epoch_iterator, num_batches), None

    def compute_loss(
        self,
        model: nn.Module,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> torch.Tensor:
        """The task's loss; its outputs are kept for the training metric."""
        features, targets = inputs
        return self._session.loss(features, targets)

    def floating_point_ops(self, inputs: Any) -> int:
        """0: it is counted for inputs of Hugging Face's own shape only."""
        return 0

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> None:
        """Nothing: the session records the norm that its update computes."""

    def _init_training_state(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        """The epoch and step that the session begins with."""
        super()._init_training_state(*args, **kwargs)
        self.state.global_step = self._session.observer.step
        self.state.epoch = self._epoch + self._skipped / len(self._session.loader)
        return self._epoch, 0

    def _run_epoch(self, **kwargs: Any) -> None:
        """An epoch, or what is left of the first one, then the session's validation."""
        left = kwargs["steps_in_epoch"] - self._skipped
        updates = -(-left // self.args.gradient_accumulation_steps)
        self._skipped = 0
        super()._run_epoch(
            **kwargs | {"steps_in_epoch": left, "num_update_steps_per_epoch": updates}
        )
        self._session.finish_epoch(self._seeding.epoch)
        if self._session.progress.stopped_early:
            self.control.should_training_stop = True


class SessionEpochs(TrainerCallback):
    """Begins the session's epochs, before any other callback."""

    def __init__(self, session: TrainingSession) -> None:
        """No epoch has begun."""
        self._epochs = session.epochs()
        self.epoch = 0

    def on_epoch_begin(self, *args: Any, **kwargs: Any) -> None:
        """Seed the epoch."""
        self.epoch = next(self._epochs)


class SessionBatches:
    """The session's present epoch, where the Trainer wants a loader."""

    def __init__(self, session: TrainingSession) -> None:
        """Nothing is drawn yet."""
        self._session = session
        self.dataset: Dataset[Any] = session.splits.train

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        return len(self._session.loader)

    def __iter__(self) -> Iterator[Any]:
        """The batches that are still to train on."""
        return self._session.batches()


class BatchesOfUpdate:
    """The next batches of an epoch, as many as an update sums over, drawn one by one."""

    def __init__(self, batches: Iterator[Any], count: int) -> None:
        """Nothing is drawn yet."""
        self._batches, self._count = batches, count

    def __len__(self) -> int:
        """How many there will be."""
        return self._count

    def __iter__(self) -> Iterator[Any]:
        """Draw them."""
        for _ in range(self._count):
            yield next(self._batches)


class SessionSchedule:
    """The session's learning rate, where the Trainer wants a schedule."""

    def __init__(self, session: TrainingSession) -> None:
        """The rate is the optimizer's."""
        self._optimizer = session.optimizer

    def step(self) -> None:
        """Nothing: the session's update has advanced the schedule."""

    def get_last_lr(self) -> list[float]:
        """The present rates, of every group."""
        return [float(group["lr"]) for group in self._optimizer.param_groups]
