"""Reproduction, environment, own tests, clean room, rivals: the faults that each must find.

Only the fault's own check is judged: most of these start processes.
"""

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from planted import (
    Copied,
    Fault,
    add_method,
    artifact_edited,
    as_parameters,
    checkpoint_edited,
    edit,
    edit_config,
)
from support import judge_check, phase_folder, reseal

from pytest_mltrainer import cli
from pytest_mltrainer.core.artifacts import RunFolder
from pytest_mltrainer.core.ledger import OPENING, events
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.core.verdict import CheckResult
from pytest_mltrainer.release.registry import Registry
from pytest_mltrainer.training.observation.digests import DIGEST, DIGESTS_FILE

LOCK = "requirements.lock.txt"
CHECKS = (
    "reproduction_runs",
    "environment_snapshot",
    "no_critical_issues",
    "clean_room_serve",
    "not_inferior",
)


def folder(project: Path) -> Path:
    return phase_folder(project, "finalization")


def planning(project: Path) -> Path:
    return phase_folder(project, "planning")


def another_loss_at_step_7(project: Path) -> None:
    path = folder(project) / DIGESTS_FILE
    records = np.fromfile(path, DIGEST)
    records["loss"][7] ^= 1
    records.tofile(path)


def another_source_recorded(project: Path) -> None:
    edit(planning(project) / "sources/task.py", "nn.ReLU()", "nn.Tanh()")


def source_not_recorded(project: Path) -> None:
    (planning(project) / "sources/task.py").unlink()


def another_numpy_locked(project: Path) -> None:
    path = planning(project) / LOCK
    path.write_text(re.sub(r"(?m)^numpy==.*$", "numpy==1.0.0", path.read_text()))


def a_requirement_left_out_of_the_lock(project: Path) -> None:
    path = planning(project) / LOCK
    path.write_text(re.sub(r"(?m)^iniconfig==.*\n", "", path.read_text()))


def a_range_in_the_lock(project: Path) -> None:
    path = planning(project) / LOCK
    path.write_text(path.read_text() + "requests>=2\n")


def another_numpy_deployed(project: Path) -> None:
    path = folder(project) / "final_model" / LOCK
    path.write_text(re.sub(r"(?m)^numpy==.*$", "numpy==1.26.4", path.read_text()))


def a_key_in_a_file(project: Path) -> None:
    key = "AKIA" + "J5XQ2M7RT4ZD8WPV"
    (project / "upload.py").write_text(f'import os\nos.environ["AWS_ACCESS_KEY_ID"] = "{key}"\n')


def an_own_test_that_fails(project: Path) -> None:
    path = project / "own_tests.py"
    path.write_text(f"{path.read_text()}\n\ndef test_sum() -> None:\n    assert 1 + 1 == 3\n")


def no_tests_of_its_own(project: Path) -> None:
    (project / "own_tests.py").write_text("")


def scanner_declared(project: Path) -> None:
    edit_config(project, "release:\n", "release:\n  scanners: [scan.sarif]\n")


def sarif(project: Path, *, results: list[dict[str, object]], runs: int = 1) -> Path:
    scanner_declared(project)
    run = {"tool": {"driver": {"name": "scanner", "rules": []}}, "results": results}
    path = project / "scan.sarif"
    path.write_text(json.dumps({"version": "2.1.0", "runs": [run] * runs}))
    return path


def a_critical_finding_of_a_scanner(project: Path) -> None:
    place = {"artifactLocation": {"uri": "task.py"}, "region": {"startLine": 3}}
    result = {"ruleId": "S301", "level": "error", "locations": [{"physicalLocation": place}]}
    sarif(project, results=[result])


def an_empty_result_of_a_scanner(project: Path) -> None:
    sarif(project, results=[], runs=0)


def a_result_older_than_the_code(project: Path) -> None:
    os.utime(sarif(project, results=[]), (1e9, 1e9))


def golden_answers_of_another_model(project: Path) -> None:
    with artifact_edited(project, "finalization/final_model/golden_requests.json") as golden:
        golden["requests"][2]["outputs"][0][0] += 1.0


def a_service_that_flatters_itself(project: Path) -> None:
    """Healthy, golden requests right, and other answers to everybody else."""
    edit(folder(project) / "final_model/serve.py", "outputs.tolist()}", "(outputs * 2).tolist()}")


def a_version_that_does_not_exist(project: Path) -> None:
    path = folder(project) / "final_model" / LOCK
    path.write_text(re.sub(r"(?m)^flatbuffers==.*$", "flatbuffers==0.0.1", path.read_text()))


def a_lock_that_pins_nothing(project: Path) -> None:
    (folder(project) / "final_model" / LOCK).write_text("numpy\n")


