"""Accelerate under a session, for a loop of one's own.

Accelerate's loaders fetch one batch ahead, so that its checkpoints within an epoch have the
generators' state of a batch too many; dropout then differs behind a resume. It divides an epoch's
last, smaller update by the full number of accumulated batches, and keeps its settings in the whole
process. Here the batches are `session.batches()`, each drawn when it is due; the loss is divided by
the batches that its update really sums over; the update is the session's; and the process is left
as it was.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn

import torch
from torch import nn

from pytest_mltrainer.adapters.governed import (
    Governed,
    SessionSteps,
    contradictions,
    in_config,
    missing,
    refuse,
)
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.training.session import TrainingSession

try:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState, PartialState
except ModuleNotFoundError as error:
    raise missing("accelerate", "accelerate") from error

ELSEWHERE = "write session.register(name, part), and let the session save it"


class Accelerated(NamedTuple):
    """What a loop of Accelerate works with."""

    accelerator: "SessionAccelerator"
    model: nn.Module
    optimizer: SessionSteps


@contextmanager
def accelerated(session: TrainingSession, **options: Any) -> Iterator[Accelerated]:
    """Accelerator, model and optimizer of the session; the loop goes over `session.batches()`.

    `optimizer.step()` clips, steps and advances the schedule where an update is due. Raises
    UserError for options of the Accelerator that contradict the session.
    """
    governed = _governed(session)
    refuse("adapters.accelerate.accelerated", contradictions(options, governed))
    values = {name: setting.value for name, setting in governed.items()}
    with process_left_alone():
        accelerator = SessionAccelerator(session, **(options | values))
        model = accelerator.prepare_model(session.model)
        yield Accelerated(accelerator, model, SessionSteps(session))


def _governed(session: TrainingSession) -> dict[str, Governed]:
    by_session = "session.batches() gives the batches"
    return {
        "cpu": Governed(session.device.type == "cpu", "write device in training_config.yaml"),
        "mixed_precision": Governed(
            "no", "use torch.autocast in Task.predict, which validation and export share"
        ),
        # The accelerator below divides by the batches of each update itself.
        "gradient_accumulation_steps": Governed(1, in_config("accumulate")),
        "gradient_accumulation_plugin": Governed(None, in_config("accumulate")),
        "dataloader_config": Governed(None, by_session),
        "rng_types": Governed(None, by_session),
        "log_with": Governed(None, "read telemetry/ of the phase"),
        "project_dir": Governed(None, in_config("checkpoint_every or checkpoint_steps")),
        "project_config": Governed(None, in_config("checkpoint_every or checkpoint_steps")),
        "step_scheduler_with_optimizer": Governed(True, in_config("scheduler")),
    }


class SessionAccelerator(Accelerator):
    """An Accelerator that accumulates as the session does and leaves the rest to it."""

    def __init__(self, session: TrainingSession, **options: Any) -> None:
        """One process on the session's device."""
        super().__init__(**options)
        self._session = session
        where, here = self.device, session.device
        if (where.type, where.index or 0) != (here.type, here.index or 0):
            raise UserError(
                f"adapters.accelerate: found the device {where}, wanted {here}: take variables "
                "such as ACCELERATE_USE_CPU and CUDA_VISIBLE_DEVICES out of the environment, or "
                "write that device in training_config.yaml"
            )
        if self.num_processes != 1:
            raise UserError(
                f"adapters.accelerate: found {self.num_processes} processes, wanted one: start it "
                "by pytest, not by `accelerate launch`"
            )

    @contextmanager
    def accumulate(self, *models: nn.Module) -> Iterator[None]:
        """Says by `sync_gradients` whether the present batch ends an update."""
        self.sync_gradients = self._session.is_update()
        yield

    def backward(self, loss: torch.Tensor, **kwargs: Any) -> None:
        """Gradients of the loss as a part of its update."""
        parts = self._session.accumulated()
        super().backward(loss / parts if parts > 1 else loss, **kwargs)

    def clip_grad_norm_(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises UserError."""
        _raise("clip_grad_norm_", in_config("clip_norm"))

    def clip_grad_value_(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises UserError."""
        _raise("clip_grad_value_", in_config("clip_norm"))

    def save_state(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises UserError."""
        _raise("save_state", in_config("checkpoint_every or checkpoint_steps"))

    def load_state(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Raises UserError."""
        _raise("load_state", "nothing: the session was resumed before Task.train is called")

    def register_for_checkpointing(self, *objects: Any) -> NoReturn:
        """Raises UserError."""
        _raise("register_for_checkpointing", ELSEWHERE)


def _raise(method: str, instead: str) -> NoReturn:
    raise UserError(
        f"adapters.accelerate: found accelerator.{method}(), but the session governs that: "
        f"{instead}, and take the call out"
    )


@contextmanager
def process_left_alone() -> Iterator[None]:
    """What Accelerate keeps for the whole process is afterwards what it was before."""
    shared = [kind._shared_state for kind in (PartialState, AcceleratorState, GradientState)]
    before = [dict(state) for state in shared]
    # An accelerator of before has its own settings; this one starts from none.
    for state in shared:
        state.clear()
    try:
        yield
    finally:
        for state, kept in zip(shared, before, strict=True):
            state.clear()
            state.update(kept)
