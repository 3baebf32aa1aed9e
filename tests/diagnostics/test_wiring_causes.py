"""Losses that hear half of the targets, densities that are no scores, limits of frozen parts."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional
from wiring_tasks import Made, evidence_of, findings, labels, mlp, table

from pytest_mltrainer.core.evidence import EpochRecord, Evidence


def hinge(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return (1 - targets * outputs).clamp_min(0).mean()


def hinge_of_signs(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return hinge(outputs, 2 * targets - 1)


class Densities(nn.Module):
    """The logarithm of a normal density for each of four classes, behind a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(8, 8)
        self.centres = nn.Parameter(torch.randn(4, 8))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        apart = self.layer(x)[:, None] - self.centres
        return -0.5 * apart.square().sum(2) - 4 * math.log(2 * math.pi)


class Mixed(nn.Module):
    """A gate that mixes experts which stand in a plain list and stay as they are."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = [mlp(), mlp(), mlp()]
        self.gate = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answers = torch.stack([expert(x) for expert in self.experts], dim=1)
        return (self.gate(x).softmax(1)[:, :, None] * answers).sum(1)


def own_density(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return -outputs.gather(1, targets[:, None]).mean()


def mismatch(make: Callable[[], Made]) -> str:
    """What loss_mismatch says before training; a blank when it is silent."""
    found, _ = findings(evidence_of(make()))
    return found["loss_mismatch"].summary if "loss_mismatch" in found else ""


def test_a_hinge_hears_nothing_of_zeros() -> None:
    assert "target is 0" in mismatch(
        lambda: Made(lambda: mlp(outputs=5), labels, "multilabel", hinge)
    )
    signs = Made(lambda: mlp(outputs=5), labels, "multilabel", hinge_of_signs)
    assert mismatch(lambda: signs) == ""


@pytest.mark.parametrize("end", [nn.Tanh(), nn.Sigmoid(), nn.Softplus(), nn.LayerNorm(4)])
def test_what_is_no_density_is_a_mismatch_before_training(end: nn.Module) -> None:
    made = Made(lambda: nn.Sequential(mlp(), end), table, loss=functional.nll_loss)
    assert "log-probabilities" in mismatch(lambda: made)


def test_limits_of_frozen_experts_are_no_activation() -> None:
    assert mismatch(lambda: Made(Mixed, table)) == ""


def trained(evidence: Evidence, score: float, losses: list[float]) -> Evidence:
    epochs = tuple(
        EpochRecord(
            epoch=i, steps=8, train={"loss": loss, "accuracy": score},
            validation={"loss": loss, "accuracy": score}, learning_rate=0.1, duration_s=1.0,
        )
        for i, loss in enumerate(losses)
    )  # fmt: skip
    references = {"trivial": 0.25, "linear_validation": 0.9, "attainable": 0.9}
    return replace(evidence, epochs=epochs, references=references)


def test_densities_are_judged_by_what_a_training_came_to() -> None:
    evidence = evidence_of(Made(Densities, table, loss=own_density))
    losses = [12.0, 9.0, 8.4, 8.2, 8.1]
    assert "loss_mismatch" not in findings(evidence)[0]
    assert "loss_mismatch" not in findings(trained(evidence, 0.92, losses))[0]
    assert "loss_mismatch" in findings(trained(evidence, 0.4, losses))[0]


class Masked(nn.Module):
    """A missing value counts as the mean, 0."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(torch.where(x.isnan(), 0.0, x))


def test_a_model_that_masks_is_known_before_training() -> None:
    def masks(make: Callable[[], nn.Module]) -> tuple[bool, bool]:
        facts = (evidence_of(Made(make, table)).probes or {})["masking"]
        assert facts["judged"]
        return facts["nan"], facts["infinite"]

    assert masks(Masked) == (True, False)
    # A bounded activation answers infinity by a number, and its gradient is lost all the same.
    assert masks(lambda: nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 4))) == (
        False,
        False,
    )
