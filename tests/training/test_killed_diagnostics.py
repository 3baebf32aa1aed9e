"""A worker killed by SIGKILL between the trainings of a diagnosis: none of them is done twice."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support import QUIET, phase_folder, run_pytest

COMMAND = ("--phase=diagnostics", *QUIET)


def kill_worker_behind_its_first_training(project: Path) -> Path:
    """Run the command, kill its worker, and return the predictions that it left."""
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", *COMMAND], cwd=project, stdout=subprocess.DEVNULL
    )
    attempt = project / ".mltrainer" / "attempts" / "diagnostics"
    end = time.monotonic() + 120
    while not (found := list(attempt.glob("artifacts/predictions/*validation.npz"))):
        assert time.monotonic() < end, "no training ended"
        assert run.poll() is None, "the diagnosis ended before it was killed"
        time.sleep(0.01)
    worker = subprocess.run(["pgrep", "-P", str(run.pid)], capture_output=True, text=True).stdout
    os.kill(int(worker.split()[-1]), signal.SIGKILL)
    assert run.wait(timeout=60) == 1
    return found[0]


@pytest.mark.slow
def test_killed_diagnosis_goes_on_behind_its_last_training(copied: Callable[..., Path]) -> None:
    """Some 30 s: two runs of the diagnosis, for only they show that the attempt is taken up."""
    project = copied("underfit")
    left = kill_worker_behind_its_first_training(project)
    before = left.stat().st_mtime_ns
    done = run_pytest(project, *COMMAND)
    assert "of the rows: trained before" in done.stdout
    kept = phase_folder(project, "diagnostics") / "predictions" / left.name
    assert kept.stat().st_mtime_ns == before
    assert done.returncode == 0
