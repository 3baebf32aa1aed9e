"""A waiver: one failed check of one model, answered for by a person, for a while, in the open."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from signers import PEOPLE, Office, judge_signatures
from support import QUIET, run_pytest

from pytest_mltrainer.cli import main
from pytest_mltrainer.core.catalogue import catalogue
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.verdict import SIGNED_CHECKS
from pytest_mltrainer.release.verify import find_run, verify_run
from pytest_mltrainer.release.waivers import WAIVABLE, check_waivable

CHECK = "finalization/confusion_analysed"
WAIVER = "sam@example.org"


@pytest.fixture
def waiver_office(office: Office) -> Office:
    """An office in which one person may waive."""
    office.roles["waiver"] = [WAIVER]
    office.known.append(WAIVER)
    return office.write()


def waive(office: Office, project: Path, *more: str) -> int:
    """The command, as a person gives it."""
    key = str(office.key(WAIVER))
    return main(["waive", "--check", CHECK, "--key", key, "--yes", *more, str(project)])


def test_a_waived_failure_is_shown_and_can_be_approved(
    waiting: Path, waiver_office: Office
) -> None:
    config = waiting / "training_config.yaml"
    config.write_text(f"{config.read_text()}\nlimits: {{min_class_recall: 1.0}}\n")
    command = ("--phase=finalization", "--mltrainer-frozen", "-k", "confusion_analysed", *QUIET)
    assert "1 failed" in run_pytest(waiting, *command).stdout
    assert judge_signatures(waiting, confusion_analysed="fail").outcome == "FAIL"
    assert waive(waiver_office, waiting, "--reason", "rare class") == 0
    done = run_pytest(waiting, *command, "--junitxml=report.xml")
    assert "1 waived" in done.stdout
    said = f"waived: {WAIVER} answers for it until "
    skipped = list(ET.parse(waiting / "report.xml").getroot().iter("skipped"))
    assert any(said in case.get("message", "") for case in skipped)
    assert judge_signatures(waiting, confusion_analysed="waived").outcome == "AWAITING SIGNATURE"
    waiver_office.sign_all(waiting)
    assert judge_signatures(waiting, confusion_analysed="waived").outcome == "PASS"
    found = verify_run(*find_run(waiting))
    assert found.is_ready, found.problems
    assert WAIVER in found.waived[CHECK]


def test_a_waiver_that_nobody_signed_is_none(waiting: Path, waiver_office: Office) -> None:
    waiver_office.sign_all(waiting)
    judge_signatures(waiting, confusion_analysed="waived")
    problems = verify_run(*find_run(waiting)).problems
    assert f"the waiver of {CHECK} is missing: nobody has signed yet" in problems


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--reason", "why not"), "did not fail, so there is nothing to waive"),
        ((), "a waiver needs a --reason"),
    ],
)
def test_what_cannot_be_waived_now(
    more: tuple[str, ...],
    says: str,
    waiting: Path,
    waiver_office: Office,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert waive(waiver_office, waiting, *more) == 2
    assert says in capsys.readouterr().err


def test_who_may_not_waive(
    waiting: Path, office: Office, capsys: pytest.CaptureFixture[str]
) -> None:
    judge_signatures(waiting, confusion_analysed="fail")
    key = str(office.key(PEOPLE["product"]))
    assert (
        main(["waive", "--check", CHECK, "--key", key, "--reason", "x", "--yes", str(waiting)]) == 2
    )
    assert "is not granted the role waiver (granted: nobody)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "check", [*SIGNED_CHECKS, "finalization/chain_of_custody", "planning/two_runs_identical"]
)
def test_integrity_and_approval_are_never_waived(check: str) -> None:
    with pytest.raises(UserError, match="cannot be waived"):
        check_waivable(check, "please")


def test_only_checks_that_there_are_can_be_waived() -> None:
    assert {check.id for check in catalogue("finalization")} > WAIVABLE
