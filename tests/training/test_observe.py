"""`observe` around loops as people write them: what it records, and that it changes nothing."""

import gc
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import pytest_mltrainer
from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.training.observation.observe import ObservedRun, observe
from pytest_mltrainer.training.observation.observer import NonFiniteTraining
from pytest_mltrainer.training.reproducibility import RngState, digest_tensors

Step = Callable[[nn.Module, torch.Tensor, torch.Tensor], torch.Tensor]


def points(rows: int, seed: int) -> TensorDataset:
    draw = torch.Generator().manual_seed(seed)
    inputs = torch.randn(rows, 4, generator=draw)
    noise = 0.3 * torch.randn(rows, generator=draw)
    return TensorDataset(inputs, (inputs[:, 0] + noise > 0).long())


TRAIN, VALIDATION = points(96, 0), points(64, 1)


def network() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 2)
    )


def loss_of(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(model(inputs), targets)


def train(
    model: nn.Module,
    run: ObservedRun | None = None,
    *,
    epochs: int = 2,
    spoil: Callable[[int, torch.Tensor], torch.Tensor] = lambda step, loss: loss,
) -> None:
    """A loop as in a notebook: shuffled batches, a schedule, an evaluation of its own."""
    torch.manual_seed(2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    step = 0
    for _ in range(epochs):
        model.train()
        for inputs, targets in DataLoader(TRAIN, batch_size=16, shuffle=True):
            optimizer.zero_grad()
            spoil(step, loss_of(model, inputs, targets)).backward()
            optimizer.step()
            step += 1
        schedule.step()
        if run is not None:
            run.epoch()


def state(model: nn.Module) -> tuple[str, str]:
    return digest_tensors(model.state_dict()), RngState.capture().digest()


def gan(model: nn.Module) -> None:
    generator, critic = model.children()
    optimizers = [torch.optim.Adam(part.parameters(), lr=0.01) for part in (generator, critic)]
    real = TRAIN.tensors[0]
    for _ in range(4):
        optimizers[1].zero_grad()
        fake = generator(torch.randn(32, 2))
        (critic(fake.detach()).mean() - critic(real[:32]).mean()).backward()
        optimizers[1].step()
        optimizers[0].zero_grad()
        (-critic(generator(torch.randn(32, 2))).mean()).backward()
        optimizers[0].step()


def lbfgs(model: nn.Module) -> None:
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of(model, *TRAIN.tensors)
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)


def accumulate(model: nn.Module) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step, (inputs, targets) in enumerate(DataLoader(TRAIN, batch_size=8), start=1):
        (loss_of(model, inputs, targets) / 3).backward()
        if step % 3 == 0:
            optimizer.step()
            optimizer.zero_grad()


def scaled(model: nn.Module, *, fused: bool = False) -> None:
    """Mixed precision whose scale overflows at first, so that updates are skipped."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127, backoff_factor=2.0**-110)
    for inputs, targets in DataLoader(TRAIN, batch_size=16):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = 4 * loss_of(model, inputs, targets)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()


def embedding() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Embedding(10, 4, sparse=True), nn.Flatten(), nn.Linear(12, 2))


def sparse(model: nn.Module) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        tokens = torch.randint(0, 10, (8, 3))
        loss_of(model, tokens, tokens[:, 0] % 2).backward()
        optimizer.step()


def pair() -> nn.Module:
    torch.manual_seed(1)
    return nn.ModuleList([nn.Sequential(nn.Linear(2, 4)), nn.Sequential(nn.Linear(4, 1))])


LOOPS: dict[str, tuple[Callable[[], nn.Module], Callable[[Any], None], int]] = {
    "one optimizer": (network, train, 12),
    "two optimizers": (pair, gan, 8),
    "closure": (network, lbfgs, 3),
    "accumulation": (network, accumulate, 4),
    "scaled loss": (network, scaled, 5),
    "scaled loss, fused step": (network, partial(scaled, fused=True), 6),
    "sparse gradients": (embedding, sparse, 3),
}


@pytest.mark.parametrize(("make", "loop", "updates"), LOOPS.values(), ids=LOOPS)
def test_trained_numbers_are_those_of_the_loop_alone(
    make: Callable[[], nn.Module], loop: Callable[[Any], None], updates: int
) -> None:
    alone = make()
    torch.manual_seed(5)
    loop(alone)
    wanted = state(alone)
    watched = make()
    torch.manual_seed(5)
    with observe(watched) as run:
        loop(watched)
    assert state(watched) == wanted
    assert run.fault is None
    steps = run.telemetry.steps
    assert len(steps) == updates
    assert np.isfinite(steps["loss"]).all()
    assert np.isfinite(steps["gradient_norm"]).all()


def test_scoring_given_data_changes_nothing_either() -> None:
    alone, watched = network(), network()
    watched[1].eval()
    modes: list[bool] = []
    train(alone)
    wanted = state(alone)
    with observe(watched, train=TRAIN, validation=DataLoader(VALIDATION, 8, shuffle=True)) as run:
        watched[4].register_forward_hook(lambda *_: modes.append(watched[4].training))
        train(watched, run)
    assert state(watched) == wanted
    assert watched.training
    assert False in modes
    assert [record.epoch for record in run.telemetry.epochs] == [0, 1]


def test_epochs_hold_what_was_measured_here_and_what_was_passed() -> None:
    model = network()
    with observe(model, validation=VALIDATION) as run:
        train(model, epochs=1)
        first = run.epoch(train={"loss": 0.5, "accuracy": 0.75})
        second = run.epoch(validation={"loss": 1.0})
    model.eval()
    with torch.no_grad():
        outputs = model(VALIDATION.tensors[0])
    hits = (outputs.argmax(1) == VALIDATION.tensors[1]).float().mean().item()
    assert first.validation["accuracy"] == pytest.approx(hits)
    assert first.validation["loss"] == pytest.approx(
        nn.functional.cross_entropy(outputs, VALIDATION.tensors[1]).item(), rel=1e-5
    )
    assert first.train == {"loss": 0.5, "accuracy": 0.75}
    assert (first.steps, second.steps) == (6, 6)
    assert second.validation == {"loss": 1.0}
    assert list(run.telemetry.epochs) == [first, second]


def test_training_loss_of_an_epoch_is_the_mean_of_its_steps() -> None:
    model = network()
    with observe(model) as run:
        train(model, run)
    steps = run.telemetry.steps
    for record in run.telemetry.epochs:
        own = steps["loss"][steps["epoch"] == record.epoch]
        assert record.train["loss"] == pytest.approx(own.mean())
        assert record.learning_rate == pytest.approx(0.02 * 0.5**record.epoch)


def test_given_data_are_scored_at_the_end_when_no_epoch_was_named() -> None:
    model = network()
    with observe(model, validation=VALIDATION) as run:
        train(model)
    assert len(run.telemetry.epochs) == 1
    assert 0.5 < run.telemetry.epochs[0].validation["accuracy"] <= 1


@pytest.mark.parametrize("fused", [False, True])
def test_scaled_losses_are_recorded_as_they_were(fused: bool) -> None:
    model = network()
    with observe(model) as run:
        scaled(model, fused=fused)
    assert (run.telemetry.steps["loss"] < 8).all()
    assert (run.telemetry.steps["gradient_norm"] < 100).all()


class Broken(nn.Module):
    """Takes a root whose argument, in one batch, is not positive."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.last = nn.Linear(4, 2)
        self.power = 0.5
        self.shift = 10.0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.last(self.root(self.first(inputs)))
        return outputs

    def root(self, hidden: torch.Tensor) -> torch.Tensor:
        return (hidden * (0 if self.shift == 0 else 1) + self.shift) ** self.power


@pytest.mark.parametrize(
    ("shift", "what", "module", "direction"),
    [
        (-100.0, "loss", "(model)", "forward"),
        (0.0, "gradient", "first", "backward"),
    ],
)
def test_a_fault_names_the_module(shift: float, what: str, module: str, direction: str) -> None:
    torch.manual_seed(1)
    model = Broken()

    def spoil(step: int, loss: torch.Tensor) -> torch.Tensor:
        model.shift = shift if step >= 2 else 10.0
        return loss

    with observe(model) as run:
        train(model, spoil=spoil)
    assert run.fault is not None
    found = {name: run.fault[name] for name in ("what", "step", "module", "direction")}
    assert found == {"what": what, "step": 3, "module": module, "direction": direction}
    assert len(run.telemetry.steps) == 12


def test_a_fault_is_recorded_and_the_training_goes_on_as_without() -> None:
    def spoil(step: int, loss: torch.Tensor) -> torch.Tensor:
        return loss * math.nan if step == 3 else loss

    alone, watched = network(), network()
    train(alone, spoil=spoil)
    wanted = state(alone)
    with observe(watched) as run:
        train(watched, spoil=spoil)
    assert state(watched) == wanted
    assert run.fault is not None
    assert (run.fault["what"], run.fault["step"], run.fault["module"]) == ("loss", 3, "(loss)")
    evidence = run.evidence()
    assert evidence.fault is not None
    assert math.isfinite(evidence.fault["last_finite"]["loss"])
    assert evidence.fault["learning_rate"] == pytest.approx(0.02)


def test_stop_raises_before_the_weights_are_spoiled() -> None:
    model = network()
    with pytest.raises(NonFiniteTraining), observe(model, stop=True) as run:
        train(model, spoil=lambda step, loss: loss * math.nan if step == 3 else loss)
    assert run.fault is not None
    assert all(bool(torch.isfinite(part).all()) for part in model.parameters())
    assert len(run.telemetry.steps) == 3


def test_an_exception_of_the_loop_detaches_and_keeps_what_was_recorded(tmp_path: Path) -> None:
    def spoil(step: int, loss: torch.Tensor) -> torch.Tensor:
        if step == 4:
            raise RuntimeError("out of luck")
        return loss

    model, before = network(), torch.autograd.backward
    with (
        pytest.raises(RuntimeError, match="out of luck"),
        observe(model, folder=tmp_path, validation=VALIDATION) as run,
    ):
        train(model, spoil=spoil)
    assert torch.autograd.backward is before
    assert not model._forward_pre_hooks
    assert not any(module._forward_hooks for module in model.modules())
    assert len(run.telemetry.steps) == 4
    train(model)
    assert len(run.telemetry.steps) == 4
    assert "nan_loss" in pytest_mltrainer.diagnose(run).silent


def test_observing_twice_at_once_is_refused() -> None:
    model = network()
    with observe(model), pytest.raises(UserError, match="ModuleList"), observe(network()):
        pass
    with observe(model) as run:
        train(model)
    assert len(run.telemetry.steps) == 12


def test_a_folder_that_was_used_before_starts_anew(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for epochs in (2, 1):
        model = network()
        with observe(model, folder=tmp_path) as run:
            train(model, run, epochs=epochs)
    assert len(run.telemetry.steps) == 6
    assert len(run.telemetry.epochs) == 1
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_without_a_folder_nothing_stays_behind() -> None:
    model = network()
    with observe(model) as run:
        train(model)
    folder = run.folder
    assert folder.is_dir()
    del run
    gc.collect()
    assert not folder.exists()


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_a_compiled_model_is_observed(backend: str) -> None:
    model = network()
    try:
        compiled = torch.compile(model, backend=backend, fullgraph=True)
        compiled(TRAIN.tensors[0])
    except Exception as error:
        pytest.skip(f"cannot compile here: {error}")
    compiled = torch.compile(network(), backend=backend, fullgraph=True)
    assert isinstance(compiled, nn.Module)
    with observe(compiled) as run:
        train(compiled, spoil=lambda step, loss: loss * math.nan if step == 5 else loss)
    assert len(run.telemetry.steps) == 12
    assert run.fault is not None
    assert (run.fault["step"], run.fault["module"]) == (5, "(loss)")


def test_layers_are_recorded_by_name() -> None:
    model = network()
    with observe(model) as run:
        train(model)
    evidence = run.evidence()
    assert evidence.layers is not None
    assert set(evidence.layer_names) >= {"0", "1", "2", "4"}
    assert (evidence.layers["layer"] < len(evidence.layer_names)).all()


def test_losses_that_nobody_saw_are_no_evidence() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with observe(model) as run:
        for _ in range(3):
            loss = loss_of(model, *TRAIN.tensors)
            gradients = torch.autograd.grad(loss, list(model.parameters()))
            for part, gradient in zip(model.parameters(), gradients, strict=True):
                part.grad = gradient
            optimizer.step()
    assert len(run.telemetry.steps) == 3
    assert run.fault is None
    assert "nan_loss" not in {found.id for found in pytest_mltrainer.diagnose(run).diagnoses}


def test_given_data_make_profile_and_references() -> None:
    model = network()
    with observe(model, train=DataLoader(TRAIN, 16), validation=VALIDATION) as run:
        train(model, run)
    evidence = run.evidence()
    assert evidence.profile is not None
    assert set(evidence.profile["splits"]) == {"train", "validation"}
    assert list(evidence.profile["overlap"]) == ["train/validation"]
    assert evidence.references["trivial"] < 0.7 < evidence.references["linear_validation"]


def test_training_data_alone_are_profiled_without_made_up_splits() -> None:
    model = network()
    with observe(model, train=TRAIN) as run:
        train(model)
    profile = run.evidence().profile
    assert profile is not None
    assert set(profile["splits"]) == {"train"}
    assert profile["overlap"] == {}
    assert all(set(counts) == {"train"} for counts in profile["targets"]["classes"].values())


class Named(Dataset[Any]):
    """Samples whose inputs are no array, but a mapping."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, row: int) -> Any:
        return {"a": torch.ones(2) * row, "b": torch.zeros(2)}, row % 2


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.layer(torch.cat([a, b], 1))
        return outputs


def test_predict_and_loss_of_ones_own() -> None:
    model = TwoInputs()
    with observe(
        model,
        train=Named(),
        validation=Named(),
        predict=lambda model, inputs: model(**inputs),
        loss=lambda outputs, targets: outputs.sum() * 0 + 7,
    ) as run:
        record = run.epoch()
    assert record.validation["loss"] == 7
    assert set(run.evidence().references) == {"trivial"}


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter([])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: observe(nn.ReLU()), "has no parameters"),
        (lambda: observe(network(), train=Endless()), "map|__len__"),
        (lambda: observe(network(), metric="bleu"), "maximize=True or False"),
        (lambda: observe(network()).epoch(), "outside of"),
    ],
)
def test_what_cannot_be_observed_is_refused(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        make()


def test_a_metric_of_ones_own_and_the_configuration_reach_the_evidence() -> None:
    model = network()
    config = Config.from_json({"training": {"learning_rate": 0.5}, "model": {"width": 8}})
    assert config.model["width"] == 8
    with observe(
        model, kind="custom", metric="bleu", maximize=True, target=0.4, config=config
    ) as run:
        run.epoch(train={"bleu": 0.1}, validation={"bleu": 0.2})
    evidence = run.evidence()
    assert (evidence.metric, evidence.maximize, evidence.target) == ("bleu", True, 0.4)
    assert evidence.config["training"]["learning_rate"] == 0.5
    assert evidence.config_reads == ("model.width",)
