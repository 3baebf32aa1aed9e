"""A worker killed by SIGKILL while the baseline trains: the same command again ends the same."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from support import PROJECTS, QUIET, run_pytest

from pytest_mltrainer.core.artifacts import RunFolder
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.training.checkpoints import Checkpoint
from pytest_mltrainer.training.observation.telemetry import Telemetry
from pytest_mltrainer.training.reproducibility import digest_tensors

SLOW_TRAINING = '''
    def collate(self, samples):
        """Take long enough for each batch to be killed in the middle."""
        import time

        time.sleep(0.015)
        return super().collate(samples)

    def train(self, session):
        """Say which process trains."""
        import os
        from pathlib import Path

        Path(__file__).with_name("worker.pid").write_text(str(os.getpid()))
        session.fit()
'''
COMMAND = ("--phase=baseline", *QUIET)


def baseline(project: Path) -> Path:
    return RunFolder(Project.load(project).run_folder).phase("baseline").path


def weights(project: Path) -> str:
    return digest_tensors(Checkpoint.load(baseline(project) / "checkpoints" / "best.pt").model)


def kill_worker_in_the_middle(project: Path) -> str:
    """Run the command, kill its worker behind a few epochs, and return what the command said."""
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", *COMMAND],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    attempt = project / ".mltrainer" / "attempts" / "baseline"
    epochs = attempt / "artifacts" / "telemetry" / "epochs.jsonl"
    end = time.monotonic() + 60
    while not (epochs.exists() and epochs.read_bytes().count(b"\n") >= 3):
        assert time.monotonic() < end, "the training did not get that far"
        assert run.poll() is None, "the training ended before it was killed"
        time.sleep(0.01)
    os.kill(int((project / "worker.pid").read_text()), signal.SIGKILL)
    output, _ = run.communicate(timeout=60)
    assert run.returncode == 1
    assert not (attempt / "result.json").exists()
    return output


def test_killed_training_goes_on_and_ends_with_the_same_weights(tmp_path: Path) -> None:
    """Some 30 s: four real runs, for only they show that planning, worker and resume fit."""
    killed = tmp_path / "killed"
    shutil.copytree(PROJECTS / "healthy", killed, ignore=shutil.ignore_patterns("__pycache__"))
    with (killed / "task.py").open("a") as task:
        task.write(SLOW_TRAINING)
    assert run_pytest(killed, "--phase=planning", *QUIET).returncode == 0
    uninterrupted = tmp_path / "uninterrupted"
    shutil.copytree(killed, uninterrupted)

    said = kill_worker_in_the_middle(killed)
    assert "killed by SIGKILL" in said
    assert not (baseline(killed) / "manifest.json").exists()
    again = run_pytest(killed, *COMMAND)
    assert again.returncode == 0, again.stdout
    assert "going on behind epoch" in again.stdout
    whole = run_pytest(uninterrupted, *COMMAND)
    assert whole.returncode == 0, whole.stdout

    assert weights(killed) == weights(uninterrupted)
    one, other = (Telemetry.read(baseline(project)).steps for project in (killed, uninterrupted))
    for column in ("step", "epoch", "loss", "gradient_norm", "learning_rate"):
        np.testing.assert_array_equal(one[column], other[column])
    assert not (killed / ".mltrainer" / "attempts" / "baseline").exists()
