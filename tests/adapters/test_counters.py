"""What user code sees of a framework's counters and states is the same behind a resume."""

from pathlib import Path
from typing import Any

import pytest
import torch
from loops import needs
from small_trainings import NoisyData, rehearse, small_config, whole_state
from test_resume import Ended, ended_before_batch, resume

from pytest_mltrainer.training.session import TrainingSession

CONFIG = {"optimizer": "adam", "checkpoint_steps": 2, "epochs": 3}


@needs("lightning")
@pytest.mark.parametrize("accumulate", [1, 2])
def test_counters_of_lightning(tmp_path: Path, accumulate: int) -> None:
    from lightning.pytorch import Callback

    from pytest_mltrainer.adapters.lightning import TaskModule, fit

    class Watched(NoisyData):
        def train(self, session: TrainingSession) -> None:
            self.seen: list[Any] = []
            self.counter = Counter()
            fit(session, Module(session, self.seen), callbacks=[self.counter])

    class Module(TaskModule):
        def __init__(self, session: TrainingSession, seen: list[Any]) -> None:
            super().__init__(session)
            self.seen = seen
            self.register_buffer("batches", torch.tensor(0))

        def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
            self.batches += 1
            trainer = self.trainer
            self.seen.append(
                (self.current_epoch, batch_idx, self.global_step, int(self.batches),
                 trainer.is_last_batch)
            )  # fmt: skip
            return super().training_step(batch, batch_idx)

    class Counter(Callback):
        steps = 0

        def on_before_zero_grad(self, *args: Any) -> None:
            self.steps += 1

        def state_dict(self) -> dict[str, Any]:
            return {"steps": self.steps}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            self.steps = state_dict["steps"]

    config = small_config(**CONFIG, accumulate=accumulate)
    whole = rehearse(Watched(), config, tmp_path / "one")
    with pytest.raises(Ended):
        rehearse(ended_before_batch(Watched, 1, 5), config, tmp_path / "two")
    resumed = resume(Watched(), config, tmp_path / "two")
    assert whole_state(whole) == whole_state(resumed)
    one, two = (session.task for session in (whole, resumed))
    assert isinstance(one, Watched)
    assert isinstance(two, Watched)
    assert len(one.seen) == 18
    assert 8 <= len(two.seen) < 12
    assert two.seen == one.seen[-len(two.seen) :]
    assert one.counter.steps == two.counter.steps == 18 // accumulate


@needs("transformers")
@pytest.mark.parametrize("accumulate", [1, 4])
def test_counters_of_hugging_face(tmp_path: Path, accumulate: int) -> None:
    from transformers import TrainerCallback

    from pytest_mltrainer.adapters.hugging_face import fit

    class Listener(TrainerCallback):
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def on_step_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            self.seen.append(state.global_step)

    class Watched(NoisyData):
        def train(self, session: TrainingSession) -> None:
            self.listener = Listener()
            fit(session, callbacks=[self.listener])

    config = small_config(**CONFIG | {"checkpoint_steps": 1}, accumulate=accumulate)
    whole = rehearse(Watched(), config, tmp_path / "one")
    with pytest.raises(Ended):
        rehearse(ended_before_batch(Watched, 1, 5), config, tmp_path / "two")
    resumed = resume(Watched(), config, tmp_path / "two")
    assert whole_state(whole) == whole_state(resumed)
    one, two = (session.task for session in (whole, resumed))
    assert isinstance(one, Watched)
    assert isinstance(two, Watched)
    assert one.listener.seen == list(range(3 * -(-6 // accumulate)))
    assert 0 < len(two.listener.seen) < len(one.listener.seen)
    assert two.listener.seen == one.listener.seen[-len(two.listener.seen) :]