def decide(project: Path, by: float) -> None:
    """Let the final model decide more often for class 1."""
    with checkpoint_edited(folder(project) / "checkpoints/best.pt") as checkpoint:
        checkpoint["model"]["2.bias"][1] += by


def a_model_that_knows_one_class(project: Path) -> None:
    decide(project, 100.0)


def a_model_worse_than_the_baseline(project: Path) -> None:
    decide(project, 7.0)


def a_model_worse_than_the_release(project: Path) -> None:
    Registry(project / "releases").add(RunFolder(Project.load(project).run_folder))
    shutil.rmtree(phase_folder(project, "baseline") / "checkpoints")
    # Another model than the released one.
    with artifact_edited(project, "finalization/final_model/model.json") as manifest:
        manifest["checkpoint"] = "another"
    decide(project, 7.0)


def a_model_worse_in_one_slice(project: Path) -> None:
    """As a whole it stays within a wide margin; one class, a slice here, does not."""
    edit_config(project, "  target: 0.9\n", "  target: 0.9\n  margin: 0.2\n")
    add_method(
        project,
        "    def slice_key(self, split: str, index: int) -> str:\n"
        '        return f"class {self.data_once().test[index][1]}"\n\n'
        "    def data_once(self) -> Splits:\n"
        "        self._once = getattr(self, '_once', None) or self.data(None)\n"
        "        return self._once",
    )
    decide(project, 7.0)


FAULTS = [
    Fault(
        check="finalization/reproduction_runs",
        plant=another_loss_at_step_7,
        says=r"first 20 steps, trained again from 1 stored sources.*step 7: loss differs",
    ),
    Fault(
        check="finalization/reproduction_runs",
        plant=another_source_recorded,
        says=r"the training made again: .*planning has not passed.*task\.py changed",
    ),
    Fault(
        check="finalization/reproduction_runs",
        plant=source_not_recorded,
        says=r"the training made again: .*planning has not passed",
    ),
    Fault(
        check="finalization/environment_snapshot",
        plant=another_numpy_locked,
        says=r"packages that computed.*numpy 1\.0\.0 -> ",
    ),
    Fault(
        check="finalization/environment_snapshot",
        plant=a_requirement_left_out_of_the_lock,
        says=r"\d+ pinned packages.*: pytest \S+ needs iniconfig, which is not pinned",
    ),
    Fault(
        check="finalization/environment_snapshot",
        plant=a_range_in_the_lock,
        says=r"pin no version: \['requests>=2'\]",
    ),
    Fault(
        check="finalization/environment_snapshot",
        plant=another_numpy_deployed,
        says=r"versions in the deployment lock.*numpy 1\.26\.4, tested",
    ),
    Fault(
        check="finalization/no_critical_issues",
        plant=a_key_in_a_file,
        says=r"secrets in \d+ files: upload\.py:2 AWS access key, wanted none",
    ),
    Fault(
        check="finalization/no_critical_issues",
        plant=an_own_test_that_fails,
        says=r"own tests that fail: own_tests::test_sum",
    ),
    Fault(
        check="finalization/no_critical_issues",
        plant=a_critical_finding_of_a_scanner,
        says=r"open in scan\.sarif \(1 examined\): S301 in task\.py:3",
    ),
    Fault(
        check="finalization/no_critical_issues",
        plant=no_tests_of_its_own,
        outcome="cannot judge",
        says=r"no test of the project passed \(no tests ran.*write one",
    ),
    Fault(
        check="finalization/no_critical_issues",
        plant=scanner_declared,
        outcome="cannot judge",
        says=r"scan\.sarif: no result of the scanner",
    ),
    Fault(
        check="finalization/no_critical_issues",
        plant=an_empty_result_of_a_scanner,
        outcome="cannot judge",
        says=r"scan\.sarif: an empty result",
    ),
    Fault(
        check="finalization/no_critical_issues",
        plant=a_result_older_than_the_code,
        outcome="cannot judge",
        says=r"scan\.sarif: stale, the code is newer",
    ),
    Fault(
        check="finalization/clean_room_serve",
        plant=golden_answers_of_another_model,
        says=r"golden requests of the final model in the clean room: .*\"failed\": \[2\]",
    ),
    Fault(
        check="finalization/clean_room_serve",
        plant=a_service_that_flatters_itself,
        says=r"largest difference to the checkpoint on 8 test samples",
    ),
    Fault(
        check="finalization/clean_room_serve",
        plant=a_version_that_does_not_exist,
        says=r"deployment lock, installed: .*flatbuffers==0\.0\.1.*wanted it installs",
    ),
    Fault(
        check="finalization/clean_room_serve",
        plant=a_lock_that_pins_nothing,
        says=r"found 'numpy', wanted name==version on each line",
    ),
    Fault(
        check="finalization/not_inferior",
        plant=a_model_that_knows_one_class,
        says=r"advantage in accuracy over a trivial model: .*above 0 by its lower bound",
    ),
    Fault(
        check="finalization/not_inferior",
        plant=a_model_worse_than_the_baseline,
        says=r"advantage in accuracy over the baseline: -0\.\d+ \(n = 130.*by its upper bound",
    ),
    Fault(
        check="finalization/not_inferior",
        plant=a_model_worse_than_the_release,
        says=r"advantage in accuracy over release 0001: -0\.\d+ \(n = 130",
    ),
    Fault(
        check="finalization/not_inferior",
        plant=a_model_worse_in_one_slice,
        says=r"advantage in accuracy over the baseline in slice class 0: -0\.\d+ \(n = 49",
    ),
]


