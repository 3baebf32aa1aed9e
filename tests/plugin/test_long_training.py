"""A stale training that took over ten minutes is redone only when that was asked for."""

import json
from pathlib import Path

import pytest
from gate_runs import Copied, Run, trained_bytes


def stale_after(project: Path, minutes: float) -> None:
    """Let the baseline's training have taken so long, and spoil its best checkpoint."""
    folder = project / ".mltrainer" / "baseline"
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["steps"]["train"]["duration_s"] = minutes * 60
    path.write_text(json.dumps(manifest))
    with (folder / "checkpoints" / "best.pt").open("ab") as stream:
        stream.write(b"x")


def test_it_stops_and_asks(copied: Copied, run: Run) -> None:
    project = copied("healthy")
    stale_after(project, minutes=20)
    before = trained_bytes(project, "baseline")
    result = run(project, "--phase=baseline")
    result.stdout.fnmatch_lines(
        [
            "baseline would be trained again, which took 20 minutes: "
            "artifact baseline/checkpoints/best.pt was changed. Add --mltrainer-retrain*",
            "planning * PASS *HONOURED*",
            "baseline * FAIL *",
        ]
    )
    assert result.ret == 1
    assert trained_bytes(project, "baseline") == before


@pytest.mark.parametrize(
    ("minutes", "args"), [(9.9, []), (20, ["--mltrainer-retrain"])], ids=["short", "asked for"]
)
def test_it_trains(copied: Copied, run: Run, minutes: float, args: list[str]) -> None:
    """Slow, some 10 s, for a real training in a worker."""
    project = copied("healthy")
    whole = trained_bytes(project, "baseline")["checkpoints/best.pt"]
    stale_after(project, minutes=minutes)
    result = run(project, "--phase=baseline", "-k", "beats_trivial", *args)
    result.stdout.fnmatch_lines(["*baseline epoch 8/8*", "baseline * INCOMPLETE *1 passed*"])
    assert trained_bytes(project, "baseline")["checkpoints/best.pt"] == whole


def test_steps_after_the_training_are_redone_without_asking(copied: Copied, run: Run) -> None:
    """Slow, some 10 s, for a real worker."""
    project = copied("healthy")
    stale_after(project, minutes=20)
    best = project / ".mltrainer" / "baseline" / "checkpoints" / "best.pt"
    best.write_bytes(best.read_bytes()[:-1])
    (project / ".mltrainer" / "baseline" / "baseline_results.md").unlink()
    result = run(project, "--phase=baseline", "-k", "results_reported")
    result.stdout.fnmatch_lines(["baseline * INCOMPLETE *1 passed*"])
    result.stdout.no_fnmatch_line("*baseline epoch*")
