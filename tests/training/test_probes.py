"""Probes: what they measure, what they leave alone, and what they say when user code raises."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_trainings import Blobs, NoisyLayers, small_config, whole_state
from torch import nn

from pytest_mltrainer import Config, Task
from pytest_mltrainer.training.probes import UpdateWatcher, probe
from pytest_mltrainer.training.probes.trained import mode_scores
from pytest_mltrainer.training.reproducibility import RngState
from pytest_mltrainer.training.session import TrainingSession

PARTS = {"loss", "updates", "gradients", "inputs", "masking", "mixing", "modes", "initial",
         "recurrence"}  # fmt: skip


def watched(task: Task, output: Path, *, steps: int = 5, **training: Any) -> TrainingSession:
    config = small_config(**training)
    session = TrainingSession.rehearse(config, task, output, steps=steps)
    session.observer.watchers.append(UpdateWatcher(session.model))
    session.run()
    return session


def facts(task: Task, output: Path, **training: Any) -> dict[str, dict[str, Any]]:
    return probe(task, small_config(**training), watched(task, output, **training))


def test_every_part_is_judged_and_can_be_stored(tmp_path: Path) -> None:
    found = facts(NoisyLayers(), tmp_path)
    assert set(found) == PARTS
    assert all(part["judged"] for part in found.values())
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_probing_changes_neither_session_nor_generators(tmp_path: Path) -> None:
    session = watched(NoisyLayers(), tmp_path)
    state, rng = whole_state(session), RngState.capture().digest()
    gradients = [part.grad.clone() for part in session.model.parameters() if part.grad is not None]
    probe(session.task, session.config, session)
    assert whole_state(session) == state
    assert RngState.capture().digest() == rng
    for part, before in zip(session.model.parameters(), gradients, strict=False):
        assert part.grad is not None
        assert torch.equal(part.grad, before)


def test_probing_repeats_bit_by_bit(tmp_path: Path) -> None:
    once, again = (facts(NoisyLayers(), tmp_path / name) for name in ("a", "b"))
    assert once == again


def test_watching_changes_no_update(tmp_path: Path) -> None:
    config = small_config()
    plain = TrainingSession.rehearse(config, NoisyLayers(), tmp_path / "plain", steps=5)
    plain.run()
    assert whole_state(plain) == whole_state(watched(NoisyLayers(), tmp_path / "watched"))


class RaisingLoss(Blobs):
    """Its loss knows no other outputs than those of training."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor, config: Config) -> torch.Tensor:
        if not outputs.requires_grad:
            raise KeyError("only while training")
        return super().loss(outputs, targets, config)


def test_what_raises_is_the_reason_of_its_part_alone(tmp_path: Path) -> None:
    found = facts(RaisingLoss(), tmp_path)
    assert found["loss"]["judged"] is False
    assert "only while training" in found["loss"]["reason"]
    assert found["mixing"]["judged"]
    assert found["updates"]["judged"]


def test_without_a_watcher_updates_are_not_judged(tmp_path: Path) -> None:
    config = small_config()
    session = TrainingSession.rehearse(config, Blobs(), tmp_path, steps=3)
    session.run()
    found = probe(session.task, config, session)
    assert {name for name, part in found.items() if not part["judged"]} == {"updates", "gradients"}


def test_one_update_says_nothing_of_survival(tmp_path: Path) -> None:
    config = small_config()
    session = TrainingSession.rehearse(config, Blobs(), tmp_path, steps=1)
    session.observer.watchers.append(UpdateWatcher(session.model))
    session.run()
    found = probe(session.task, config, session)["gradients"]
    assert found["judged"] is False
    assert "1 updates" in found["reason"]


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    passes=st.integers(1, 3),
    clip=st.sampled_from([None, 0.3, 1.0]),
    left=st.sampled_from([0.0, 1.0]),
    momentum=st.sampled_from([0.0, 0.9]),
)
def test_what_survives_is_measured_whatever_else_happens_to_gradients(
    passes: int, clip: float | None, left: float, momentum: float
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=momentum)
    watcher = UpdateWatcher(model)
    for step in range(6):
        for _ in range(passes):
            outputs = model(torch.randn(8, 4))
            nn.functional.cross_entropy(outputs, torch.randint(0, 3, (8,))).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        watcher.before_update(step, optimizer)
        optimizer.step()
        watcher.after_update(step, optimizer)
        for part in model.parameters():
            assert part.grad is not None
            part.grad.mul_(left)
    watcher.detach()
    found = watcher.survival()
    assert found["survived_share"] == left
    assert found["backwards_per_update"] == passes
    assert found["compared"] == 5


class WideRange(Blobs):
    """Outputs behind an activation."""

    def __init__(self, activation: nn.Module) -> None:
        self.activation = activation

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 3), self.activation)