def judged(fault: Fault, project: Path) -> CheckResult:
    fault.plant(project)
    reseal(project, fault.phase)
    return judge_check(fault.check, project)


@pytest.mark.parametrize("fault", as_parameters(FAULTS))
def test_finds(fault: Fault, copied: Copied) -> None:
    result = judged(fault, copied(fault.project, "finalization"))
    assert result.outcome == fault.outcome, result.reason
    assert re.search(fault.says, result.reason, re.S), result.reason


def test_every_check_here_has_a_fault_that_makes_it_fail() -> None:
    failing = {fault.check.partition("/")[2] for fault in FAULTS if fault.outcome == "fail"}
    assert failing == set(CHECKS)


def test_a_scan_without_findings_passes(copied: Copied) -> None:
    project = copied("healthy", "finalization")
    sarif(project, results=[{"ruleId": "S101", "level": "note"}])
    result = judge_check("finalization/no_critical_issues", project)
    assert result.outcome == "pass", result.reason


def test_rivals_open_the_test_set_and_stand_in_the_ledger_once(copied: Copied) -> None:
    project = copied("healthy", "finalization")
    run = RunFolder(project / ".mltrainer")

    def openings() -> int:
        return sum(entry["event"] == OPENING for entry in events(run))

    assert openings() == 2, "the final model and the baseline's, entered before the documents"
    judge_check("finalization/not_inferior", project)
    assert openings() == 2


def test_the_released_model_itself_is_no_rival(copied: Copied) -> None:
    project = copied("healthy", "finalization")
    Registry(project / "releases").add(RunFolder(project / ".mltrainer"))
    result = judge_check("finalization/not_inferior", project)
    assert result.outcome == "pass", result.reason
    assert "no other release to compare with" in result.notes


def test_small_slices_are_listed_and_not_judged(copied: Copied) -> None:
    project = copied("healthy", "finalization")
    add_method(
        project,
        "    def slice_key(self, split: str, index: int) -> str | None:\n"
        '        return "first ten" if index < 10 else None',
    )
    result = judge_check("finalization/not_inferior", project)
    assert result.outcome == "pass", result.reason
    assert any("slice first ten: not decidable, 10 samples" in note for note in result.notes)


def test_a_rollback_is_tried_and_a_damaged_release_is_found(copied: Copied) -> None:
    project = copied("healthy", "finalization")
    registry = Registry(project / "releases")
    registry.add(RunFolder(project / ".mltrainer"))
    result = judge_check("finalization/clean_room_serve", project)
    assert result.outcome == "pass", result.reason
    assert any("release 0001" in entry["what"] for entry in result.judgements)
    (project / "releases/0001/final_model/model.onnx").write_bytes(b"")
    result = judge_check("finalization/clean_room_serve", project)
    assert result.outcome == "cannot judge"
    assert "model.onnx: it is not what was released" in result.reason


def test_without_index_and_wheels_it_cannot_be_judged(
    copied: Copied, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    project = copied("healthy", "finalization")
    monkeypatch.setenv("MLTRAINER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    result = judge_check("finalization/clean_room_serve", project)
    assert result.outcome == "cannot judge"
    assert "neither an index nor wheels were reached" in result.reason


def test_a_model_that_is_ready_is_released_and_one_changed_byte_is_not(
    copied: Copied, capsys: pytest.CaptureFixture[str]
) -> None:
    project = copied("healthy", "finalization")
    assert cli.main(["release", str(project)]) == 0
    assert "released 0001" in capsys.readouterr().out
    model = folder(project) / "final_model/model.onnx"
    model.write_bytes(model.read_bytes() + b"\0")
    assert cli.main(["release", str(project)]) == 2
    assert "finalization/final_model/model.onnx was changed" in capsys.readouterr().err
    assert len(Registry(project / "releases").releases()) == 1
