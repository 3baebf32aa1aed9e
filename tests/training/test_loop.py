"""The built-in loop against loops written by hand, setting by setting."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight
from small_trainings import Blobs, rates, recorded, rehearse, small_config, weights
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from pytest_mltrainer import Config, Splits
from pytest_mltrainer.core.errors import ConfigError, UserError
from pytest_mltrainer.training.batches import EpochBatches, balanced_class_weights
from pytest_mltrainer.training.optimizers import make_optimizer
from pytest_mltrainer.training.reproducibility import derive_seed, fix_seeds
from pytest_mltrainer.training.session import TrainingSession

OPTIMIZERS = {
    "sgd": lambda parts: torch.optim.SGD(parts, lr=0.05, momentum=0.9, weight_decay=0.01),
    "adam": lambda parts: torch.optim.Adam(parts, lr=0.05, weight_decay=0.01),
    "adamw": lambda parts: torch.optim.AdamW(parts, lr=0.05, weight_decay=0.01),
}


def batches_by_hand(config: Config, rows: int = 48) -> Iterator[list[int]]:
    order = EpochBatches(
        rows, config.training.batch_size, seed=config.seed, shuffle=config.training.shuffle
    )
    for epoch in range(config.training.epochs):
        yield from order.batches(epoch)


def initial_model(config: Config) -> nn.Module:
    fix_seeds(derive_seed(config.seed, "model"))
    return Blobs().model(config)


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("clip", [None, 0.5])
def test_losses_and_gradient_norms_are_those_of_a_loop_by_hand(
    tmp_path: Path, name: str, clip: float | None
) -> None:
    config = small_config(optimizer=name, momentum=0.9, weight_decay=0.01, clip_norm=clip)
    session = rehearse(Blobs(), config, tmp_path)
    model = initial_model(config)
    optimizer = OPTIMIZERS[name](model.parameters())
    inputs, labels = Blobs().data(config).train.tensors  # type: ignore[attr-defined]
    losses, norms = [], []
    for rows in batches_by_hand(config):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(inputs[rows]), labels[rows])
        loss.backward()
        squares = sum(float((part.grad**2).sum()) for part in model.parameters())
        norms.append(math.sqrt(squares))
        if clip is not None and norms[-1] > clip:
            for part in model.parameters():
                part.grad *= clip / norms[-1]
        optimizer.step()
        losses.append(float(loss.detach()))
    steps = recorded(tmp_path).steps
    assert len(steps) == 18
    np.testing.assert_allclose(steps["loss"], losses, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(steps["gradient_norm"], norms, rtol=1e-5)
    for trained, wanted in zip(session.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(trained, wanted, rtol=1e-5, atol=1e-6)


def test_clipping_really_clips(tmp_path: Path) -> None:
    free = rehearse(Blobs(), small_config(), tmp_path / "free")
    clipped = rehearse(Blobs(), small_config(clip_norm=0.1), tmp_path / "clipped")
    assert weights(free) != weights(clipped)


@pytest.mark.parametrize(("batch_size", "accumulate"), [(4, 2), (2, 4), (4, 5)])
def test_accumulation_equals_a_larger_batch(
    tmp_path: Path, batch_size: int, accumulate: int
) -> None:
    several = small_config(batch_size=batch_size, accumulate=accumulate)
    one = small_config(batch_size=batch_size * accumulate)
    parts = rehearse(Blobs(), several, tmp_path / "parts")
    whole = rehearse(Blobs(), one, tmp_path / "whole")
    found, wanted = recorded(tmp_path / "parts").steps, recorded(tmp_path / "whole").steps
    for column in ("loss", "gradient_norm"):
        np.testing.assert_allclose(found[column], wanted[column], rtol=1e-5)
    for mine, other in zip(parts.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-6)


class Rare(Blobs):
    """Class 2 is rare, class 1 is missing from training."""

    def data(self, config: Config) -> Splits:
        plain = super().data(config)
        inputs, labels = plain.train.tensors  # type: ignore[attr-defined]
        kept = (labels == 0) | ((labels == 2) & (torch.arange(48) < 12))
        return Splits(
            train=TensorDataset(inputs[kept], labels[kept]),
            validation=plain.validation,
            test=plain.test,
        )


@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=40))
def test_class_weights_are_those_of_scikit_learn(labels: list[int]) -> None:
    rows = TensorDataset(torch.zeros(len(labels), 1), torch.tensor(labels))
    there = np.unique(labels)
    wanted = np.zeros(max(labels) + 1)
    wanted[there] = compute_class_weight("balanced", classes=there, y=labels)
    np.testing.assert_allclose(balanced_class_weights(rows).numpy(), wanted, rtol=1e-5)


def test_class_weights_weigh_the_loss(tmp_path: Path) -> None:
    config = small_config(epochs=1, class_weights="balanced")
    rehearse(Rare(), config, tmp_path)
    inputs, labels = Rare().data(config).train.tensors  # type: ignore[attr-defined]
    rows = next(batches_by_hand(config, len(labels)))
    counts = torch.bincount(labels).float()
    weight = torch.where(counts > 0, len(labels) / (2 * counts), 0.0)
    wanted = functional.cross_entropy(initial_model(config)(inputs[rows]), labels[rows], weight)
    assert recorded(tmp_path).steps["loss"][0] == pytest.approx(wanted.item(), rel=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_label_smoothing(tmp_path: Path, smoothing: float) -> None:
    config = small_config(epochs=1, label_smoothing=smoothing)
    rehearse(Blobs(), config, tmp_path)
    inputs, labels = Blobs().data(config).train.tensors  # type: ignore[attr-defined]
    rows = next(batches_by_hand(config))
    outputs = initial_model(config)(inputs[rows])
    wanted = functional.cross_entropy(outputs, labels[rows], label_smoothing=smoothing)
    assert recorded(tmp_path).steps["loss"][0] == pytest.approx(wanted.item(), rel=1e-5)


# -- schedules ------------------------------------------------------------------------------------

UPDATES, EPOCHS, RATE = 6, 4, 0.08


def trained_rates(tmp_path: Path, **training: Any) -> list[float]:
    rehearse(Blobs(), small_config(epochs=EPOCHS, learning_rate=RATE, **training), tmp_path)
    return rates(tmp_path)


def test_no_schedule_keeps_the_rate(tmp_path: Path) -> None:
    assert trained_rates(tmp_path) == [RATE] * UPDATES * EPOCHS


def test_warm_up_is_linear(tmp_path: Path) -> None:
    found = trained_rates(tmp_path, warmup_steps=5)
    wanted = [RATE * min(1.0, (update + 1) / 5) for update in range(UPDATES * EPOCHS)]
    assert found == pytest.approx(wanted)


@pytest.mark.parametrize("scheduler", ["plateau", "onecycle"])
def test_warm_up_is_refused_where_it_would_do_nothing(tmp_path: Path, scheduler: str) -> None:
    with pytest.raises(ConfigError, match=f"warmup_steps: found 5 with scheduler {scheduler}"):
        trained_rates(tmp_path, warmup_steps=5, scheduler=scheduler)


def test_onecycle_is_refused_for_an_optimizer_without_momentum(tmp_path: Path) -> None:
    class Rprop(Blobs):
        def optimizer(self, model: nn.Module, config: Config) -> torch.optim.Optimizer:
            return torch.optim.Rprop(model.parameters())

    config = small_config(optimizer="task", scheduler="onecycle")
    with pytest.raises(ConfigError, match="onecycle does not fit the task's optimizer"):
        rehearse(Rprop(), config, tmp_path)


@pytest.mark.parametrize("warmup", [0, 4])
def test_cosine_falls_to_nothing(tmp_path: Path, warmup: int) -> None:
    total = UPDATES * EPOCHS
    wanted = [
        RATE
        * (min(1.0, (update + 1) / warmup) if warmup else 1.0)
        * 0.5
        * (1 + math.cos(math.pi * update / total))
        for update in range(total)
    ]
    assert trained_rates(tmp_path, scheduler="cosine", warmup_steps=warmup) == pytest.approx(wanted)


def test_steps_fall_by_gamma_every_few_epochs(tmp_path: Path) -> None:
    found = trained_rates(tmp_path, scheduler="step", scheduler_step_epochs=2, scheduler_gamma=0.5)
    assert found == pytest.approx([RATE] * 2 * UPDATES + [RATE / 2] * 2 * UPDATES)


def test_one_cycle_rises_to_the_rate_and_falls_below_its_start(tmp_path: Path) -> None:
    found = trained_rates(tmp_path, scheduler="onecycle", momentum=0.9)
    total = UPDATES * EPOCHS
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=RATE, momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=total)
    wanted = []
    for _ in range(total):
        wanted.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert found == pytest.approx(wanted)
    assert max(found) == pytest.approx(RATE, rel=0.05)
    assert found[-1] < found[0] < RATE


class Scripted(Blobs):
    """Validation accuracy follows a script; training accuracy is always 0."""

    def __init__(self, script: list[float]) -> None:
        self.script = iter(script)

    def metrics(self, outputs: Any, targets: Any) -> dict[str, float]:
        return {"accuracy": next(self.script) if len(targets) == 30 else 0.0}


def test_plateau_falls_behind_epochs_without_gain(tmp_path: Path) -> None:
    config = small_config(
        epochs=6, learning_rate=RATE, scheduler="plateau", scheduler_patience=1, scheduler_gamma=0.5
    )
    rehearse(Scripted([0.5, 0.6, 0.6, 0.6, 0.7, 0.7]), config, tmp_path)
    by_epoch = rates(tmp_path)[::UPDATES]
    # Epochs 2 and 3 bring nothing: one more than the patience of 1, so the rate of epoch 4 falls.
    assert by_epoch == pytest.approx([RATE, RATE, RATE, RATE, RATE / 2, RATE / 2])


def test_plateau_of_a_loss_like_metric_looks_the_other_way(tmp_path: Path) -> None:
    config = small_config(
        epochs=3, learning_rate=RATE, scheduler="plateau", scheduler_patience=0,
        scheduler_gamma=0.5, objective={"direction": "minimize"},
    )  # fmt: skip
    rehearse(Scripted([0.5, 0.4, 0.5]), config, tmp_path)
    assert rates(tmp_path)[::UPDATES] == pytest.approx([RATE, RATE, RATE])
    assert recorded(tmp_path).epochs[-1].learning_rate == pytest.approx(RATE / 2)


# -- early stopping, and which epoch is the best --------------------------------------------------


@pytest.mark.parametrize(
    ("script", "stopping", "epochs", "best"),
    [
        ([0.5, 0.6, 0.7, 0.8, 0.9, 0.95], {"patience": 2}, 6, 5),
        ([0.5, 0.6, 0.6, 0.6, 0.9, 0.9], {"patience": 2}, 4, 1),
        ([0.5, 0.4, 0.6, 0.5, 0.5, 0.9], {"patience": 2}, 5, 2),
        ([0.5, 0.5, 0.5, 0.5, 0.5, 0.5], {"patience": 1}, 2, 0),
        ([0.5, 0.5, 0.5, 0.5, 0.5, 0.5], None, 6, 0),
        ([0.5, 0.625, 0.75, 0.75, 0.75, 0.75], {"patience": 2, "min_delta": 0.125}, 5, 2),
        ([0.5, 0.51, 0.52, 0.9, 0.9, 0.9], {"patience": 2, "min_delta": 0.125}, 3, 2),
        ([math.nan, 0.5, math.nan, 0.6, 0.5, 0.7], {"patience": 2}, 6, 5),
        ([0.5, math.nan, math.nan, 0.6, 0.5, 0.5], {"patience": 2}, 3, 0),
        ([math.inf, 0.5, 0.4, 0.4, 0.4, 0.4], {"patience": 3}, 5, 1),
    ],
    ids=[
        "always better", "tie is no gain", "gain resets", "never better", "none", "exact delta",
        "below delta", "starts with NaN", "NaN is no gain", "infinite is no gain",
    ],
)  # fmt: skip
def test_early_stopping(
    tmp_path: Path, script: list[float], stopping: Any, epochs: int, best: int
) -> None:
    config = small_config(epochs=6, early_stopping=stopping)
    session = rehearse(Scripted(script), config, tmp_path)
    assert len(recorded(tmp_path).epochs) == epochs
    assert session.progress.best_epoch == best
    assert session.progress.stopped_early is (epochs < 6)


@given(script=st.lists(st.sampled_from([0.1, 0.2, 0.3, math.nan]), min_size=5, max_size=5))
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None
)
def test_best_epoch_is_the_first_of_the_largest(
    tmp_path_factory: pytest.TempPathFactory, script: list[float]
) -> None:
    folder = tmp_path_factory.mktemp("training")
    session = rehearse(Scripted(script), small_config(epochs=5, batch_size=24), folder)
    finite = [value for value in script if math.isfinite(value)]
    assert session.progress.best_epoch == (script.index(max(finite)) if finite else -1)
    assert (folder / "checkpoints" / "best.pt").exists() is bool(finite)


class TwoOptimizers(Blobs):
    """The session's optimizer holds the head; another one, stepped behind it, holds the rest."""

    def optimizer(self, model: nn.Module, config: Config) -> torch.optim.Optimizer:
        assert isinstance(model, nn.Sequential)
        return torch.optim.SGD(model[2].parameters(), lr=0.05)

    def train(self, session: TrainingSession) -> None:
        assert isinstance(session.model, nn.Sequential)
        rest = torch.optim.SGD(session.model[0].parameters(), lr=0.05)
        session.register("rest", rest)
        for epoch in session.epochs():
            for inputs, targets in session.batches():
                session.loss(inputs, targets).backward()
                session.update()
                rest.step()
                rest.zero_grad()
            session.finish_epoch(epoch)


