"""Lightning's Trainer under a session.

Lightning keeps no state of the generators in its checkpoints and divides an epoch's last, smaller
update by the full `accumulate_grad_batches`. Here it draws each batch from the session when it is
due, lets the session do every update, and begins at the epoch, batch and step that the session
begins with. Its own checkpoints, loggers, validation and schedules are off.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch

from pytest_mltrainer.adapters.governed import missing, nothing_to_train, quiet
from pytest_mltrainer.training.session import TrainingSession

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.callbacks import EarlyStopping
    from lightning.pytorch.plugins.precision import Precision
    from lightning.pytorch.strategies import SingleDeviceStrategy
    from lightning.pytorch.utilities.warnings import PossibleUserWarning

    from pytest_mltrainer.adapters.lightning_rules import check, governed
except ModuleNotFoundError as error:
    raise missing("lightning", "lightning") from error


class TaskModule(LightningModule):
    """The task's own prediction and loss; the training metric is recorded as well."""

    def __init__(self, session: TrainingSession) -> None:
        """Holds the session's model."""
        super().__init__()
        self.model = session.model
        self._session = session

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """The task's loss."""
        inputs, targets = batch
        return self._session.loss(inputs, targets)


def fit(
    session: TrainingSession,
    module: LightningModule | None = None,
    *,
    callbacks: Sequence[Callback] = (),
    **options: Any,
) -> None:
    """Train with Lightning's Trainer, made from `options`.

    Without a module the task's own loss is trained. A module of one's own holds `session.model`,
    and its `training_step` gives the loss; its validation is not called. Raises UserError for
    options, callbacks and methods that contradict the session.
    """
    module = module or TaskModule(session)
    check(session, module, callbacks, options)
    if nothing_to_train(session):
        return
    ours = {name: setting.value for name, setting in governed(session).items()}
    ours["strategy"] = SessionStrategy(session)
    ours["callbacks"] = [SessionEpochs(session, module, callbacks), *callbacks]
    module.configure_optimizers = lambda: session.optimizer
    try:
        with quiet("lightning.pytorch", "lightning.fabric"), warnings.catch_warnings():
            warnings.simplefilter("ignore", PossibleUserWarning)
            trainer = Trainer(**(options | ours))
            trainer.fit(module, SessionBatches(session, trainer))
    except SystemExit as end:
        # Lightning makes an exit of what the caller wants to know as Ctrl-C.
        if isinstance(end.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from end
        raise
    finally:
        del module.configure_optimizers


class SessionBatches:
    """The batches of the present epoch. With their length Lightning does not fetch ahead."""

    def __init__(self, session: TrainingSession, trainer: Trainer) -> None:
        """Sets the trainer's counters to where the session begins."""
        self._session = session
        self._loop = trainer.fit_loop
        epoch, self._skipped = session.start
        step = self._loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total
        step.ready = step.completed = session.observer.step
        _advance(self._loop.epoch_progress, epoch)

    def __len__(self) -> int:
        """Batches in a whole epoch."""
        return len(self._session.loader)

    def __iter__(self) -> Iterator[Any]:
        """The batches, behind those that were trained on already."""
        if self._skipped:
            # Now, since Lightning has cleared these counters at the epoch's start.
            self._loop._data_fetcher.fetched += self._skipped
            _advance(self._loop.epoch_loop.batch_progress, self._skipped)
            self._skipped = 0
        yield from self._session.batches()


def _advance(progress: Any, count: int) -> None:
    for counter in (progress.current, progress.total):
        counter.ready = counter.started = counter.processed = counter.completed = count


class SessionEpochs(EarlyStopping):
    """Begins and finishes the session's epochs, and ends the training when the session does.

    As a kind of EarlyStopping it is called behind the `on_train_epoch_end` of module and callbacks.
    """

    def __init__(
        self, session: TrainingSession, module: LightningModule, callbacks: Sequence[Callback]
    ) -> None:
        """The state of module and callbacks goes into the session's checkpoints."""
        super().__init__(monitor="the session's objective", check_on_train_epoch_end=True)
        self._session = session
        self._epochs = session.epochs()
        self._epoch = 0
        self._others = OtherState(session, module, callbacks)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore what callbacks have made in their `setup`."""
        self._session.register("lightning", self._others)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Seed the epoch."""
        self._epoch = next(self._epochs)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate, record and save."""
        self._session.finish_epoch(self._epoch)
        trainer.should_stop = self._session.progress.stopped_early


class OtherState:
    """What module and callbacks hold besides the session's model: buffers, callbacks' states."""

    def __init__(
        self, session: TrainingSession, module: LightningModule, callbacks: Sequence[Callback]
    ) -> None:
        """Looks when it is asked."""
        self._model, self._module, self._callbacks = session.model, module, callbacks

    def state_dict(self) -> dict[str, Any]:
        """The state now."""
        states = {callback.state_key: callback.state_dict() for callback in self._callbacks}
        return {"buffers": self._buffers(), "callbacks": states}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put that state back."""
        for name, buffer in self._buffers().items():
            buffer.copy_(state["buffers"][name])
        for callback in self._callbacks:
            callback.load_state_dict(state["callbacks"][callback.state_key])

    def _buffers(self) -> dict[str, torch.Tensor]:
        held = {id(buffer) for buffer in self._model.buffers()}
        named = self._module.named_buffers()
        return {name: buffer for name, buffer in named if id(buffer) not in held}


class SessionStrategy(SingleDeviceStrategy):
    """The session's device, where model and optimizer stay when the training ends."""

    def __init__(self, session: TrainingSession) -> None:
        """One process, one device."""
        super().__init__(device=session.device, precision_plugin=SessionUpdates(session))

    def teardown(self) -> None:
        """Nothing: Lightning would move the model to the CPU."""


class SessionUpdates(Precision):
    """Each update is the session's: clip, step, clear the gradients, advance the schedule."""

    def __init__(self, session: TrainingSession) -> None:
        """Single precision."""
        self._session = session

    def pre_backward(self, tensor: torch.Tensor, module: LightningModule) -> torch.Tensor:
        """The loss as a part of its update, which may sum over fewer batches than usual."""
        part: torch.Tensor = super().pre_backward(tensor, module)
        usual, parts = self._session.config.training.accumulate, self._session.accumulated()
        return part if parts == usual else part * (usual / parts)

    def optimizer_step(
        self, optimizer: Any, model: LightningModule, closure: Callable[[], Any], **kwargs: Any
    ) -> Any:
        """Compute the gradients, then update."""
        result = self._wrap_closure(model, optimizer, closure)
        self._session.update()
        return result
