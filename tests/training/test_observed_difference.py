"""Two loops of the user's own, observed and compared: `pytest-mltrainer diff FOLDER FOLDER`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pytest_mltrainer.cli import main
from pytest_mltrainer.core.config import Config, apply_patch
from pytest_mltrainer.training.observation.observe import observe

STEPS = 12
EACH_STEP = apply_patch(Config(), {"training.digest_every": 1})


def nothing(step: int, model: nn.Module) -> None:
    """An undisturbed training."""


def draw_once(step: int, model: nn.Module) -> None:
    if step == 5:
        torch.rand(1)


def last_bit_of_a_gradient(step: int, model: nn.Module) -> None:
    if step == 5:
        gradient = next(model.parameters()).grad
        assert gradient is not None
        # A gradient of 0 has no last bit: the largest is not 0.
        place = gradient.abs().flatten().argmax()
        gradient.view(torch.int32).flatten()[place] ^= 1


def weights_between_steps(step: int, model: nn.Module) -> None:
    if step == 5:
        with torch.no_grad():
            next(model.parameters()).mul_(1.5)


def record(folder: Path, disturb: Callable[[int, nn.Module], None], steps: int = STEPS) -> Path:
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with observe(model, folder=folder, config=EACH_STEP):
        for step in range(steps):
            inputs = torch.randn(16, 4)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), (inputs[:, 0] > 0).long()).backward()
            disturb(step, model)
            optimizer.step()
    return folder


def compared(capsys: pytest.CaptureFixture[str], one: Path, other: Path) -> dict[str, Any]:
    main(["diff", str(one), str(other), "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_same_loop_twice_is_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = (record(tmp_path / name, nothing) for name in "ab")
    assert main(["diff", str(one), str(other)]) == 0
    assert f"{STEPS} steps" in capsys.readouterr().out
    assert compared(capsys, one, other)["environment"] == []


@pytest.mark.parametrize(
    ("disturb", "part", "step"),
    [
        (draw_once, "rng", 5),
        (last_bit_of_a_gradient, "gradients", 5),
        (weights_between_steps, "parameters", 5),
    ],
)
def test_the_first_step_and_part_that_differ_are_named(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    disturb: Callable[[int, nn.Module], None],
    part: str,
    step: int,
) -> None:
    one = record(tmp_path / "a", nothing)
    found = compared(capsys, one, record(tmp_path / "b", disturb))
    assert (found["divergence"]["part"], found["divergence"]["step"]) == (part, step)
    assert "a loop of your own was observed there" in found["why_not_replayed"]


def test_other_threads_are_named_before_the_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = record(tmp_path / "a", nothing)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        other = record(tmp_path / "b", nothing)
    finally:
        torch.set_num_threads(threads)
    (entry,) = compared(capsys, one, other)["environment"]
    assert entry == {"name": "threads", "one": str(threads), "other": str(threads + 1)}


def test_a_folder_used_again_holds_the_later_training_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record(tmp_path / "a", draw_once, steps=STEPS + 3)
    one, other = record(tmp_path / "a", nothing), record(tmp_path / "b", nothing)
    assert main(["diff", str(one), str(other)]) == 0


def test_a_training_that_ended_earlier_differs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = record(tmp_path / "a", nothing)
    found = compared(capsys, one, record(tmp_path / "b", nothing, steps=STEPS - 2))
    assert found["divergence"]["part"] == "length"
