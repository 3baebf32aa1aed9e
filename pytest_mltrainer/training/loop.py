"""The built-in training loop."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_mltrainer.training.session import TrainingSession


def fit(session: "TrainingSession") -> None:
    """Train `session.model` until its epochs are done or early stopping ends it.

    The session fixes the seeds of each epoch, moves batches to the device, clips, schedules,
    records and saves; an update sums over `training.accumulate` batches.
    """
    for epoch in session.epochs():
        for inputs, targets in session.batches():
            loss, parts = session.loss(inputs, targets), session.accumulated()
            (loss / parts if parts > 1 else loss).backward()
            if session.is_update():
                session.update()
        session.finish_epoch(epoch)
