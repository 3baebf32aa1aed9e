"""Which phases a run leads through: fast, through diagnostics, or not on; what is said of it."""

from collections.abc import Callable

from gate_runs import BASELINE_FAILS, Copied, Run, collected, configure, ids_of
from support import TrainedProject

Trained = Callable[..., TrainedProject]


def test_a_good_baseline_goes_past_diagnostics(copied: Copied, run: Run) -> None:
    result = run(copied("healthy"), "--phase=finalization", "--co", "-q")
    ids = collected(result)
    assert "pytest_mltrainer/phases/diagnostics.py::run" not in ids
    assert set(ids_of("finalization")) <= set(ids)


def test_a_short_baseline_goes_through_diagnostics(copied: Copied, run: Run) -> None:
    result = run(copied("underfit"), "--phase=finalization", "--co", "-q")
    assert set(ids_of("diagnostics")) <= set(collected(result))


def test_a_diagnosed_baseline_goes_through_optimization(copied: Copied, run: Run) -> None:
    project = copied("underfit", "diagnostics")
    result = run(project, "--phase=finalization", "--co", "-q")
    assert set(ids_of("optimization")) <= set(collected(result))


def test_a_diagnosed_baseline_points_to_its_optimization(trained: Trained) -> None:
    said = trained("underfit", "diagnostics").stdout
    assert "path: planning > baseline " in said
    assert "> diagnosed underfitting" in said
    assert "next: pytest --phase=optimization, which tries" in said


def test_a_near_optimal_baseline_is_left_to_finalization(trained: Trained) -> None:
    assert "next: pytest --phase=finalization" in trained("healthy", "diagnostics").stdout


def test_a_failed_baseline_points_to_its_diagnosis(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    configure(project, BASELINE_FAILS)
    result = run(project, "--phase=baseline")
    result.stdout.fnmatch_lines(
        [
            "baseline * FAIL *1 failed*",
            "next: mend what failed in baseline, then pytest --phase=baseline;"
            " pytest --phase=diagnostics explains the run",
        ]
    )


def test_a_short_baseline_points_to_its_diagnosis(trained: Trained) -> None:
    assert "next: pytest --phase=diagnostics, which explains" in trained("underfit").stdout


def test_diagnostics_do_not_start_behind_a_baseline_that_was_not_done(
    copied: Copied, run: Run
) -> None:
    project = copied("healthy")
    task = project / "task.py"
    task.write_text(task.read_text().replace('config.model["width"]', 'config.model["no"]'))
    result = run(project, "--phase=diagnostics", "--mltrainer-frozen")
    result.stdout.fnmatch_lines(["diagnostics  BLOCKED *the gate of *"])
    assert result.ret == 1
    assert not (project / ".mltrainer" / "diagnostics").exists()
