"""Recommendations that several diagnostics share."""

from pytest_mltrainer.diagnostics.layer_readings import update_ratio
from pytest_mltrainer.diagnostics.pace import USUAL_MOMENTUM, momentum
from pytest_mltrainer.diagnostics.readings import adaptive, can_patch, finite, setting
from pytest_mltrainer.diagnostics.scores import near_linear

from pytest_mltrainer.core.evidence import Evidence, Level, Recommendation

RATE = "training.learning_rate"
USUAL_RATES = (1e-3, 1e-2)
"""What Adam and its kin, and SGD are usually started with."""
MOST_RATE = 1.0
HIGH_MOMENTUM = 0.95


def lower_rate(evidence: Evidence, *, impact: Level = "high") -> Recommendation:
    """A tenth of the learning rate; with Adam and its kin at most 1e-3."""
    rate = finite(setting(evidence, RATE))
    patch = {}
    if rate is not None and rate > 0 and can_patch(evidence, RATE):
        new = min(rate / 10, 1e-3 if adaptive(evidence) else 1e-1)
        patch = {RATE: float(f"{new:.6g}")}
    return Recommendation(
        instruction="divide the learning rate by 10, and again if that is not enough",
        patch=patch,
        impact=impact,
        predicted=near_linear(evidence),
    )


def raise_rate(evidence: Evidence) -> Recommendation:
    """Ten times the learning rate; at least back to what is usual, and to what SGD's steps need."""
    rate = finite(setting(evidence, RATE))
    patch = {}
    if rate is not None and rate > 0 and can_patch(evidence, RATE):
        usual = USUAL_RATES[0] if adaptive(evidence) else max(USUAL_RATES[1], _far_enough(evidence))
        new = max(rate * 10, usual)
        patch = {RATE: float(f"{new:.6g}")}
    return Recommendation(
        instruction="raise the learning rate tenfold, and again if the loss still does not fall",
        patch=patch,
        impact="high",
        predicted=near_linear(evidence),
    )


def _far_enough(evidence: Evidence) -> float:
    """The rate at which SGD's updates together move the weights by their own size; at most 1.

    The updates of SGD are in proportion to its rate, whatever makes them small: sparse inputs, a
    mean over many targets, clipping. 0 where they were not recorded.
    """
    rate, ratio = finite(setting(evidence, RATE)), update_ratio(evidence)
    if not rate or not ratio or evidence.steps is None:
        return 0.0
    return min(float(f"{rate / (ratio * len(evidence.steps)):.1g}"), MOST_RATE)


def clipping(evidence: Evidence, *, impact: Level = "medium") -> list[Recommendation]:
    """Clip the gradient norm to 1.0; none where it is clipped there already."""
    clip = finite(setting(evidence, "training.clip_norm"))
    if clip is not None and 0 < clip <= 1:
        return []
    known = can_patch(evidence, "training.clip_norm")
    return [
        Recommendation(
            instruction="clip the gradient norm to 1.0",
            patch={"training.clip_norm": 1.0} if known else {},
            impact=impact,
            predicted=near_linear(evidence),
        )
    ]


def less_momentum(evidence: Evidence) -> list[Recommendation]:
    """Momentum of 0.9, where it is over 0.95: a step counts 1 / (1 - momentum) times."""
    if adaptive(evidence) or momentum(evidence) <= HIGH_MOMENTUM:
        return []
    times = 1 / max(1 - momentum(evidence), 1e-3)
    known = can_patch(evidence, "training.momentum")
    return [
        Recommendation(
            instruction=f"lower momentum to {USUAL_MOMENTUM}: at {momentum(evidence):g} each step "
            f"counts {times:.0f} times",
            patch={"training.momentum": USUAL_MOMENTUM} if known else {},
            impact="high",
            predicted=near_linear(evidence),
        )
    ]


def warm_up(evidence: Evidence) -> list[Recommendation]:
    """Warm up over a tenth of the run; none where it warms up already."""
    if finite(setting(evidence, "training.warmup_steps")) or not evidence.epochs:
        return []
    steps = evidence.steps.size if evidence.steps is not None else 0
    tenth = max(1, steps // 10)
    known = steps > 0 and can_patch(evidence, "training.warmup_steps")
    return [
        Recommendation(
            instruction="let the learning rate grow over the first tenth of the steps",
            patch={"training.warmup_steps": tenth} if known else {},
            impact="medium",
            predicted=near_linear(evidence),
        )
    ]
