"""Signatures and the chain of custody: each passes on a sound run, and finds what it is for."""

import json
import re
from pathlib import Path

import pytest
from planted import Copied, Fault, as_parameters, json_edited
from signers import PEOPLE, Office, ask_for_signatures
from support import judge_check, phase_folder, plant, reseal

from pytest_mltrainer.core.verdict import SIGNED_CHECKS
from pytest_mltrainer.release.policy import VARIABLE
from pytest_mltrainer.release.statement import Role


def office_of(project: Path) -> Office:
    """An office beside the project, whose gate now waits for it."""
    office = Office(folder=project / "office").write()
    ask_for_signatures(project)
    return office


def rejected_by(role: Role, project: Path) -> None:
    office_of(project).sign(project, role, answer="reject", reason="not like this")


def review_rejected(project: Path) -> None:
    rejected_by("review", project)


def reviewed_by_the_author(project: Path) -> None:
    office = office_of(project)
    office.sign(project, "review")
    office.extra = f'authors = ["{PEOPLE["review"]}"]\n'
    office.write()


def technically_rejected(project: Path) -> None:
    rejected_by("technical", project)


def signed_with_the_key_of_another(project: Path) -> None:
    office = office_of(project)
    office.sign(project, "product", key=office.key(PEOPLE["technical"]))


def rejected_for_compliance(project: Path) -> None:
    rejected_by("compliance", project)


def upstream_changed_and_sealed_again(project: Path) -> None:
    def spoil(folder: Path) -> None:
        (folder / "baseline_results.md").write_text("accuracy: 1.0")

    plant(project, spoil, "baseline")


def bit_flipped_upstream(project: Path) -> None:
    path = phase_folder(project, "baseline") / "checkpoints/best.pt"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def planned_again_after_the_training(project: Path) -> None:
    folder = phase_folder(project, "planning")
    with json_edited(folder / "splits.json") as splits:
        splits["splits"]["train"]["digest"] = "0" * 64
    reseal(project, "planning")


def upstream_failed(project: Path) -> None:
    path = phase_folder(project, "baseline") / "verdict.json"
    path.write_text(path.read_text().replace('"PASS"', '"FAIL"'))


def objective_fixed_after_the_opening(project: Path) -> None:
    ledger = project / ".mltrainer/ledger.jsonl"
    entries = [json.loads(line) for line in ledger.read_text().splitlines()]
    planned = [entry for entry in entries if entry["event"] == "planned"]
    others = [entry for entry in entries if entry["event"] != "planned"]
    ledger.write_text("".join(json.dumps(entry) + "\n" for entry in [*others, *planned]))


def opening_struck_out(project: Path) -> None:
    ledger = project / ".mltrainer/ledger.jsonl"
    lines = ledger.read_text().splitlines(keepends=True)
    ledger.write_text("".join(line for line in lines if "test set opened" not in line))


CUSTODY = "finalization/chain_of_custody"
FAULTS = [
    Fault(
        check="finalization/code_reviewed",
        plant=review_rejected,
        says=r"rita@example.org rejected it: not like this",
    ),
    Fault(
        check="finalization/code_reviewed",
        plant=reviewed_by_the_author,
        says=r"rita@example.org wrote the code that trained: somebody else must sign",
    ),
    Fault(
        check="finalization/technical_approval",
        plant=technically_rejected,
        says=r"tom@example.org rejected it: not like this",
    ),
    Fault(
        check="finalization/product_approval",
        plant=signed_with_the_key_of_another,
        says=r"belongs to tom@example.org, not to pia@example.org",
    ),
    Fault(
        check="finalization/compliance_approval",
        plant=rejected_for_compliance,
        says=r"carl@example.org rejected it: not like this",
    ),
    Fault(
        check=CUSTODY,
        plant=upstream_changed_and_sealed_again,
        says=r"baseline/baseline_results.md is not what the verdict of baseline judged",
    ),
    Fault(
        check=CUSTODY,
        plant=bit_flipped_upstream,
        says=r"baseline/checkpoints/best.pt was changed",
    ),
    Fault(
        check=CUSTODY,
        plant=planned_again_after_the_training,
        says=r"was made with another planning/splits.json than is there|splits.json is not what",
    ),
    Fault(check=CUSTODY, plant=upstream_failed, says=r"it was edited after it was written"),
    Fault(
        check=CUSTODY,
        plant=objective_fixed_after_the_opening,
        says=r"the objective is younger than the first opening of the test set",
    ),
    Fault(
        check=CUSTODY,
        plant=opening_struck_out,
        says=r"this model's opening of the test set is not entered",
    ),
]


@pytest.fixture(autouse=True)
def no_policy_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test has a policy of its own, or none."""
    monkeypatch.setenv(VARIABLE, "")


@pytest.mark.parametrize("fault", as_parameters(FAULTS))
def test_finds(fault: Fault, copied: Copied) -> None:
    project = copied("healthy", "finalization")
    fault.plant(project)
    result = judge_check(fault.check, project)
    assert result.outcome == "fail"
    assert re.search(fault.says, result.reason), result.reason


def test_every_role_can_sign(copied: Copied) -> None:
    project = copied("healthy", "finalization")
    office_of(project).sign_all(project)
    for check in SIGNED_CHECKS:
        result = judge_check(check, project)
        assert (result.outcome, result.reason) == ("pass", "")
        assert result.judgements


def test_the_chain_discloses_how_often_somebody_tried(copied: Copied) -> None:
    result = judge_check(CUSTODY, copied("healthy", "finalization"))
    assert result.outcome == "pass"
    assert {"final training started: 1", "test set opened: 2"} <= set(result.notes)
