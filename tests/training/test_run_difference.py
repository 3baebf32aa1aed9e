"""`pytest-mltrainer diff`: equal runs, runs that part, and what it says when it cannot replay."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import phase_folder

from pytest_mltrainer.cli import main
from pytest_mltrainer.training.observation.digests import DIGEST, DIGESTS_FILE, read_digests

Copied = Callable[..., Path]


@pytest.fixture
def pair(copied: Copied, tmp_path: Path) -> tuple[Path, Path]:
    """Two copies of a project that was trained."""
    one = copied("healthy")
    other = tmp_path / "other"
    shutil.copytree(one, other)
    return one, other


def alter(project: Path, part: str, step: int) -> None:
    """Change a recorded digest from a step on."""
    path = phase_folder(project, "baseline") / DIGESTS_FILE
    rows = read_digests(path)
    behind = (rows["step"] >= step) & (rows[part] != 0)
    rows[part][behind] = rows[part][behind] ^ np.uint64(1)
    path.write_bytes(rows.tobytes())


def as_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    main(["diff", *arguments, "--json"])
    return json.loads(capsys.readouterr().out)


def test_equal_runs(pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    one, other = pair
    assert main(["diff", str(one), str(other / ".mltrainer")]) == 0
    shown = capsys.readouterr().out
    assert "160 steps" in shown
    assert "equal: generators, batches and losses of every step" in shown
    assert as_json(capsys, str(one), str(other))["equal"] is True


def test_runs_that_part_are_replayed_from_the_checkpoint_before(
    pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The code of both is the same, so the replay agrees, and says so."""
    one, other = pair
    alter(other, "loss", 111)
    assert main(["diff", str(one), str(other)]) == 1
    shown = capsys.readouterr().out
    assert "equal, gradients and parameters too, up to step 100" in shown
    assert "step 111: loss differs (" in shown
    assert "replayed up to step 111 in two fresh processes, which agreed this time" in shown


def test_a_run_folder_without_its_project_is_compared_but_not_replayed(
    pair: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = pair
    alter(other, "gradients", 100)
    bare = tmp_path / "bare"
    shutil.move(other / ".mltrainer", bare)
    found = as_json(capsys, str(one), str(bare))
    assert (found["divergence"]["step"], found["divergence"]["part"]) == (100, "gradients")
    assert found["replay"] is None
    assert "the project's code is not there" in found["why_not_replayed"]


def test_environment_and_inputs_are_told_before_the_steps(
    pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = pair
    path = phase_folder(other, "baseline") / "manifest.json"
    manifest = json.loads(path.read_text())
    inputs = manifest["steps"]["train"]["inputs"]
    inputs["numerics/threads"], inputs["config/training.learning_rate"] = "8", "0.5"
    path.write_text(json.dumps(manifest))
    assert main(["diff", str(one), str(other)]) == 0
    lines = capsys.readouterr().out.splitlines()
    titles = [line for line in lines if line in ("environment", "inputs", "steps")]
    assert titles == ["environment", "inputs", "steps"]
    assert any(line.split() == ["threads", "1", "8"] for line in lines)
    assert any(line.split() == ["config/training.learning_rate", "0.005", "0.5"] for line in lines)


def test_a_run_that_ended_earlier_differs(
    pair: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = pair
    path = phase_folder(other, "baseline") / DIGESTS_FILE
    path.write_bytes(path.read_bytes()[: 140 * DIGEST.itemsize + 3])
    found = as_json(capsys, str(one), str(other))
    assert found["steps"] == [160, 140]
    assert (found["divergence"]["step"], found["divergence"]["part"]) == (140, "length")


def test_a_mistake_exits_4_and_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diff", str(tmp_path / "nowhere"), str(tmp_path)]) == 4
    told = capsys.readouterr().err
    assert "there is no finished baseline" in told
    assert "pytest --phase=baseline" in told
