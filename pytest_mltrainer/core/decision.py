"""The decisions behind a baseline and its diagnosis: where does the run go next?"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from pytest_mltrainer.core.measurement import Measurement, number

Status = Literal[
    "sufficient", "insufficient", "undecided", "broken", "optimize", "near optimal", "repair"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`next` is the phase that follows, `reason` the comparison that decided."""

    status: Status
    next: str
    reason: str

    def to_json(self) -> dict[str, Any]:
        """The decision as the manifest holds it."""
        return asdict(self)


def decide(
    measured: Measurement | None, *, metric: str, target: float | None, maximize: bool
) -> Decision:
    """Compare the objective's interval with the target; a value on the target meets it.

    `sufficient`: the whole interval meets it. `insufficient`: none of it does. `undecided`: it
    straddles, and the point estimate says where to go. `broken`: nothing finite was measured.
    """
    if measured is None or not measured.is_finite:
        return Decision(status="broken", next="diagnostics", reason=f"no finite {metric}")
    if target is None:
        reason = f"{metric} {measured.text()}; objective.target is not set"
        return Decision(status="sufficient", next="finalization", reason=reason)
    low = measured.value if measured.low is None else measured.low
    high = measured.value if measured.high is None else measured.high
    worst, best = (low, high) if maximize else (high, low)

    def meets(value: float) -> bool:
        return value >= target if maximize else value <= target

    reason = f"{metric} {measured.text()}, target {number(target)}"
    if meets(worst):
        return Decision(status="sufficient", next="finalization", reason=reason)
    following = "finalization" if meets(measured.value) else "diagnostics"
    status: Status = "undecided" if meets(best) else "insufficient"
    return Decision(status=status, next=following, reason=reason)


def decide_diagnosis(*, broken: str, near_optimal: str, issue: str) -> Decision:
    """What a diagnosis leads to; each argument is a reason, empty where it does not hold.

    `repair`: the baseline is broken, so planning starts again with the proposed overlay. `near
    optimal`: nothing is left to gain. `optimize`: the issue is worth an attempt.
    """
    if broken:
        return Decision(status="repair", next="planning", reason=broken)
    if near_optimal:
        return Decision(status="near optimal", next="finalization", reason=near_optimal)
    return Decision(status="optimize", next="optimization", reason=issue)
