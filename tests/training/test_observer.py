"""The observer sees any loop: losses and norms by hand, closures, several optimizers, detaching."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from pytest_mltrainer.training.observation.observer import NonFiniteTraining, Observer, StepsDone
from pytest_mltrainer.training.observation.telemetry import BLOCK_STEPS

X = torch.randn(32, 3, generator=torch.Generator().manual_seed(0))
Y = X @ torch.tensor([[1.0], [-2.0], [0.5]])


class Rows:
    """Takes the records of an observer."""

    def __init__(self) -> None:
        self.blocks: list[np.ndarray[Any, Any]] = []

    def __call__(self, rows: "np.ndarray[Any, Any]") -> None:
        self.blocks.append(rows)

    def __getitem__(self, column: str) -> list[float]:
        return [float(value) for block in self.blocks for value in block[column]]


def linear() -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(3, 1)


def loss_of(model: nn.Module) -> torch.Tensor:
    return nn.functional.mse_loss(model(X), Y)


def norm_of(model: nn.Module) -> float:
    return math.sqrt(sum(float((part.grad**2).sum()) for part in model.parameters()))


def attached() -> bool:
    hooks = len(_global_optimizer_pre_hooks) + len(_global_optimizer_post_hooks)
    return hooks > 0 or torch.autograd.backward.__qualname__ != BACKWARD


BACKWARD = torch.autograd.backward.__qualname__


def test_loss_norm_and_rate_are_those_computed_by_hand() -> None:
    model, rows = linear(), Rows()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses, norms = [], []
    with Observer(model, rows):
        for step in range(5):
            optimizer.param_groups[0]["lr"] = 0.1 / (step + 1)
            optimizer.zero_grad()
            loss = loss_of(model)
            loss.backward()
            losses.append(loss.item())
            norms.append(norm_of(model))
            optimizer.step()
    assert rows["step"] == [0, 1, 2, 3, 4]
    assert rows["loss"] == pytest.approx(losses)
    assert rows["gradient_norm"] == pytest.approx(norms, rel=1e-6)
    assert rows["learning_rate"] == pytest.approx([0.1 / (step + 1) for step in range(5)])
    assert all(duration > 0 for duration in rows["step_s"])


def test_parts_of_an_accumulated_loss_are_summed() -> None:
    model, rows = linear(), Rows()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Observer(model, rows):
        whole = loss_of(model).item()
        for inputs, targets in zip(X.split(16), Y.split(16), strict=True):
            (nn.functional.mse_loss(model(inputs), targets) / 2).backward()
        optimizer.step()
    assert rows["loss"] == pytest.approx([whole])


def test_two_optimizers_of_one_model_are_two_updates() -> None:
    model = nn.ModuleDict({"one": linear(), "other": linear()})
    rows = Rows()
    optimizers = [torch.optim.SGD(model[name].parameters(), lr=0.1) for name in ("one", "other")]
    wanted = []
    with Observer(model, rows):
        for _ in range(3):
            for name, optimizer in zip(("one", "other"), optimizers, strict=True):
                optimizer.zero_grad()
                loss = loss_of(model[name])
                loss.backward()
                wanted.append((loss.item(), norm_of(model[name])))
                optimizer.step()
    assert rows["step"] == list(range(6))
    assert rows["loss"] == pytest.approx([loss for loss, _ in wanted])
    assert rows["gradient_norm"] == pytest.approx([norm for _, norm in wanted], rel=1e-6)


def test_optimizers_of_other_models_are_not_recorded() -> None:
    model, stranger, rows = linear(), linear(), Rows()
    optimizer = torch.optim.SGD(stranger.parameters(), lr=0.1)
    with Observer(model, rows):
        loss_of(stranger).backward()
        optimizer.step()
    assert rows.blocks == []


def test_closures_are_recorded_at_their_first_evaluation() -> None:
    model, rows = linear(), Rows()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=4)
    wanted: list[tuple[float, float]] = []
    evaluations = 0

    def closure() -> torch.Tensor:
        nonlocal evaluations
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        if evaluations == 0:
            wanted.append((loss.item(), norm_of(model)))
        evaluations += 1
        return loss

    with Observer(model, rows):
        for _ in range(3):
            evaluations = 0
            optimizer.step(closure)
            assert evaluations > 1
    assert rows["step"] == [0, 1, 2]
    assert rows["loss"] == pytest.approx([loss for loss, _ in wanted])
    assert rows["gradient_norm"] == pytest.approx([norm for _, norm in wanted], rel=1e-6)
    assert loss_of(model).item() < wanted[0][0] / 10


def test_closure_that_turns_non_finite_is_found_before_the_weights_are_spoiled() -> None:
    model = linear()
    optimizer = torch.optim.LBFGS(model.parameters())

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(model) * math.nan
        loss.backward()
        return loss

    with pytest.raises(NonFiniteTraining, match="loss"), Observer(model, Rows()):
        optimizer.step(closure)
    assert all(bool(torch.isfinite(part).all()) for part in model.parameters())


def test_clipped_norm_is_reused() -> None:
    model, rows = linear(), Rows()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Observer(model, rows) as observer:
        loss_of(model).backward()
        before = norm_of(model)
        observer.clipped(nn.utils.clip_grad_norm_(model.parameters(), before / 10))
        optimizer.step()
    assert rows["gradient_norm"] == pytest.approx([before], rel=1e-6)


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (lambda model, loss: loss * math.nan, "loss"),
        (lambda model, loss: loss + math.inf, "loss"),
        (lambda model, loss: loss + torch.sqrt(model.bias.sum() * 0), "gradient"),
    ],
)
def test_non_finite_update_is_stopped_before_it_spoils_the_weights(spoil: Any, what: str) -> None:
    model, rows = linear(), Rows()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def train() -> None:
        for step in range(5):
            optimizer.zero_grad()
            loss = loss_of(model)
            (spoil(model, loss) if step == 3 else loss).backward()
            optimizer.step()

    with pytest.raises(NonFiniteTraining) as raised, Observer(model, rows):
        train()
    assert (raised.value.what, raised.value.step) == (what, 3)
    assert rows["step"] == [0, 1, 2]
    assert all(bool(torch.isfinite(part).all()) for part in model.parameters())


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, None])
def test_observer_detaches_and_writes_whatever_happens(error: type[BaseException] | None) -> None:
    model, rows = linear(), Rows()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def train() -> None:
        with Observer(model, rows):
            assert attached()
            loss_of(model).backward()
            optimizer.step()
            if error is not None:
                raise error

    if error is None:
        train()
    else:
        with pytest.raises(error):
            train()
    assert not attached()
    assert rows["step"] == [0]
    loss_of(model).backward()
    optimizer.step()
    assert rows["step"] == [0]


def test_long_runs_are_written_in_blocks() -> None:
    model, rows = linear(), Rows()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    with Observer(model, rows, first_step=10):
        for _ in range(BLOCK_STEPS + 5):
            optimizer.zero_grad()
            loss_of(model).backward()
            optimizer.step()
    assert [len(block) for block in rows.blocks] == [BLOCK_STEPS, 5]
    assert rows["step"] == list(range(10, BLOCK_STEPS + 15))


@pytest.mark.parametrize("with_closure", [False, True])
def test_steps_end_at_their_limit(with_closure: bool) -> None:
    model, rows = linear(), Rows()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        return loss

    def train() -> None:
        while True:
            if with_closure:
                optimizer.step(closure)
            else:
                closure()
                optimizer.step()

    observer = Observer(model, rows)
    observer.limit_steps = 2
    with pytest.raises(StepsDone), observer:
        train()
    assert rows["step"] == [0, 1]
