"""Without `--phase` the plugin only skips checks of gates: silent, and nothing heavy imported."""

from pathlib import Path

import pytest
from gate_runs import BEATS_TRIVIAL, PASSING_CHECK, Run, everything, write
from support import run_pytest

from pytest_mltrainer.core.steps import STEPS
from pytest_mltrainer.plugin import PHASE_NAMES

HEAVY = ("torch", "numpy", "sklearn", "scipy", "pydantic", "onnx", "matplotlib", "hypothesis")
SHOW_MODULES = f"""
import sys

def test_modules():
    print("LOADED", [name for name in {HEAVY} if name in sys.modules])
    print("OURS", sorted(name for name in sys.modules if name.startswith("pytest_mltrainer")))
"""
QUIET = ("-p", "no:randomly", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")


def test_a_marked_check_is_skipped_with_the_command(tmp_path: Path, run: Run) -> None:
    write(tmp_path, "test_own.py", PASSING_CHECK.format(phase="baseline"))
    result = run(tmp_path, "-rs", f"--rootdir={tmp_path}")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED *: *run with --phase=baseline"])
    assert result.ret == 0


@pytest.mark.parametrize("phase", ["planning", "baseline", "finalization"])
def test_a_file_of_the_users_gates_is_skipped(tmp_path: Path, run: Run, phase: str) -> None:
    write(tmp_path, f"gates/{phase}/deep/test_own.py", "def test_own():\n    assert False\n")
    write(tmp_path, "gates/other/test_plain.py", "def test_plain():\n    pass\n")
    write(tmp_path, "test_top.py", "def test_top():\n    pass\n")
    result = run(tmp_path, "-rs", f"--rootdir={tmp_path}")
    result.assert_outcomes(skipped=1, passed=2)
    result.stdout.fnmatch_lines([f"SKIPPED *run with --phase={phase}"])


def test_a_pasted_id_says_what_to_do(tmp_path: Path, run: Run) -> None:
    result = run(tmp_path, BEATS_TRIVIAL)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        [f"ERROR: {BEATS_TRIVIAL} is a check of a training gate: run it with --phase=baseline"]
    )


@pytest.mark.parametrize("option", ["plan", "frozen", "retrain"])
def test_our_options_want_a_phase(tmp_path: Path, run: Run, option: str) -> None:
    result = run(tmp_path, f"--mltrainer-{option}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --mltrainer-{option} goes with --phase=NAME"])


def test_the_phases_of_the_option_are_those_there_are() -> None:
    assert tuple(STEPS) == PHASE_NAMES


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    write(tmp_path, "test_plain.py", SHOW_MODULES)
    done = run_pytest(tmp_path, "-s", "-W", "error", *QUIET)
    assert "LOADED []" in done.stdout, done.stdout + done.stderr
    assert "OURS ['pytest_mltrainer', 'pytest_mltrainer.plugin']" in done.stdout
    assert done.returncode == 0


def test_nothing_is_printed_or_written_and_collection_is_as_without(tmp_path: Path) -> None:
    write(tmp_path, "pyproject.toml", '[tool.mltrainer]\ntask = "task:ProjectTask"\n')
    write(tmp_path, "test_b.py", "def test_2():\n    pass\n\ndef test_1():\n    pass\n")
    write(tmp_path, "sub/test_a.py", "class TestIt:\n    def test_it(self):\n        pass\n")
    before = everything(tmp_path)
    with_us, bare = (
        run_pytest(tmp_path, "-v", *QUIET, *more)
        for more in (["-p", "no:cov"], ["-p", "no:cov", "-p", "no:mltrainer"])
    )
    assert everything(tmp_path) == before
    assert with_us.stderr == bare.stderr
    assert with_us.returncode == bare.returncode == 0

    def without_times_and_plugins(text: str) -> list[str]:
        return [line.partition(" in 0.")[0] for line in text.splitlines() if "plugins:" not in line]

    assert without_times_and_plugins(with_us.stdout) == without_times_and_plugins(bare.stdout)
