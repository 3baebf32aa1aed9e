"""A target that no model reaches: three rounds are tried, and the pipeline says no, and why."""

import shutil
from pathlib import Path

import pytest
from support import run_pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "underfitted"
CHANGED = {
    "target: 0.95": "target: 0.9999",
    "epochs: 20": "epochs: 4",
    "learning_rate: 0.003": "learning_rate: 0.004",
}
ONE_TRIAL_A_ROUND = "optimization:\n  trials: 1\n"


@pytest.mark.slow
def test_three_rounds_end_with_a_clear_no(tmp_path: Path) -> None:
    """Some 100 s: each round trains what was advised, then both sides on three fresh seeds."""
    project = tmp_path / "out_of_reach"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns(".*", "__pycache__"))
    path = project / "training_config.yaml"
    config = path.read_text()
    for present, changed in CHANGED.items():
        assert config.count(present) == 1
        config = config.replace(present, changed)
    path.write_text(config + ONE_TRIAL_A_ROUND)

    done = run_pytest(project, "--phase=finalization", "-p", "no:cacheprovider", timeout_s=900)
    said = done.stdout
    assert "round 3 of 3 was the last" in said
    way = next(line for line in said.splitlines() if line.startswith("path: "))
    assert way.startswith("path: planning > baseline ")
    assert [part.partition(":")[0] for part in way.split(" > ")[3:]] == [
        "round 1",
        "round 2",
        "round 3",
        "finalization",
    ]
    assert "finalization/target_met" in said
    assert "what was tried does not reach the target" in said
    assert done.returncode == 1
    report = (project / ".mltrainer/optimization/optimization_results.md").read_text()
    assert "accepted short of target" in report
    for number in (1, 2, 3):
        assert f"r{number}-01" in report