def test_gradients_that_another_optimizer_waits_for_are_left_to_it(tmp_path: Path) -> None:
    config = small_config(epochs=1, optimizer="task")
    session = rehearse(TwoOptimizers(), config, tmp_path)
    before, after = initial_model(config).state_dict(), session.model.state_dict()
    for name in before:
        assert not torch.equal(before[name], after[name]), name


# -- what the user may have got wrong -------------------------------------------------------------


@pytest.mark.parametrize("score", [torch.tensor(0.5), np.float64(0.5), np.array([0.5]), 1])
def test_scores_of_any_numeric_type_are_taken(tmp_path: Path, score: Any) -> None:
    rehearse(Scripted([score]), small_config(epochs=1), tmp_path)
    assert recorded(tmp_path).epochs[0].validation["accuracy"] == np.asarray(score).item()


@pytest.mark.parametrize("score", ["0.5", None, [1, 2]])
def test_scores_that_are_no_numbers_are_refused(tmp_path: Path, score: Any) -> None:
    with pytest.raises(UserError, match=r"metrics\(\): found accuracy = .*wanted a number"):
        rehearse(Scripted([score]), small_config(epochs=1), tmp_path)


class WithoutMetric(Blobs):
    def metrics(self, outputs: Any, targets: Any) -> dict[str, float]:
        return {"something": 1.0}


