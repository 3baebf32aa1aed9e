"""Waivers: a failed check that a person answers for, signed, for a while, shown wherever it counts.

A waiver turns `fail` into `waived` for one check of one model. What shows that the evidence is
whole, and what people sign, cannot be waived: nothing could be believed any more.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_mltrainer.core.artifacts import RunFolder
from pytest_mltrainer.core.errors import UserError, did_you_mean
from pytest_mltrainer.release.signatures import Signatures, judged_now, waiver_of

if TYPE_CHECKING:
    from pytest_mltrainer.core.config import Config

WAIVABLE = frozenset(
    f"finalization/{name}"
    for name in (
        "target_met",
        "val_test_gap",
        "confusion_analysed",
        "inference_tested",
        "deployment_guide",
        "model_card",
        "monitoring_guide",
        "no_critical_issues",
        "clean_room_serve",
        "not_inferior",
    )
)
"""Checks of quality. All others say whether the evidence can be believed, or who has signed."""


def check_waivable(check: str, reason: str) -> None:
    """Raise UserError unless the check can be waived and somebody says why."""
    if check not in WAIVABLE:
        raise UserError(
            f"{check} cannot be waived: checks of integrity and approval never can.\n"
            f"Waivable are {', '.join(sorted(WAIVABLE))}.{did_you_mean(check, WAIVABLE)}"
        )
    if not reason.strip():
        raise UserError(f"{check}: a waiver needs a --reason")


def why_waived(root: Path, run: RunFolder, check: str, config: "Config") -> str:
    """Who waives the failure of a check of this model, until when and why; empty: nobody does.

    A waiver that does not count is passed over: the check has failed, and that is what is shown.
    """
    try:
        model = judged_now(run, config)
        signatures = Signatures.read(run, root, model)
        if signatures.desk is None:
            return ""
        found = waiver_of(check, model, signatures.statements, signatures.desk)
    except UserError:
        return ""
    if found.outcome != "approved" or found.statement is None:
        return ""
    until = found.statement.ends.date()
    return f"{found.statement.person} answers for it until {until}: {found.statement.reason}"