@pytest.mark.parametrize(
    ("activation", "low", "high"),
    [
        (nn.Identity(), None, None),
        (nn.Sigmoid(), 0.0, 1.0),
        (nn.Tanh(), -1.0, 1.0),
        (nn.ReLU(), 0.0, None),
        (nn.Hardtanh(-2.0, 3.0), -2.0, 3.0),
        (nn.Softplus(), 0.0, None),
    ],
)
def test_the_range_of_outputs(
    activation: nn.Module, low: float | None, high: float | None, tmp_path: Path
) -> None:
    found = facts(WideRange(activation), tmp_path)["loss"]
    assert found["low"] == (None if low is None else pytest.approx(low, abs=1e-3))
    assert found["high"] == (None if high is None else pytest.approx(high, abs=1e-3))


def test_the_loss_is_asked_about_matching_undecided_and_swapped_outputs(tmp_path: Path) -> None:
    found = facts(Blobs(), tmp_path, label_smoothing=0.1)["loss"]
    assert found["floor"] == pytest.approx(0.0, abs=1e-6)
    assert found["undecided"] == pytest.approx(torch.tensor(3.0).log().item(), rel=1e-5)
    assert found["swapped"] > 10


@pytest.mark.parametrize(
    ("between", "is_affine"),
    [
        (nn.Identity(), True),
        (nn.BatchNorm1d(3), True),
        (nn.Dropout(0.9), True),
        (nn.ReLU(), False),
        (nn.Tanh(), False),
        (nn.LeakyReLU(0.5), False),
        (nn.LayerNorm(3), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_layers_without_an_activation_are_seen(
    between: nn.Module, is_affine: bool, tmp_path: Path
) -> None:
    class Layers(Blobs):
        def model(self, config: Config) -> nn.Module:
            return nn.Sequential(nn.Linear(4, 3), between, nn.Linear(3, 3))

    found = facts(Layers(), tmp_path)
    assert found["inputs"]["affine"] is is_affine
    assert found["initial"]["dropout"] == (0.9 if isinstance(between, nn.Dropout) else 0.0)


def test_activations_behind_a_head_that_starts_at_zero_are_seen(tmp_path: Path) -> None:
    class Zeroed(Blobs):
        def model(self, config: Config) -> nn.Module:
            model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 3))
            nn.init.zeros_(model[2].weight)
            return model

    assert facts(Zeroed(), tmp_path)["inputs"]["affine"] is False


def test_digits_take_under_three_seconds(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits
    from torch.utils.data import TensorDataset

    from pytest_mltrainer import Splits

    x, y = load_digits(return_X_y=True)
    data = TensorDataset(torch.tensor(x).float() / 16, torch.tensor(y))

    class Digits(Blobs):
        def data(self, config: Config) -> Splits:
            return Splits(train=data, validation=data, test=data)

        def model(self, config: Config) -> nn.Module:
            return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))

    session = watched(Digits(), tmp_path, batch_size=64)
    started = time.process_time()
    probe(session.task, session.config, session)
    assert time.process_time() - started < 3


class Run:
    """As much of a TrainingRun as mode scores read."""

    def __init__(self, model: nn.Module) -> None:
        from pytest_mltrainer.evaluation.metrics import METRICS

        self.task, self.config, self.metric = Blobs(), small_config(), METRICS["accuracy"]
        self.splits = self.task.data(self.config)
        self._model = model

    def checkpoint(self, name: str) -> str:
        return name

    def model(self, checkpoint: str) -> nn.Module:
        return self._model


class Lost(nn.Module):
    """Right in training mode, and constant in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, :3] if self.training else torch.zeros(len(x), 3)


def test_modes_are_scored_on_the_same_rows() -> None:
    rng = RngState.capture().digest()
    found = mode_scores(Run(Lost()))  # type: ignore[arg-type]
    assert found["judged"]
    assert found["rows"] == 48
    assert found["train"] > 0.7
    assert found["eval"] == pytest.approx(1 / 3)
    assert found["last"] == {"train": found["train"], "eval": found["eval"]}
    assert RngState.capture().digest() == rng


def test_modes_are_scored_by_the_tasks_own_metrics() -> None:
    class Own(type(Run(Lost()).task)):  # type: ignore[misc]
        def metrics(self, outputs: Any, targets: Any) -> dict[str, float]:
            return {"accuracy": 0.25}

    run = Run(Lost())
    run.task = Own()
    assert mode_scores(run)["train"] == 0.25  # type: ignore[arg-type]


def test_modes_that_raise_say_why() -> None:
    found = mode_scores(Run(nn.Linear(7, 3)))  # type: ignore[arg-type]
    assert found["judged"] is False
    assert "RuntimeError" in found["reason"]