def test_missing_metric_of_the_objective_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="wanted 'accuracy', the objective's metric"):
        rehearse(WithoutMetric(), small_config(epochs=1), tmp_path)


class LossPerSample(Blobs):
    def loss(self, outputs: Any, targets: Any, config: Config) -> torch.Tensor:
        return functional.cross_entropy(outputs, targets, reduction="none")


def test_loss_that_is_no_scalar_says_take_the_mean(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"found shape \(8,\), wanted a scalar: take the mean"):
        rehearse(LossPerSample(), small_config(epochs=1), tmp_path)


def test_frozen_parameters_stay_out_of_the_optimizer() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    optimizer = make_optimizer(model, small_config())
    held = [part for group in optimizer.param_groups for part in group["params"]]
    assert {id(part) for part in held} == {id(part) for part in model[1].parameters()}


def test_model_without_trainable_parameters_is_refused() -> None:
    with pytest.raises(UserError, match="no trainable parameter"):
        make_optimizer(nn.Linear(2, 2).requires_grad_(False), small_config())


def test_optimizer_task_wants_a_task_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"wants a task that defines optimizer\(\)"):
        rehearse(Blobs(), small_config(optimizer="task"), tmp_path)


@given(
    rows=st.integers(1, 60), size=st.integers(1, 20), epoch=st.integers(0, 5),
    shuffle=st.booleans(),
)  # fmt: skip
def test_an_epoch_holds_every_row_once(rows: int, size: int, epoch: int, shuffle: bool) -> None:
    order = EpochBatches(rows, size, seed=1, shuffle=shuffle)
    batches = order.batches(epoch)
    flat = [row for batch in batches for row in batch]
    assert sorted(flat) == list(range(rows))
    assert shuffle or flat == list(range(rows))
    assert len(batches) == len(order)
    assert {len(batch) for batch in batches[:-1]} <= {size}
    assert batches == EpochBatches(rows, size, seed=1, shuffle=shuffle).batches(epoch)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    one, other = (EpochBatches(50, 8, seed=seed, shuffle=True) for seed in (1, 2))
    assert one.batches(0) != one.batches(1)
    assert one.batches(0) != other.batches(0)
