"""The decisions behind a baseline, its diagnosis and a round: where does the run go next?"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pytest_mltrainer.core.measurement import Measurement, number

Status = Literal[
    "sufficient", "insufficient", "undecided", "broken", "optimize", "near optimal", "repair"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`next` is the phase that follows, `reason` the comparison that decided.

    `value` is the objective's metric where one was measured, rounded as it is shown, and `target`
    what it was compared with.
    """

    status: Status
    next: str
    reason: str
    value: float | None = None
    target: float | None = None

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
    value = float(number(measured.value))
    if target is None:
        reason = f"{metric} {measured.text()}; objective.target is not set"
        return Decision(status="sufficient", next="finalization", reason=reason, value=value)
    low = measured.value if measured.low is None else measured.low
    high = measured.value if measured.high is None else measured.high
    worst, best = (low, high) if maximize else (high, low)

    def meets(value: float) -> bool:
        return value >= target if maximize else value <= target

    reason = f"{metric} {measured.text()}, target {number(target)}"
    if meets(worst):
        return Decision(
            status="sufficient", next="finalization", reason=reason, value=value, target=target
        )
    following = "finalization" if meets(measured.value) else "diagnostics"
    status: Status = "undecided" if meets(best) else "insufficient"
    return Decision(status=status, next=following, reason=reason, value=value, target=target)


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


RoundStatus = Literal[
    "target met",
    "next round",
    "diagnose again",
    "diminishing returns",
    "accepted short of target",
]
TARGET_MET: RoundStatus = "target met"
LEAST_RELATIVE_GAIN = 0.02
"""A round that gains less than this share of the incumbent's score is the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundDecision:
    """What a round of optimization leads to.

    `accepts`: whether the winner takes the place of the incumbent. `next` is optimization for
    another round, else finalization.
    """

    status: RoundStatus
    next: str
    accepts: bool
    reason: str

    def to_json(self) -> dict[str, Any]:
        """The decision as `rounds.json` and the manifest hold it."""
        return asdict(self)


def decide_round(
    *,
    metric: str,
    maximize: bool,
    target: float | None,
    winner: Measurement | None,
    incumbent: Measurement | None,
    gain: float | None,
    relative_gain: float | None,
    is_significant: bool | None,
    rounds_started: int,
    rounds_allowed: int,
    something_left: bool,
    broken_guards: Sequence[str] = (),
) -> RoundDecision:
    """Combine what the comparison found with the target, once, and say what comes next.

    `winner` and `incumbent` are mean scores over the fresh seeds (None: there is none), `gain` is
    above 0 where the winner is better, `relative_gain` its share of the incumbent's score (None
    where that is 0). `is_significant` is None where it cannot be said. `something_left`: whether
    any recommendation or setting is untried. A value on the target meets it, as everywhere; the
    reason says where the interval reaches.

    Accepted is a winner without a broken guard that is significantly better, or that meets a target
    which the incumbent misses and is better by its point estimate. Then, the first that holds:

    - target met: the accepted configuration, or else the incumbent, meets it.
    - diminishing returns: accepted, but for less than 2 % of the incumbent's score.
    - accepted short of target: no round is left, or nothing to try.
    - next round: accepted. diagnose again: not accepted.
    """

    def meets(score: Measurement | None) -> bool:
        if target is None or score is None or not score.is_finite:
            return False
        return score.value >= target if maximize else score.value <= target

    sound = winner is not None and winner.is_finite and gain is not None and math.isfinite(gain)
    better = sound and gain is not None and gain > 0
    crosses = better and meets(winner) and not meets(incumbent)
    accepts = better and not broken_guards and (is_significant is True or crosses)
    score, name = (winner, "the winner") if accepts else (incumbent, "the incumbent")
    shown = "has no finite score" if score is None or not score.is_finite else score.text()
    wanted = "no target is set" if target is None else f"target {number(target)}"
    where = f"{_why(sound, gain, is_significant, accepts, broken_guards)}; {metric} of {name} "
    where += f"{shown}, {wanted}"

    def decision(status: RoundStatus, following: str, why: str) -> RoundDecision:
        return RoundDecision(
            status=status, next=following, accepts=accepts, reason=f"{where}; {why}"
        )

    if meets(score) and target is not None:
        return decision(
            TARGET_MET, "finalization", f"the target is met{_doubt(score, target, maximize)}"
        )
    if accepts and relative_gain is not None and relative_gain < LEAST_RELATIVE_GAIN:
        why = f"a gain of {relative_gain * 100:.2f} % of the incumbent's score, less than 2 %"
        return decision("diminishing returns", "finalization", why)
    rounds = f"round {rounds_started} of {rounds_allowed}"
    if rounds_started >= rounds_allowed:
        return decision("accepted short of target", "finalization", f"{rounds} was the last")
    if not something_left:
        why = f"after {rounds} nothing is left to try"
        return decision("accepted short of target", "finalization", why)
    status: RoundStatus = "next round" if accepts else "diagnose again"
    return decision(status, "optimization", f"{rounds} is done")


def _why(
    sound: bool,
    gain: float | None,
    is_significant: bool | None,
    accepts: bool,
    broken_guards: Sequence[str],
) -> str:
    """Why the winner was accepted, or was not."""
    if not sound or gain is None:
        return "no trial was compared"
    said = {
        True: "is significant",
        False: "is not significant",
        None: "cannot be told from chance",
    }[is_significant]
    text = f"the winner's gain of {number(gain)} {said}"
    if broken_guards:
        return f"{text}, and it breaks {', '.join(broken_guards)}"
    if accepts and is_significant is not True:
        return f"{text}, but it brings the model to its target"
    return text


def _doubt(score: Measurement | None, target: float, maximize: bool) -> str:
    """That the interval reaches to the other side of the target, where it does."""
    if score is None or score.low is None or score.high is None:
        return ", without an interval"
    certain = score.low >= target if maximize else score.high <= target
    return "" if certain else ", although its interval reaches beyond"
