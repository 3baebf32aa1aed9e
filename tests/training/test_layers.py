"""Layers on sampled steps: what is recorded is true, changes no number and stays cheap."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_trainings import Blobs, NoisyData, rehearse, small_config, weights
from torch import nn

from pytest_mltrainer.training import session as session_module
from pytest_mltrainer.training.observation import sampling
from pytest_mltrainer.training.observation.activation_facts import dead_units
from pytest_mltrainer.training.observation.activations import zero_units
from pytest_mltrainer.training.observation.layer_records import LAYER, LAYERS_FILE, LayerRecords
from pytest_mltrainer.training.observation.layers import LayerRecorder
from pytest_mltrainer.training.observation.sampling import (
    EARLY_STEPS,
    LARGEST_SHARE,
    LEAST_GAP,
    Governor,
)
from pytest_mltrainer.training.observation.telemetry import Telemetry, TelemetryWriter


def record(model: nn.Module, folder: Path, inputs: torch.Tensor, steps: int = 1) -> Any:
    """Train on one batch to bring the output to 0; returns names and rows."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with LayerRecorder(model, folder) as recorder:
        for step in range(steps):
            optimizer.zero_grad()
            output = model(inputs)
            (output[0] if isinstance(output, tuple) else output).pow(2).mean().backward()
            recorder.before_update(step, optimizer)
            optimizer.step()
            recorder.after_update(step, optimizer)
    records = LayerRecords(folder)
    return records.names(), records.read()


def test_the_numbers_are_those_of_the_layers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 2))
    inputs = 20 * torch.randn(16, 6)
    before = [part.detach().clone() for part in model[0].parameters()]
    between = model[0](inputs).detach()
    names, rows = record(model, tmp_path, inputs)
    assert [(entry.name, entry.type, entry.numel) for entry in names] == [
        ("0", "Linear", 35),
        ("1", "Tanh", 0),
        ("2", "Linear", 12),
    ]
    first, tanh, _ = rows
    gradients = [part.grad for part in model[0].parameters()]
    norm = math.sqrt(sum(float(part.pow(2).sum()) for part in gradients))
    weight = math.sqrt(sum(float(part.pow(2).sum()) for part in before))
    assert first["gradient_norm"] == pytest.approx(norm, rel=1e-5)
    assert first["weight_norm"] == pytest.approx(weight, rel=1e-5)
    assert first["update_ratio"] == pytest.approx(0.1 * norm / weight, rel=1e-4)
    assert first["output_mean"] == pytest.approx(float(between.mean()), rel=1e-4)
    assert first["output_std"] == pytest.approx(float(between.std(correction=0)), rel=1e-4)
    saturated = float((between.abs() > 5).float().mean())
    assert 0.1 < saturated == pytest.approx(float(tanh["saturated_share"]))
    assert np.isnan(tanh["gradient_norm"])
    assert np.isnan(first["zero_share"])


def test_units_are_channels_behind_convolutions_and_features_elsewhere(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 8), nn.ReLU())
    with torch.no_grad():
        model[0].bias[:3] = -100
        model[0].bias[3] = 100
        model[3].bias[:2] = -100
        model[3].bias[2:] = 100
    _, rows = record(model, tmp_path, torch.rand(8, 1, 4, 4))
    assert rows["zero_share"][[1, 3]].tolist() == pytest.approx([0.75, 0.25])
    sequence = torch.zeros(2, 5, 3)
    sequence[1, 2, 0] = 1
    assert zero_units(sequence, channels_first=False).tolist() == [False, True, True]


