"""A test file that cannot be collected stops the run before anything is trained or judged."""

import shutil
from pathlib import Path

import pytest
from gate_runs import Copied, Run, everything, write
from support import PROJECTS


@pytest.mark.parametrize("go_on", [[], ["--continue-on-collection-errors"]], ids=["", "continue"])
def test_nothing_is_trained(tmp_path: Path, run: Run, go_on: list[str]) -> None:
    project = shutil.copytree(PROJECTS / "healthy", tmp_path / "fresh")
    write(project, "test_broken.py", "import no_such_module_anywhere\n")
    result = run(project, "--phase=baseline", *go_on)
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*no_such_module_anywhere*", "*Interrupted: 1 error*"])
    assert not everything(project / ".mltrainer").keys() - {"lock"}


def test_verdicts_are_left_alone(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    before = everything(project / ".mltrainer")
    write(project, "gates/planning/test_broken.py", "def test_own(:\n")
    result = run(project, "--phase=planning", "--continue-on-collection-errors")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert everything(project / ".mltrainer") == before
