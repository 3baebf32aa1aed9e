"""The same training by every loop that a task may choose; each is a few lines of a task."""

from importlib.util import find_spec
from typing import Any

import pytest

from pytest_mltrainer import Task
from pytest_mltrainer.training.session import TrainingSession


class BuiltIn(Task):
    """The loop that a task has without saying so."""


class HandWritten(Task):
    def train(self, session: TrainingSession) -> None:
        for epoch in session.epochs():
            for inputs, targets in session.batches():
                (session.loss(inputs, targets) / session.accumulated()).backward()
                if session.is_update():
                    session.update()
            session.finish_epoch(epoch)


class Lightning(Task):
    def train(self, session: TrainingSession) -> None:
        from pytest_mltrainer.adapters.lightning import fit

        fit(session)


class OwnModule(Task):
    def train(self, session: TrainingSession) -> None:
        from lightning.pytorch import LightningModule

        from pytest_mltrainer.adapters.lightning import fit

        task = self

        class Module(LightningModule):
            def __init__(self, model: Any) -> None:
                super().__init__()
                self.model = model

            def training_step(self, batch: Any, batch_idx: int) -> Any:
                inputs, targets = batch
                loss = task.loss(self.model(inputs), targets, session.config)
                self.log("loss", loss)
                return loss

        fit(session, Module(session.model))


class HuggingFace(Task):
    def train(self, session: TrainingSession) -> None:
        from pytest_mltrainer.adapters.hugging_face import fit

        fit(session)


class Accelerated(Task):
    def train(self, session: TrainingSession) -> None:
        from pytest_mltrainer.adapters.accelerate import accelerated

        with accelerated(session) as (accelerator, model, optimizer):
            for epoch in session.epochs():
                for inputs, targets in session.batches():
                    with accelerator.accumulate(model):
                        accelerator.backward(session.loss(inputs, targets))
                        optimizer.step()
                        optimizer.zero_grad()
                session.finish_epoch(epoch)


def needs(framework: str) -> Any:
    """Skips what wants a framework that is not installed."""
    return pytest.mark.skipif(find_spec(framework) is None, reason=f"{framework} is not installed")


OTHERS = [
    pytest.param(HandWritten, id="hand-written"),
    pytest.param(Lightning, id="lightning", marks=needs("lightning")),
    pytest.param(OwnModule, id="own module", marks=needs("lightning")),
    pytest.param(HuggingFace, id="hugging_face", marks=needs("transformers")),
    pytest.param(Accelerated, id="accelerate", marks=needs("accelerate")),
]
LOOPS = [pytest.param(BuiltIn, id="built-in"), *OTHERS]


def by(loop: type[Task], task: type[Task]) -> type[Task]:
    """The task, trained by a loop."""
    return type(f"{task.__name__}By{loop.__name__}", (loop, task), {})
