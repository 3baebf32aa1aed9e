"""The first difference of two runs: named in the order of cause, with the window that hides it."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_trainings import NoisyLayers, small_config
from support import PROJECTS, inside

from pytest_mltrainer import Config
from pytest_mltrainer.core.config import load_config
from pytest_mltrainer.core.work import WorkRequest
from pytest_mltrainer.training.observation.digests import DIGEST
from pytest_mltrainer.training.repetition.divergence import (
    PARTS,
    columns,
    environment_differences,
    first_divergence,
)
from pytest_mltrainer.training.repetition.kept_step import KeptStep, StepKeeper, first_cause
from pytest_mltrainer.training.repetition.rehearsal import rehearse
from pytest_mltrainer.training.repetition.window import explain_rehearsals
from pytest_mltrainer.training.reproducibility import numerics_fingerprint
from pytest_mltrainer.training.session import TrainingSession

STORED_PARTS = PARTS[:5]


def records(count: int, *, every: int = 4) -> Any:
    """Steps whose digests are all different; gradients and parameters of every fourth."""
    made = np.zeros(count, DIGEST)
    made["step"] = np.arange(count)
    for number, part in enumerate(STORED_PARTS):
        made[part] = np.arange(count) * 10 + number + 1
    for part in ("gradients", "parameters"):
        made[part][made["step"] % every != 0] = 0
    return made


@given(planted=st.lists(st.tuples(st.integers(0, 19), st.sampled_from(STORED_PARTS)), min_size=1))
def test_first_step_is_named_and_in_it_the_first_part(planted: list[tuple[int, str]]) -> None:
    one, other = records(20), records(20)
    for step, part in planted:
        other[part][step] = 2**63
    seen = [(step, part) for step, part in planted if one[part][step] != 0]
    found = first_divergence(one, other)
    if not seen:
        assert found is None
        return
    assert found is not None
    assert (found.step, found.part) == min(
        seen, key=lambda entry: (entry[0], PARTS.index(entry[1]))
    )
    full = [step for step in range(0, 20, 4) if step < found.step]
    assert found.equal_until == (full[-1] if full else -1)
    turned = first_divergence(other, one)
    assert turned == replace(found, one=found.other, other=found.one)


def test_equal_runs_have_no_divergence_and_a_shorter_one_does() -> None:
    assert first_divergence(records(20), records(20)) is None
    found = first_divergence(records(20), records(13))
    assert found is not None
    assert (found.step, found.part, found.one, found.other) == (13, "length", "20", "13")


def test_steps_are_compared_by_their_numbers() -> None:
    one = records(20)
    assert first_divergence(one[5:12], one[5:12]) is None
    other = one[5:12].copy()
    other["loss"][3] += 1
    found = first_divergence(one[5:12], other)
    assert found is not None
    assert found.step == 8


def test_a_loss_of_zero_is_a_loss() -> None:
    one, other = records(3), records(3)
    one["loss"][1] = np.array(0.0).view("<u8")
    other["loss"][1] = np.array(0.5).view("<u8")
    found = first_divergence(one, other)
    assert found is not None
    assert found.text() == "step 1: loss differs (0.0 against 0.5)"


def test_steps_of_rehearsals_are_compared_alike() -> None:
    one = [dict.fromkeys(PARTS, f"{step}") for step in range(5)]
    other = [dict(step) for step in one]
    other[3] |= {"parameters": "x", "optimizer": "x"}
    found = first_divergence(columns(one), columns(other))
    assert found is not None
    assert (found.step, found.part, found.equal_until) == (3, "parameters", 2)
    assert first_divergence(columns([]), columns([])) is None


def test_environments_tell_what_changes_bits_first() -> None:
    one = numerics_fingerprint(torch.device("cpu"))
    assert environment_differences(one, dict(one)) == []
    other = {**one, "xyz": "2", "oneDNN": "off", "threads": "7", "abc": "1"}
    names = [entry.name for entry in environment_differences(one, other)]
    assert names == ["threads", "oneDNN", "abc", "xyz"]
    first = environment_differences({"threads": "1"}, {"threads": "2"})[0]
    assert first.text() == "threads 1 against 2"


@pytest.mark.filterwarnings("ignore:TF32 acceleration")
@pytest.mark.parametrize("switch", ["oneDNN", "autocast", "PYTHONHASHSEED", "threads"])
def test_fingerprint_sees_the_switches(switch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "1")
    before = numerics_fingerprint(torch.device("cpu"))
    monkeypatch.setenv("PYTHONHASHSEED", "77" if switch == "PYTHONHASHSEED" else "1")
    if switch == "threads":
        torch.set_num_threads(torch.get_num_threads() % 2 + 1)
    with (
        torch.backends.mkldnn.flags(enabled=switch != "oneDNN"),
        torch.autocast("cpu", enabled=switch == "autocast"),
    ):
        now = numerics_fingerprint(torch.device("cpu"))
    assert [entry.name for entry in environment_differences(before, now)] == [switch]


def kept(folder: Path, step: int = 4, **training: Any) -> KeptStep:
    """A step of a training with batch norm and dropout, loaded from the file it was kept in."""
    config: Config = small_config(optimizer="adam", **training)
    session = TrainingSession.rehearse(config, NoisyLayers(), folder, steps=step + 1)
    keeper = StepKeeper(session, step)
    session.observer.watchers.append(keeper)
    session.run()
    keeper.kept.save(folder / "step.pt")
    return KeptStep.load(folder / "step.pt")


def test_a_step_is_kept_whole_and_alike(tmp_path: Path) -> None:
    one, other = kept(tmp_path / "one"), kept(tmp_path / "two")
    assert first_cause(one, other) is None
    names = list(one.groups["activations"])
    assert names == ["0", "1", "2", "3", "4", "(model)"] == list(one.draws)
    assert next(iter(one.groups["gradients"])) == "4.bias"
    assert {"0.weight", "1.running_mean"} <= set(one.groups["parameters"])
    assert "0.weight.exp_avg" in one.groups["optimizer"]
    assert set(one.groups["batch"]) == {"batch[0]", "batch[1]"}


@pytest.mark.parametrize(
    ("group", "name", "says"),
    [
        ("batch", "batch[0]", "batch of batch[0] first at [0, 0]"),
        ("activations", "3", "loss of output of 3 (Dropout) first at [0, 0]"),
        ("loss", "loss", "loss of loss first at []"),
        ("gradients", "1.weight", "gradients of 1.weight (BatchNorm1d) first at [0]"),
        ("parameters", "1.running_var", "parameters of 1.running_var (BatchNorm1d) first at [0]"),
        ("optimizer", "0.bias.exp_avg", "optimizer of 0.bias.exp_avg (Linear) first at [0]"),
    ],
)
def test_what_differs_in_a_step_is_named(tmp_path: Path, group: str, name: str, says: str) -> None:
    one, other = kept(tmp_path / "one"), kept(tmp_path / "one")
    other.groups[group][name].view(-1)[0] += 1
    # What lies behind it in the order of cause does not hide it.
    other.groups["optimizer"]["4.bias.exp_avg_sq"] += 1
    found = first_cause(one, other)
    assert found is not None
    if group != "optimizer":
        assert found.text().startswith(says)
    else:
        assert found.part == "optimizer"


TASK = '''"""Sound in the first process."""

import sys

import torch
from torch import nn
from torch.utils.data import TensorDataset

from pytest_mltrainer import Splits, Task

SECOND = "second" in sys.argv[-1]


class Layer(nn.ReLU):
    """Draws a number too many in its fourth forward pass."""

    passes = 0

    def forward(self, inputs):
        """The rectified inputs."""
        self.passes += 1
        if DRAWS and SECOND and self.passes == 4:
            torch.rand(1)
        return super().forward(inputs)


class ProjectTask(Task):
    """Flips the last bit of one element of one gradient."""

    def model(self, config):
        """One hidden layer."""
        return nn.Sequential(nn.Linear(4, 6), Layer(), nn.Linear(6, 2))

    def data(self, config):
        """Noise."""
        draw = torch.Generator().manual_seed(0)
        part = TensorDataset(torch.randn(64, 4, generator=draw), torch.arange(64) % 2)
        return Splits(train=part, validation=part, test=part)

    def train(self, session):
        """The built-in loop, with the fault."""
        for epoch in session.epochs():
            for inputs, targets in session.batches():
                session.loss(inputs, targets).backward()
                if FLIPS and SECOND and session.observer.step == 3:
                    gradient = dict(session.model.named_parameters())["2.weight"].grad
                    gradient.view(torch.int32)[1, 5] ^= 1
                session.update()
            session.finish_epoch(epoch)
'''


def rehearsed(folder: Path, *, flips: bool, draws: bool, replay_alike: bool = False) -> Any:
    """What planning writes about two processes, of which the second does something else."""
    project = folder / "project"
    project.mkdir()
    for name in ("pyproject.toml", "training_config.yaml"):
        (project / name).write_bytes((PROJECTS / "healthy" / name).read_bytes())
    task = TASK.replace("DRAWS", str(draws)).replace("FLIPS", str(flips))
    (project / "task.py").write_text(task)
    config = load_config(project / "training_config.yaml")
    requests, found = [], []
    for role in ("first", "second"):
        request = WorkRequest(
            entry="pytest_mltrainer.training.repetition.rehearsal:rehearse",
            phase="planning",
            project_root=str(project),
            attempt=str(folder / f"rehearsal-{role}"),
            config=config.to_json(),
            seed=config.seed,
            threads=config.threads,
            arguments={"role": "second"},
        )
        requests.append(replace(request, attempt=str(folder / "same")) if replay_alike else request)
        found.append(found_by(request, project))
    return explain_rehearsals(requests, found[0], found[1])


def found_by(request: WorkRequest, project: Path) -> Any:
    """What a rehearsal in this process finds."""
    with inside(project), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["worker", request.attempt])
        rehearse(request)
    return json.loads((request.folder / "rehearsal.json").read_text())


def test_a_flipped_last_bit_of_one_gradient_is_found_and_named(tmp_path: Path) -> None:
    found = rehearsed(tmp_path, flips=True, draws=False)
    assert (found["divergence"]["step"], found["divergence"]["part"]) == (3, "gradients")
    cause = found["replay"]["cause"]
    assert (cause["part"], cause["name"], cause["module"]) == ("gradients", "2.weight", "2")
    difference = cause["difference"]
    assert difference["index"] == (1, 5)
    assert (difference["differing"], difference["ulp"]) == (1, 1)
    assert "gradients of 2.weight (Linear) first at [1, 5]" in found["replay"]["text"]
    assert "1 ULP of float32" in found["replay"]["text"]


def test_an_extra_draw_is_named_with_its_generator_and_module(tmp_path: Path) -> None:
    found = rehearsed(tmp_path, flips=False, draws=True)
    assert (found["divergence"]["step"], found["divergence"]["part"]) == (3, "rng")
    cause = found["replay"]["cause"]
    assert (cause["part"], cause["name"]) == ("rng", "torch")
    assert (cause["module"], cause["module_type"]) == ("1", "Layer")


def test_a_difference_that_does_not_come_again_is_said_to(tmp_path: Path) -> None:
    found = rehearsed(tmp_path, flips=True, draws=False, replay_alike=True)
    assert found["divergence"]["step"] == 3
    assert found["replay"]["cause"] is None
    assert "agreed this time" in found["replay"]["text"]


def test_rehearsals_that_agree_explain_nothing(tmp_path: Path) -> None:
    assert rehearsed(tmp_path, flips=False, draws=False) is None