class Recurrent(nn.Module):
    """Registered in another order than called; one module unused, one called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.unused = nn.Linear(4, 2)
        self.act = nn.ReLU()
        self.gru = nn.GRU(3, 4, batch_first=True)
        self.embed = nn.Embedding(10, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        states, _ = self.gru(self.embed(tokens))
        return self.head(self.act(self.act(states[:, -1])))


def test_layers_stand_in_the_order_of_their_calls(tmp_path: Path) -> None:
    model = Recurrent()
    model.embed.weight.requires_grad_(False)
    names, rows = record(model, tmp_path, torch.randint(0, 10, (4, 6)))
    assert [entry.name for entry in names] == ["embed", "gru", "act", "head", "unused"]
    by_name = {entry.name: row for entry, row in zip(names, rows, strict=True)}
    assert by_name["embed"]["numel"] == 0
    assert np.isnan(by_name["embed"]["gradient_norm"])
    assert np.isfinite(by_name["gru"]["output_std"])
    assert np.isnan(by_name["unused"]["output_std"])


def test_a_parameter_beyond_a_million_is_measured_on_its_first_rows(tmp_path: Path) -> None:
    model = nn.Linear(1000, 1200, bias=False)
    weight = float(model.weight.detach().norm())
    _, rows = record(model, tmp_path, torch.randn(4, 1000))
    assert rows["weight_norm"][0] == pytest.approx(weight, rel=0.01)
    ratio = 0.1 * float(model.weight.grad.norm() / weight)
    assert rows["update_ratio"][0] == pytest.approx(ratio, rel=0.2)


def test_the_first_steps_are_sampled_whatever_the_cost(tmp_path: Path) -> None:
    _, rows = record(nn.Linear(3, 2), tmp_path, torch.randn(4, 3), steps=20)
    assert np.unique(rows["step"]).tolist() == list(EARLY_STEPS)


@pytest.mark.parametrize("cost_s", [1e-5, 1e-3, 0.1])
def test_sampling_stays_under_its_share(cost_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    monkeypatch.setattr(sampling.time, "perf_counter", lambda: clock)
    governor, sampled = Governor(on_cuda=False), []
    for step in range(20_000):
        clock += 5.0 if step % 50 == 0 else 5e-3  # each 50 steps a validation
        if due := governor.is_due(step):
            governor.start_sample()
            with governor.timed():
                clock += cost_s
            sampled.append(step)
        governor.finish_step(step, sampled=due)
    later = sampled[len(EARLY_STEPS) - 1 :]
    assert len(later) >= 3
    gap = int(np.diff(later).min())
    assert gap >= LEAST_GAP
    assert cost_s <= 1.01 * LARGEST_SHARE * gap * 5e-3
    assert np.diff(later).max() <= max(LEAST_GAP, 1.03 * cost_s / (LARGEST_SHARE * 5e-3))


class _NoLayers:
    def __init__(self, *_: object) -> None: ...

    def __enter__(self) -> "_NoLayers":
        return self

    def __exit__(self, *_: object) -> None: ...

    def before_update(self, *_: object) -> None: ...

    def after_update(self, *_: object) -> None: ...


@pytest.mark.parametrize("task", [Blobs, NoisyData])
def test_looking_changes_no_number(
    task: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = rehearse(task(), small_config(), tmp_path / "a")
    monkeypatch.setattr(session_module, "LayerRecorder", _NoLayers)
    alone = rehearse(task(), small_config(), tmp_path / "b")
    assert Telemetry.read(tmp_path / "a").layers.size
    assert not Telemetry.read(tmp_path / "b").layers.size
    assert weights(watched) == weights(alone)
    losses = [Telemetry.read(tmp_path / name).steps["loss"] for name in "ab"]
    assert np.array_equal(*losses)


def test_a_session_records_layers_and_its_memory(tmp_path: Path) -> None:
    rehearse(Blobs(), small_config(), tmp_path)
    telemetry = Telemetry.read(tmp_path)
    assert [entry.type for entry in telemetry.layer_names] == ["Linear", "ReLU", "Linear"]
    assert set(telemetry.layers["layer"]) == {0, 1, 2}
    assert np.isfinite(telemetry.layers["update_ratio"][telemetry.layers["numel"] > 0]).all()
    held = telemetry.epochs[0].memory_mb
    assert math.isnan(held) or held > 50


def test_truncating_forgets_layers_behind_a_checkpoint(tmp_path: Path) -> None:
    rehearse(Blobs(), small_config(), tmp_path)
    TelemetryWriter(tmp_path).truncate(steps=6, epochs=1)
    telemetry = Telemetry.read(tmp_path)
    assert np.unique(telemetry.layers["step"]).tolist() == [0, 1, 2, 4]
    assert telemetry.epochs[0].memory_mb > 0 or math.isnan(telemetry.epochs[0].memory_mb)


def test_a_torn_last_record_is_dropped(tmp_path: Path) -> None:
    _, rows = record(nn.Linear(3, 2), tmp_path, torch.randn(4, 3), steps=3)
    with (tmp_path / LAYERS_FILE).open("ab") as stream:
        stream.write(b"torn")
    read = LayerRecords(tmp_path).read()
    assert read.dtype == LAYER
    assert read.tobytes() == rows.tobytes()


def test_validation_is_not_measured_and_no_hook_stays(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with LayerRecorder(model, tmp_path) as recorder:
        with torch.no_grad():
            model(1e6 * torch.ones(2, 3))
        model(torch.ones(2, 3)).sum().backward()
        recorder.before_update(0, optimizer)
        optimizer.step()
        recorder.after_update(0, optimizer)
    assert np.nanmax(np.abs(LayerRecords(tmp_path).read()["output_mean"])) < 100
    assert not any(module._forward_hooks for module in model.modules())


def test_dead_units_of_a_trained_model() -> None:
    model = nn.Sequential(nn.Linear(4, 10), nn.ReLU(), nn.Linear(10, 2)).eval()
    with torch.no_grad():
        model[0].bias[:7] = -1e3
        model[0].bias[7:] = 1e3
    assert dead_units(model, lambda: model(torch.randn(256, 4))) == pytest.approx({"1": 0.7})
