"""When a session saves a checkpoint, what it holds, and how training goes on from it."""

from typing import TYPE_CHECKING, Any, Protocol

from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.training.checkpoints import Checkpoint, CheckpointFolder
from pytest_mltrainer.training.reproducibility import RngState

if TYPE_CHECKING:
    from pytest_mltrainer.training.session import TrainingSession


class Stateful(Protocol):
    """Whatever a checkpoint can hold: tensors and plain values out, and in again."""

    def state_dict(self) -> dict[str, Any]:
        """The state now."""
        ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any:
        """Put that state back."""
        ...


class Saving:
    """Saves the state of a session and puts it back. Of several ranks the first one writes."""

    def __init__(self, session: "TrainingSession") -> None:
        """Nothing was saved yet."""
        training = session.config.training
        self._session = session
        self._every_steps = training.checkpoint_steps
        self._folder = CheckpointFolder(
            session.output / "checkpoints", every_epochs=training.checkpoint_every
        )
        self._saved_step = 0
        self._others: dict[str, Stateful] = {}
        self._restored: dict[str, Any] = {}

    def register(self, name: str, part: Stateful) -> None:
        """Save `part` with everything else; give it back its state if training was resumed."""
        self._others[name] = part
        if name in self._restored:
            part.load_state_dict(self._restored.pop(name))

    def is_due(self) -> bool:
        """Whether `training.checkpoint_steps` asks for a checkpoint within the epoch by now."""
        every = self._every_steps
        return bool(every) and self._session.observer.step - self._saved_step >= (every or 0)

    def save_step(self, position: int) -> None:
        """Save within an epoch, `position` batches of which are done."""
        # What was recorded so far must be there when training goes on behind it.
        self._session.observer.flush()
        checkpoint = self._checkpoint(position)
        if self._session.ranks.is_first:
            self._folder.save_step(checkpoint)

    def save_epoch(self, *, is_best: bool) -> None:
        """Save at the end of an epoch."""
        checkpoint = self._checkpoint(None)
        if self._session.ranks.is_first:
            self._folder.save_epoch(checkpoint, is_best=is_best)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put model, optimizer and schedule into the saved state. Raises UserError."""
        session = self._session
        if checkpoint.identity != session.identity:
            raise UserError("the checkpoint belongs to other code, configuration or data")
        session.model.load_state_dict(checkpoint.model)
        session.optimizer.load_state_dict(checkpoint.optimizer)
        if session.scheduler:
            session.scheduler.load_state_dict(checkpoint.scheduler)
        self._restored = dict(checkpoint.others)
        self._saved_step = checkpoint.step

    def _checkpoint(self, position: int | None) -> Checkpoint:
        session = self._session
        session.digests.checkpointed()
        self._saved_step = session.observer.step
        kept = None if position is None else session.scores.so_far()
        return Checkpoint(
            identity=session.identity,
            step=session.observer.step,
            epoch=session.observer.epoch,
            model=session.model.state_dict(),
            optimizer=session.optimizer.state_dict(),
            scheduler=session.scheduler.state_dict() if session.scheduler else {},
            rng=RngState.capture(),
            progress=session.progress.to_json(),
            position=position,
            kept=kept,
            others={name: part.state_dict() for name, part in self._others.items()},
            peers=self._states_of_peers(kept),
        )

    def _states_of_peers(self, kept: Any) -> list[dict[str, Any]]:
        """What the checkpoint of the first rank needs of the others."""
        session = self._session
        if session.ranks.size == 1:
            return []
        parameters = {name for name, _ in session.model.named_parameters()}
        state = session.model.state_dict()
        own = {
            "rng": RngState.capture().to_list(),
            "buffers": {name: state[name] for name in state if name not in parameters},
            "kept": kept,
        }
        return session.ranks.gather(own)[1:]
