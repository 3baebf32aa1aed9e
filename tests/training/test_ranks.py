"""Training by two processes: equal on both, equal again, exact behind a kill, judged as one's own.

Real processes are the subject; what needs none is asked of one process that trains alone.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import QUIET, phase_folder, run_pytest
from torch import nn

from pytest_mltrainer.core.artifacts import RunFolder
from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.core.settings import Launch
from pytest_mltrainer.core.verdict import load_verdict
from pytest_mltrainer.core.work import WorkRequest, WorkResult
from pytest_mltrainer.launchers import TorchrunLauncher
from pytest_mltrainer.training.checkpoints import Checkpoint
from pytest_mltrainer.training.observation.telemetry import Telemetry
from pytest_mltrainer.training.ranks import ALONE, AveragedUpdates, Ranks
from pytest_mltrainer.training.reproducibility import digest_tensors

pytestmark = pytest.mark.timeout(300)

JOBS = '''
"""A task with draws of its own in model and data, trained by every process of a request."""

import os
import signal
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from pytest_mltrainer import Splits, Task
from pytest_mltrainer.core.config import Config
from pytest_mltrainer.training.checkpoints import CheckpointFolder
from pytest_mltrainer.training.observation.observer import AfterUpdate
from pytest_mltrainer.training.ranks import Ranks
from pytest_mltrainer.training.session import TrainingSession


class Noisy(Dataset):
    """Points that move a little whenever they are read; 77 rows, 10 batches, the last of 5."""

    def __len__(self):
        return 77

    def __getitem__(self, row):
        label = row % 3
        value = torch.randn(4) + 1.5 * nn.functional.one_hot(torch.tensor(label), 4)
        return value, torch.tensor(label)


class Spoiled(Noisy):
    """One sample is not a number."""

    def __getitem__(self, row):
        value, label = super().__getitem__(row)
        return (value * float("nan"), label) if row == 41 else (value, label)


class NoisyTask(Task):
    rows = Noisy

    def model(self, config):
        return nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3)
        )

    def data(self, config):
        rest = TensorDataset(torch.randn(30, 4), torch.arange(30) % 3)
        return Splits(train=self.rows(), validation=rest, test=rest)


class SpoiledTask(NoisyTask):
    rows = Spoiled


def train(request):
    ranks = Ranks.join(request, torch.device("cpu"))
    task = SpoiledTask() if request.arguments.get("spoiled") else NoisyTask()
    session = TrainingSession.rehearse(
        Config.from_json(request.config), task, request.output, steps=200, ranks=ranks
    )
    if checkpoint := CheckpointFolder.newest(request.output / "checkpoints", ranks):
        session.resume(checkpoint)
    start = session.observer.step

    def die(step, optimizer):
        if request.rank == 1 and step == request.arguments.get("die_at"):
            os.kill(os.getpid(), signal.SIGKILL)

    session.observer.watchers.append(AfterUpdate(die))
    session.run()
    ranks.leave()
    return {"start": start, "fault": session.fault}
'''

TRAINING = {
    "epochs": 4,
    "batch_size": 8,
    "learning_rate": 0.02,
    "clip_norm": 1.0,
    "accumulate": 2,
    "checkpoint_steps": 2,
    "early_stopping": {"patience": 4},
}


def trained_by_two(root: Path, **arguments: object) -> tuple[WorkResult, Path]:
    """Train, or go on, in a folder; how it ended, and where its artifacts are."""
    attempt = root / "attempt"
    attempt.mkdir(parents=True, exist_ok=True)
    (root / "jobs.py").write_text(JOBS)
    config = Config.from_json({"seed": 5, "device": "cpu", "training": TRAINING})
    request = WorkRequest(
        entry="jobs:train",
        phase="baseline",
        project_root=str(root),
        attempt=str(attempt),
        config=config.to_json(),
        seed=5,
        threads=1,
        steps=("train",),
        arguments=arguments,
    )
    request.save()
    (attempt / "result.json").unlink(missing_ok=True)
    launcher = TorchrunLauncher(Launch(kind="torchrun", processes=2))
    return launcher.start(request, timeout_s=120).result(), request.output


def weights(output: Path) -> str:
    return digest_tensors(Checkpoint.load(output / "checkpoints/last.pt").model)


def test_killed_training_goes_on_within_its_epoch_and_ends_with_the_same_bits(
    tmp_path: Path,
) -> None:
    """Dropout and augmentation draw on both processes, whose generators a checkpoint holds."""
    killed, output = trained_by_two(tmp_path / "killed", die_at=8)
    assert killed.status == "crash"
    assert "rank 1 of 2 was killed by SIGKILL" in killed.message
    left = WorkResult.load(output.parent)
    assert left is None or left.status == "crash", "the first one may say that the other is gone"
    again, output = trained_by_two(tmp_path / "killed")
    assert again.status == "done", again.message
    assert again.values["start"] == 7, "two steps into the second epoch of five"

    whole, expected = trained_by_two(tmp_path / "whole")
    assert (whole.status, whole.values["start"]) == ("done", 0)
    digests = json.loads((expected / "ranks.json").read_text())["parameters"]
    assert len(digests) == 2
    assert digests[0] == digests[1]
    assert (output / "ranks.json").read_bytes() == (expected / "ranks.json").read_bytes()
    assert weights(output) == weights(expected)
    one, other = Telemetry.read(output), Telemetry.read(expected)
    for column in ("step", "epoch", "loss", "gradient_norm", "learning_rate"):
        np.testing.assert_array_equal(one.steps[column], other.steps[column])
    assert [(e.train, e.validation) for e in one.epochs] == [
        (e.train, e.validation) for e in other.epochs
    ]


def test_a_value_that_is_not_finite_on_one_ends_both_and_is_placed(tmp_path: Path) -> None:
    result, output = trained_by_two(tmp_path, spoiled=True)
    assert result.status == "done", result.message
    fault = result.values["fault"]
    assert (fault["what"], fault["inputs_finite"]) == ("loss", False)
    assert 41 in fault["batch_ids"]
    digests = json.loads((output / "ranks.json").read_text())["parameters"]
    assert digests[0] == digests[1]


def test_the_gate_judges_two_processes_as_it_judges_one(copied: Callable[..., Path]) -> None:
    project = copied("healthy")
    alone = load_verdict(RunFolder(Project.load(project).run_folder).phase("baseline"))
    with (project / "training_config.yaml").open("a") as config:
        config.write("launch:\n  kind: torchrun\n  processes: 2\n")
    done = run_pytest(project, "--phase=baseline", *QUIET)
    assert done.returncode == 0, done.stdout
    assert "planning     honour" in done.stdout
    assert "launch.processes: 1 -> 2" in done.stdout
    together = load_verdict(RunFolder(Project.load(project).run_folder).phase("baseline"))
    assert alone is not None
    assert together is not None
    assert together.checks == alone.checks
    folder = phase_folder(project, "baseline")
    digests = json.loads((folder / "ranks.json").read_text())["parameters"]
    assert len(digests) == 2
    assert digests[0] == digests[1]
    assert not (project / ".mltrainer/attempts/baseline").exists()


@given(indices=st.lists(st.integers(), min_size=1, max_size=40), size=st.integers(1, 9))
def test_shares_are_equally_large_and_together_the_whole_batch(
    indices: list[int], size: int
) -> None:
    shares = [Ranks(rank, size).share(indices) for rank in range(size)]
    assert len({len(share) for share in shares}) == 1
    assert len(shares[0]) == -(-len(indices) // size)
    dealt = [share[place] for place in range(len(shares[0])) for share in shares]
    assert dealt[: len(indices)] == indices
    assert set(dealt) == set(indices)


def test_alone_nothing_changes(tmp_path: Path) -> None:
    model = nn.Linear(2, 1)
    model(torch.ones(1, 2)).sum().backward()
    gradient = model.weight.grad
    ALONE.average_gradients(model)
    assert model.weight.grad is gradient
    value: dict[str, Any] = {"x": 1}
    assert ALONE.broadcast(value) is value
    assert ALONE.gather(value) == [value]
    assert ALONE.share([3, 1, 2]) == [3, 1, 2]
    assert ALONE.seed(7) == 7
    ALONE.write_digests(model, tmp_path)
    ALONE.leave()
    assert list(tmp_path.iterdir()) == []
    assert Ranks(1, 2).seed(7) not in (7, Ranks(2, 3).seed(7))


def test_an_update_whose_gradients_were_not_averaged_is_refused() -> None:
    watcher, optimizer = AveragedUpdates(), torch.optim.SGD([nn.Parameter(torch.ones(1))])
    watcher.is_averaged = True
    watcher.before_update(0, optimizer)
    watcher.after_update(0, optimizer)
    with pytest.raises(UserError, match=r"call session\.update\(\) instead"):
        watcher.before_update(1, optimizer)
