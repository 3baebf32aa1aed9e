"""The test that `init` writes: it holds for the templates and for other tasks, and can fail."""

import shutil
import sys
from pathlib import Path

import pytest
from support import PROJECTS, run_pytest

from pytest_mltrainer.cli import main
from pytest_mltrainer.core.config import Release
from pytest_mltrainer.release.own_tests import run_own_tests

TASK = """
import torch
from torch import nn
from torch.utils.data import TensorDataset

from pytest_mltrainer import Splits, Task


def rows(seed):
    inputs = torch.randn(30, 4, generator=torch.Generator().manual_seed(seed))
    return TensorDataset(inputs, torch.arange(30) % 3)


class MyTask(Task):
    def model(self, config):
        return nn.Linear(4, 3)

    def data(self, config):
        return Splits(train=rows(0), validation=rows(1), test=rows(2))
"""
FAULTS = {
    "a sample in two splits": ("test=rows(2)", "test=rows(0)", "test_no_sample_is_in_two_splits"),
    "one answer for a batch": (
        "nn.Linear(4, 3)", "nn.Sequential(nn.Linear(4, 3), nn.Flatten(0), nn.Unflatten(0, (1, 6)))",
        "test_an_untrained_model_answers",
    ),
    "fewer outputs than classes": (
        "nn.Linear(4, 3)", "nn.Linear(4, 1)", "test_an_untrained_model_answers",
    ),
}  # fmt: skip


def started(folder: Path) -> Path:
    """A folder in which somebody has called `init`."""
    assert main(["init", str(folder)]) == 0
    return folder


def test_the_release_finds_tests_that_pass_in_a_fresh_project(tmp_path: Path) -> None:
    own = run_own_tests(started(tmp_path), Release().tests, timeout_s=120)
    assert (own.passed, own.failed) == (2, ())


def test_it_holds_for_a_task_of_another_kind_and_name(tmp_path: Path) -> None:
    shutil.copytree(PROJECTS / "healthy_regression", tmp_path, dirs_exist_ok=True)
    done = run_pytest(started(tmp_path), "-q", "tests")
    assert (done.returncode, "2 passed" in done.stdout) == (0, True), done.stdout


@pytest.mark.parametrize("fault", FAULTS)
def test_it_fails_for_a_fault_in_the_task(
    fault: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two versions of a file within a second are one to the cache of compiled modules.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    folder = started(pytester.path)
    sound, spoiled, failing = FAULTS[fault]
    assert sound in TASK
    (folder / "task.py").write_text(TASK)
    pytester.runpytest("-q").assert_outcomes(passed=2)
    (folder / "task.py").write_text(TASK.replace(sound, spoiled))
    found = pytester.runpytest("-q")
    found.assert_outcomes(passed=1, failed=1)
    found.stdout.fnmatch_lines([f"FAILED *::{failing}*"])


def test_a_test_that_is_there_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_task.py").write_text("mine = 1\n")
    started(tmp_path)
    assert (tmp_path / "tests" / "test_task.py").read_text() == "mine = 1\n"
    assert "test_task.py (it was there)" in capsys.readouterr().out
