"""A run that turns non-finite names step, batch, module and direction."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_trainings import Blobs, blobs, recorded, rehearse, small_config
from torch import nn
from torch.utils.data import TensorDataset

from pytest_mltrainer import Config, Splits

POISONED = 20
"""The training row that carries a mark in its last column."""


class Marked(Blobs):
    """One row of the training data is marked, so that a module can turn bad at its batch."""

    mark = 1000.0

    def data(self, config: Config) -> Splits:
        inputs, labels = blobs(48, 0).tensors
        inputs = inputs.clone()
        inputs[:, 3] = 0.0
        inputs[POISONED, 3] = self.mark
        plain = super().data(config)
        train = TensorDataset(inputs, labels)
        return Splits(train=train, validation=plain.validation, test=plain.test)


class BadForward(nn.Module):
    """Its output is NaN where it sees the mark."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return torch.where(values.abs() > 500, torch.nan, values)


class BadBackward(nn.Module):
    """Its output is finite everywhere; the slope of the root at 0 is not."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        marked = (values.abs() > 500).any()
        return values + torch.sqrt(values * 0) if marked else values * 1


def first_then(*behind: nn.Module) -> nn.Module:
    first = nn.Linear(4, 4, bias=False)
    with torch.no_grad():
        first.weight.copy_(torch.eye(4))
    return nn.Sequential(first, *behind, nn.Linear(4, 3))


class ForwardFault(Marked):
    def model(self, config: Config) -> nn.Module:
        return first_then(BadForward())


class BackwardFault(Marked):
    def model(self, config: Config) -> nn.Module:
        return first_then(nn.Identity(), BadBackward())


class InPlaceFault(Marked):
    def model(self, config: Config) -> nn.Module:
        return first_then(nn.ReLU(inplace=True), BadBackward(), nn.ReLU(inplace=True))


class AddedInPlace(nn.Module):
    """Changes in place what another module gave it."""

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        values += 1
        return values


class OwnInPlaceFault(Marked):
    def model(self, config: Config) -> nn.Module:
        return first_then(AddedInPlace(), BadBackward())


class LossFault(Marked):
    def model(self, config: Config) -> nn.Module:
        return first_then()

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor, config: Config) -> torch.Tensor:
        plain = super().loss(outputs, targets, config)
        return torch.log(plain - plain - 1) if (outputs.abs() > 50).any() else plain


class InputFault(Marked):
    mark = float("nan")

    def model(self, config: Config) -> nn.Module:
        return first_then(nn.ReLU())


def fault_of(task: Blobs, folder: Path) -> dict[str, Any]:
    session = rehearse(task, small_config(learning_rate=1e-4), folder)
    assert session.fault is not None
    assert json.dumps(session.fault, allow_nan=False)
    first = next(
        number for number, batch in enumerate(session.loader.order.batches(0)) if POISONED in batch
    )
    assert session.fault["step"] == first
    assert session.fault["epoch"] == 0
    assert POISONED in session.fault["batch_ids"]
    assert len(recorded(folder).steps) == first
    assert all(bool(torch.isfinite(part).all()) for part in session.model.parameters())
    return session.fault


@pytest.mark.parametrize(
    ("task", "what", "module", "kind", "direction"),
    [
        (ForwardFault, "loss", "1", "BadForward", "forward"),
        (BackwardFault, "gradient", "2", "BadBackward", "backward"),
        (InPlaceFault, "gradient", "2", "BadBackward", "backward"),
        (OwnInPlaceFault, "gradient", "0", "Linear", "backward"),
        (LossFault, "loss", "(loss)", "LossFault.loss", "forward"),
    ],
)
def test_fault_is_located(
    tmp_path: Path, task: type[Blobs], what: str, module: str, kind: str, direction: str
) -> None:
    fault = fault_of(task(), tmp_path)
    assert fault["what"] == what
    assert (fault["module"], fault["module_type"], fault["direction"]) == (module, kind, direction)
    assert fault["inputs_finite"]
    assert fault["targets_finite"]
    assert fault["max_abs_input"] == 1000.0


def test_bad_inputs_are_no_module_s_fault(tmp_path: Path) -> None:
    fault = fault_of(InputFault(), tmp_path)
    assert not fault["inputs_finite"]
    assert (fault["module"], fault["direction"]) == ("", "")


def test_last_finite_values_are_those_of_the_step_before(tmp_path: Path) -> None:
    fault = fault_of(ForwardFault(), tmp_path)
    steps = recorded(tmp_path).steps
    if len(steps):
        assert fault["last_finite"]["loss"] == float(steps["loss"][-1])
        assert fault["last_finite"]["gradient_norm"] == float(steps["gradient_norm"][-1])
    else:
        assert fault["last_finite"] == {}


def test_sound_run_has_no_fault(tmp_path: Path) -> None:
    assert rehearse(Blobs(), small_config(), tmp_path).fault is None
