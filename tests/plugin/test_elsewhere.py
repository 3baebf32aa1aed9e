"""A machine that computes otherwise judges what was trained elsewhere: bits by what was kept."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from gate_runs import Copied, Run, verdict
from support import QUIET, judge_check, phase_folder, run_pytest

from pytest_mltrainer import cli
from pytest_mltrainer.core import files
from pytest_mltrainer.core.project import PHASES
from pytest_mltrainer.training.observation.digests import DIGEST, DIGESTS_FILE

OTHER = {"device": "NVIDIA H200", "threads": "16", "torch": "1.0.0"}
CAPABILITY = torch.backends.cpu.get_cpu_capability()
BITWISE = (
    "baseline/last_checkpoint_resumes",
    "finalization/last_checkpoint_resumes",
    "finalization/reproduction_runs",
)


def trained_by_another_machine(project: Path) -> Path:
    """Let the manifests say that what computed differs from this machine in device and versions."""
    for phase in PHASES:
        path = project / ".mltrainer" / phase / "manifest.json"
        if path.exists():
            manifest = files.read_json(path)
            for step in manifest["steps"].values():
                names = [f"numerics/{name}" for name in OTHER]
                step["inputs"] |= {
                    name: OTHER[name.partition("/")[2]] for name in names if name in step["inputs"]
                }
            files.write_json(path, manifest)
    return project


@pytest.fixture
def elsewhere(copied: Copied, tmp_path: Path) -> Path:
    """The sources of a project, with the packed evidence of a run that another machine made."""
    origin = copied("healthy", "finalization")
    archive = tmp_path / "run.tar"
    assert cli.main(["pack", str(archive), str(origin)]) == 0
    here = tmp_path / "here"
    shutil.copytree(origin, here, ignore=shutil.ignore_patterns(".mltrainer", "__pycache__"))
    assert cli.main(["unpack", str(archive), str(here)]) == 0
    return trained_by_another_machine(here)


def test_a_frozen_gate_honours_and_judges_what_another_machine_trained(
    elsewhere: Path, run: Run
) -> None:
    before = verdict(elsewhere, "finalization")
    result = run(elsewhere, "--phase=finalization", "--mltrainer-frozen")
    result.stdout.fnmatch_lines(
        [
            "mltrainer: planning * honour (verdict * holds, nothing changed; done elsewhere: *"
            "torch 1.0.0 -> *)",
            "mltrainer: finalization judge (artifacts are current, *; done elsewhere: *)",
            "planning * PASS *HONOURED*",
            "baseline * PASS *HONOURED*",
        ]
    )
    after = verdict(elsewhere, "finalization")
    assert after["checks"] == before["checks"]
    assert after["identity"] == before["identity"]
    assert after["witnessed"] == before["witnessed"]


def test_without_frozen_the_other_versions_are_a_reason_to_train_again(
    elsewhere: Path, run: Run
) -> None:
    result = run(elsewhere, "--phase=finalization", "--mltrainer-plan")
    result.stdout.fnmatch_lines(["*baseline * run *torch 1.0.0 -> *"])


@pytest.mark.skipif(CAPABILITY == "DEFAULT", reason="this processor has plain instructions only")
def test_a_processor_of_another_kind_judges_too(
    copied: Copied, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same versions, a processor without the wide instructions that the run trained with."""
    project = copied("healthy")
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "default")
    done = run_pytest(project, "--phase=baseline", "--mltrainer-frozen", *QUIET)
    assert done.returncode == 0, done.stdout
    report = (phase_folder(project, "baseline") / "report.html").read_text()
    assert f"CPU capability {CAPABILITY} -&gt; DEFAULT" in report


@pytest.mark.parametrize("check", BITWISE)
def test_bits_are_compared_from_what_was_repeated_there(elsewhere: Path, check: str) -> None:
    result = judge_check(check, elsewhere)
    assert result.outcome == "pass", result.reason
    (note,) = result.notes
    assert note.startswith("witnessed: ")
    assert "torch 1.0.0 -> " in note
    assert "device NVIDIA H200 -> cpu" in note
    digests = phase_folder(elsewhere, check.partition("/")[0]) / DIGESTS_FILE
    records = np.fromfile(digests, DIGEST)
    records["loss"] ^= 1
    records.tofile(digests)
    result = judge_check(check, elsewhere)
    assert result.outcome == "fail"
    assert "loss" in result.reason


@pytest.mark.parametrize("check", BITWISE)
@pytest.mark.parametrize(
    "spoil",
    [lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\7"), Path.unlink],
    ids=["changed", "deleted"],
)
def test_what_was_repeated_there_is_bound_to_its_verdict(
    elsewhere: Path, check: str, spoil: Callable[[Path], None]
) -> None:
    folder = phase_folder(elsewhere, check.partition("/")[0])
    for path in sorted((folder / "witnessed").iterdir()):
        spoil(path)
    result = judge_check(check, elsewhere)
    assert result.outcome == "cannot judge"
    assert "it is not what the verdict of" in result.reason


@pytest.mark.parametrize("check", BITWISE)
def test_what_no_gate_repeated_there_cannot_be_judged_here(elsewhere: Path, check: str) -> None:
    (phase_folder(elsewhere, check.partition("/")[0]) / "verdict.json").unlink()
    result = judge_check(check, elsewhere)
    assert result.outcome == "cannot judge"
    assert "the gate kept no repetition there: judge it there first" in result.reason


def test_a_gate_without_a_verdict_keeps_no_repetition(copied: Copied, run: Run) -> None:
    """The stored verdict is bound to what was there when it was given."""
    project = copied("healthy")
    kept = phase_folder(project, "baseline") / "witnessed"
    shutil.rmtree(kept)
    result = run(project, "--phase=baseline", "-k", "last_checkpoint_resumes")
    result.stdout.fnmatch_lines(["baseline * INCOMPLETE *"])
    assert not kept.exists()


def test_verify_refuses_a_changed_repetition(
    copied: Copied, capsys: pytest.CaptureFixture[str]
) -> None:
    project = copied("healthy", "finalization")
    kept = phase_folder(project, "finalization") / "witnessed/clone.digests.rec"
    kept.write_bytes(kept.read_bytes()[:-1] + b"\7")
    assert cli.main(["verify", str(project)]) == 1
    assert "finalization/witnessed/clone.digests.rec is not what" in capsys.readouterr().out


def test_a_configured_device_that_is_not_here_hinders_no_judge(elsewhere: Path) -> None:
    config = elsewhere / "training_config.yaml"
    text = config.read_text()
    assert "device: cpu" in text
    config.write_text(text.replace("device: cpu", "device: cuda"))
    result = judge_check("baseline/metrics_recomputed", elsewhere)
    assert result.outcome == "pass", result.reason
