"""What planning says about two rehearsals that differ: environment, step, part, module, size."""

import shutil
from pathlib import Path

from planted import Copied, add_method, artifact_edited, edit_task
from support import PROJECTS, QUIET, judge_check, phase_folder, reseal, run_pytest

from pytest_mltrainer.core import files

CHECK = "planning/two_runs_identical"
FLIP = '''    def train(self, session) -> None:
        """The built-in loop; in the second process the last bit of one element is another."""
        for epoch in session.epochs():
            for inputs, targets in session.batches():
                session.loss(inputs, targets).backward()
                if session.observer.step == 7 and "rehearsal-second" in sys.argv[-1]:
                    gradient = dict(session.model.named_parameters())["2.weight"].grad
                    gradient.view(torch.int32)[1, 3] ^= 1
                session.update()
            session.finish_epoch(epoch)'''


def test_a_flipped_bit_is_named_by_the_gate_of_a_real_run(tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(PROJECTS / "healthy", project)
    edit_task(project, "import torch\n", "import sys\n\nimport torch\n")
    add_method(project, FLIP)
    done = run_pytest(project, "--phase=planning", *QUIET)
    assert done.returncode == 1
    assert "step 7: gradients in two processes" in done.stdout
    assert "gradients of 2.weight (Linear) first at [1, 3]" in done.stdout
    assert "1 of 32 elements differ" in done.stdout
    assert "1 ULP of float32" in done.stdout
    found = files.read_json(phase_folder(project, "planning") / "rehearsal/divergence.json")
    assert found["replay"]["cause"]["difference"]["index"] == [1, 3]


def test_differences_of_the_environments_are_told_first(copied: Copied) -> None:
    project = copied("healthy")
    with artifact_edited(project, "planning/rehearsal/second.json") as second:
        second["environment"] |= {"threads": "8", "oneDNN": "off"}
        second["steps"][5]["loss"] = "0x0"
    reseal(project, "planning")
    reason = judge_check(CHECK, project).reason
    assert reason.startswith(
        "threads 1 against 8; oneDNN on against off; step 5: loss in two processes: "
    )


def test_a_replay_of_another_difference_is_not_quoted(copied: Copied) -> None:
    project = copied("healthy")
    other = {"divergence": {"step": 3}, "replay": {"text": "of another"}, "environment": []}
    files.write_json(phase_folder(project, "planning") / "rehearsal/divergence.json", other)
    with artifact_edited(project, "planning/rehearsal/second.json") as second:
        second["steps"][5]["rng"] = "0" * 64
    reseal(project, "planning")
    result = judge_check(CHECK, project)
    assert "of another" not in result.reason
    assert "step 5: rng differs" in result.reason
