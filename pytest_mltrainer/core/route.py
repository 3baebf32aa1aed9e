"""The way to the target: which phases it leads through, by the decisions that were recorded."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pytest_mltrainer.core.steps import STEPS

Decisions = Mapping[str, Mapping[str, Any] | None]
"""The decision of each phase that has one and is current."""

DECIDING = ("baseline", "diagnostics", "optimization")
"""The phases whose decisions steer the way."""

PREVIEWS = {"optimize": "optimization_preview.yaml", "repair": "overlay.yaml"}
"""The configuration that a diagnosis proposes, where it has a patch, by what it decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Whether the way leads through a phase; `open` until an earlier phase has decided."""

    answer: Literal["yes", "no", "open"]
    reason: str = ""


YES = Need(answer="yes")


def need(phase: str, target: str, decisions: Decisions) -> Need:
    """Whether the way to `target` leads through `phase`: fast 1-2-5, else by the decisions.

    The target was asked for by name; only finalization may have to wait for a diagnosis, and
    optimization needs one whatever the baseline is.
    """
    baseline = decisions.get("baseline")
    if phase == "finalization" and baseline and baseline["next"] == "diagnostics":
        diagnosis = decisions.get("diagnostics")
        if diagnosis is None:
            return Need(answer="open", reason="only if the diagnosis finds a way to it")
        if diagnosis["next"] == "planning":
            return Need(answer="open", reason="only behind a baseline that is repaired")
        return YES
    if phase == target or phase not in ("diagnostics", "optimization"):
        return YES
    if target == "optimization":
        return YES  # Asked for by name, it tries what a diagnosis recommends.
    if baseline and baseline["next"] == "finalization":
        return Need(answer="no", reason=f"the baseline is {text_of(baseline)}")
    if phase not in STEPS:
        return Need(answer="no", reason=f"{phase} is not part of this version of pytest-mltrainer")
    if baseline is None:
        return Need(answer="open", reason="only if the baseline misses its target")
    if phase == "diagnostics":
        return YES
    diagnosis = decisions.get("diagnostics")
    if diagnosis is None:
        return Need(answer="open", reason="only if the diagnosis recommends it")
    if diagnosis["next"] == "optimization":
        return YES
    return Need(answer="no", reason=f"the diagnosis says {text_of(diagnosis)}")


def accepted_patch(decisions: Decisions) -> Mapping[str, Any]:
    """What the final training changes in the configuration: the accepted patch of optimization.

    Empty where the way to finalization does not lead through optimization.
    """
    baseline, diagnosis = decisions.get("baseline"), decisions.get("diagnostics")
    if not (baseline and baseline["next"] == "diagnostics"):
        return {}
    if not (diagnosis and diagnosis["next"] == "optimization"):
        return {}
    patch: Mapping[str, Any] = (decisions.get("optimization") or {}).get("patch") or {}
    return patch


def why_not_final(decisions: Decisions) -> str | None:
    """Why finalization must wait although the gates before it passed; None when it need not.

    A baseline that is good enough needs no diagnosis, so what one says of it holds nothing up.
    """
    baseline, diagnosis = decisions.get("baseline"), decisions.get("diagnostics")
    if baseline is None or baseline["next"] == "finalization":
        return None
    if diagnosis is None:
        return (
            f"the baseline is {baseline['status']} ({baseline['reason']}): "
            f"{baseline['next']} is next"
        )
    if diagnosis["next"] == "finalization":
        return None
    if diagnosis["next"] == "optimization":
        optimization = decisions.get("optimization")
        if optimization is None:
            return "the diagnosis says optimize: pytest --phase=optimization comes first"
        return None if optimization["next"] == "finalization" else text_of(optimization)
    return (
        f"the diagnosis says {diagnosis['status']}: do what diagnostics/diagnostic_report.md says, "
        "then pytest --phase=baseline"
    )


def text_of(decision: Mapping[str, Any]) -> str:
    """`sufficient: accuracy 0.95`: a decision with its reason."""
    return f"{decision['status']}: {decision['reason']}"
