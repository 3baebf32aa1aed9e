"""`verify` says from bytes alone whether a run is production-ready, and names what is not."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from signers import PEOPLE, Office, judge_signatures
from support import phase_folder, reseal

from pytest_mltrainer.cli import main
from pytest_mltrainer.core.artifacts import file_names
from pytest_mltrainer.release.policy import VARIABLE
from pytest_mltrainer.release.verify import Verification, find_run, verify_run

Spoil = Callable[[Path], object]


def verified(project: Path) -> Verification:
    """What `verify` finds."""
    return verify_run(*find_run(project))


@pytest.fixture
def released(waiting: Path, office: Office) -> Path:
    """A run that all have signed and whose gate passed."""
    office.sign_all(waiting)
    assert judge_signatures(waiting).outcome == "PASS"
    return waiting


def test_a_signed_run_is_production_ready(
    released: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(released)]) == 0
    shown = capsys.readouterr().out
    assert shown.endswith("production-ready\n")
    assert "technical     approved: tom@example.org" in shown
    assert "test set opened: 2" in shown


def test_before_the_signatures_it_is_not(
    waiting: Path, office: Office, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "--json", str(waiting)]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["production_ready"]
    assert "the gate of finalization is AWAITING SIGNATURE" in found["problems"]
    assert "technical is missing: nobody has signed yet" in found["problems"]
    assert sorted(found["roles"]) == sorted(PEOPLE)
    assert set(found["model"]) >= {"final_model/model.onnx"}


def test_roles_that_need_not_sign_need_no_policy(
    waiting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    config = waiting / "training_config.yaml"
    roles = "".join(f"    {role}: a toy\n" for role in PEOPLE)
    config.write_text(f"{config.read_text()}\napproval:\n  not_applicable:\n{roles}")
    judge_signatures(waiting)
    assert verified(waiting).problems == ()


def test_every_byte_of_every_artifact_counts(released: Path) -> None:
    for phase in ("planning", "baseline", "finalization"):
        folder = phase_folder(released, phase)
        for name in file_names(folder):
            if name in ("judgements.jsonl", "gate.xml", "report.html"):
                continue
            path = folder / name
            data = path.read_bytes()
            if not data:
                continue
            middle = len(data) // 2
            path.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
            problems = verified(released).problems
            path.write_bytes(data)
            assert any(f"{phase}/{name}" in text for text in problems), (phase, name, problems)
    assert verified(released).is_ready


def model_deleted(project: Path) -> None:
    (phase_folder(project, "finalization") / "final_model/model.onnx").unlink()


def file_added(project: Path) -> None:
    (phase_folder(project, "baseline") / "more.txt").write_text("more")


def files_swapped(project: Path) -> None:
    folder = phase_folder(project, "finalization") / "checkpoints"
    (folder / "best.pt").rename(folder / "kept")
    (folder / "last.pt").rename(folder / "best.pt")
    (folder / "kept").rename(folder / "last.pt")


def model_replaced_and_sealed_again(project: Path) -> None:
    (phase_folder(project, "finalization") / "final_model/model.onnx").write_bytes(b"another")
    reseal(project, "finalization")


def model_replaced_and_judged_again(project: Path) -> None:
    model_replaced_and_sealed_again(project)
    # Who can edit the run can have any outcome written; not a signature.
    judge_signatures(
        project,
        technical_approval="pass",
        product_approval="pass",
        compliance_approval="pass",
    )


def outcome_edited(project: Path) -> None:
    path = phase_folder(project, "finalization") / "verdict.json"
    path.write_text(
        path.read_text().replace(
            '"finalization/target_met": "pass"', '"finalization/target_met": "fail"'
        )
    )


def verdict_deleted(project: Path) -> None:
    (phase_folder(project, "baseline") / "verdict.json").unlink()


def phase_deleted(project: Path) -> None:
    phase_folder(project, "planning").rename(project / "elsewhere")


def newer_schema(project: Path) -> None:
    path = phase_folder(project, "finalization") / "verdict.json"
    path.write_text(path.read_text().replace('"schema": 1', '"schema": 99'))


def approval_deleted(project: Path) -> None:
    next((project / ".mltrainer/approvals").glob("*-product-*")).unlink()


def opening_struck_out(project: Path) -> None:
    path = project / ".mltrainer/ledger.jsonl"
    kept = [line for line in path.read_text().splitlines() if "opened" not in line]
    path.write_text("\n".join([*kept, ""]))


def link_to_elsewhere(project: Path) -> None:
    path = phase_folder(project, "finalization") / "final_model/model.onnx"
    path.rename(project / "model.onnx")
    path.symlink_to(project / "model.onnx")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (model_deleted, "finalization/final_model/model.onnx is missing"),
        (file_added, "baseline/more.txt was added"),
        (files_swapped, "finalization/checkpoints/best.pt was changed"),
        (
            model_replaced_and_sealed_again,
            "finalization/final_model/model.onnx is not what the verdict of finalization judged",
        ),
        (
            model_replaced_and_judged_again,
            "technical is stale: 0002-technical-",
        ),
        (outcome_edited, "it was edited after it was written"),
        (verdict_deleted, "baseline has no verdict"),
        (phase_deleted, "planning is not done"),
        (newer_schema, "written by a newer pytest-mltrainer (schema 99, known 1): upgrade"),
        (approval_deleted, "was removed or edited"),
        (opening_struck_out, "this model's opening of the test set is not entered"),
        (link_to_elsewhere, "final_model/model.onnx is a link out of the run folder"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_names_what_is_wrong(spoil: Spoil, says: str, released: Path) -> None:
    spoil(released)
    problems = verified(released).problems
    assert any(says in problem for problem in problems), problems


def test_a_run_folder_alone_is_enough(released: Path, tmp_path: Path) -> None:
    (released / ".mltrainer").rename(tmp_path / "run")
    assert verified(tmp_path / "run").is_ready


def test_what_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(tmp_path / "nothing")]) == 2
    assert "there is no run here" in capsys.readouterr().err


def test_nothing_heavy_is_imported_and_it_is_quick(released: Path) -> None:
    program = (
        "import sys, time, runpy; start = time.process_time()\n"
        "from pytest_mltrainer.cli import main\n"
        f"status = main(['verify', {str(released)!r}])\n"
        "print(time.process_time() - start)\n"
        "print([name for name in ('torch', 'numpy', 'pydantic', 'pytest', 'task')"
        " if name in sys.modules])\n"
        "sys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ,
    )
    *_, seconds, imported = done.stdout.splitlines()
    assert imported == "[]"
    # Processor time, which a busy machine does not stretch much; 0.15 s alone.
    assert float(seconds) < 0.6
