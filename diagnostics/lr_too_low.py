"""The weights hardly move: at this learning rate the run would need many times its epochs."""

import math

from pytest_mltrainer.diagnostics.fixes import raise_rate
from pytest_mltrainer.diagnostics.layer_readings import (
    by_layer,
    layer_rows,
    listed,
    update_ratio,
)
from pytest_mltrainer.diagnostics.pace import least_travel, relative_travel, travel
from pytest_mltrainer.diagnostics.readings import (
    broken,
    finite,
    last_third,
    loss_curve,
    mean,
    picture,
    setting,
    step_values,
)
from pytest_mltrainer.diagnostics.scores import is_learning, is_well

from pytest_mltrainer.core.evidence import (
    Cause,
    Diagnosis,
    Evidence,
    NotJudged,
    Symptom,
    confidence,
)

SLOW_UPDATE = 1e-4
SLOW_FALL = 0.15
LEAST_TRAVEL = 0.2
DECAYED = 0.01
GOAL = 0.9
BUDGETS = 10.0
WARMED_UP = 0.1
MOST_BUDGETS = 1e6


def detect(evidence: Evidence) -> Diagnosis | None:
    """Speaks when updates are tiny and the run would need many times its epochs.

    Tiny: the median over layers of |dw| / |w| is under 1e-4 on steps near the peak of the learning
    rate. Then the smoothed loss fell by under 15 %, so that a straight line to a tenth of the first
    loss takes over 10 times the planned epochs; or the model is still near a trivial one, whatever
    the loss did. Tiny as well, in a model near a trivial one: all updates together cannot have
    moved the weights of any layer by a fifth, of what they are or of what is usual. Silent on a
    model that does well, such as a pretrained one that is tuned gently, on a learning rate of 0,
    and on one that its warm-up never let grow to a tenth of what was configured or that decayed
    away, which `convergence_stall` tells. A rate that stays where it is, far below the configured
    one, is the optimizer's own.
    """
    layer_rows(evidence)
    ratio = update_ratio(evidence)
    curve = loss_curve(evidence)
    if ratio is None or not curve or broken(evidence):
        raise NotJudged("no finite update ratio and smoothed loss were recorded")
    rates = step_values(evidence, "learning_rate")
    peak = max(rates, default=math.nan)
    if ratio <= 0 or peak == 0 or is_well(evidence):
        return None
    configured = finite(setting(evidence, "training.learning_rate"))
    is_scheduled = min(rates, default=math.nan) < peak
    if configured is not None and is_scheduled and peak < WARMED_UP * configured:
        return None
    start = curve[0]
    fallen = (start - mean(last_third(curve))) / abs(start) if start else 0.0
    budgets = min(GOAL / fallen, MOST_BUDGETS) if fallen > 0 else MOST_BUDGETS
    symptoms = _signs(evidence, ratio)
    if is_learning(evidence):
        is_slow = ratio < SLOW_UPDATE and abs(fallen) < SLOW_FALL and budgets > BUDGETS
    else:
        is_slow = bool(symptoms) and (not rates or mean(last_third(rates)) >= DECAYED * peak)
    if not is_slow:
        return None
    if budgets > BUDGETS:
        symptoms += (Symptom(what="budgets of epochs needed", measured=budgets, limit=BUDGETS),)
    return _diagnosis(evidence, curve, symptoms, ratio, fallen, budgets)


def _diagnosis(
    evidence: Evidence,
    curve: list[float],
    symptoms: tuple[Symptom, ...],
    ratio: float,
    fallen: float,
    budgets: float,
) -> Diagnosis:
    peak = max(step_values(evidence, "learning_rate"), default=math.nan)
    epochs = evidence.planned_epochs or len(evidence.epochs)
    rate = finite(peak) or finite(setting(evidence, "training.learning_rate"))
    moves = (
        f"an update moves the weights by {ratio:.1g} of their size (usual: 1e-3)"
        if ratio < SLOW_UPDATE
        else f"all updates together can have moved {_moved(evidence)}"
    )
    return Diagnosis(
        id="lr_too_low",
        cause=Cause.LEARNING_RATE,
        summary=f"The learning rate{f' {rate:.4g}' if rate else ''} is too low: {moves}, and at "
        f"this pace {epochs} epochs are {1 / budgets:.2g} of what is needed.",
        confidence=confidence(symptoms),
        symptoms=symptoms,
        where=f"epochs {evidence.epochs[0].epoch} to {evidence.epochs[-1].epoch}"
        if evidence.epochs
        else "",
        details=(
            f"smoothed loss: first {curve[0]:.4g}, fallen by {fallen:.2%}",
            f"update over weights by layer: {listed(evidence, by_layer(evidence, 'update_ratio'))}",
        ),
        recommendations=(raise_rate(evidence),),
        curve=picture(
            "smoothed training loss",
            ("part of the run", "loss"),
            range(1, len(curve) + 1),
            curve,
        ),
    )


def _moved(evidence: Evidence) -> str:
    come = relative_travel(evidence)
    if come is not None and come < LEAST_TRAVEL:
        return f"no layer by more than {come:.2g} of its weights"
    return f"the weights by {travel(evidence):.2g} at most"


def _signs(evidence: Evidence, ratio: float) -> tuple[Symptom, ...]:
    """How small single updates are, and all of them together, where they are too small."""
    found = []
    if ratio < SLOW_UPDATE:
        found.append(Symptom(what="update over weights", measured=ratio, limit=SLOW_UPDATE))
    come = relative_travel(evidence)
    if come is not None and come < LEAST_TRAVEL:
        found.append(Symptom(what="all updates over weights", measured=come, limit=LEAST_TRAVEL))
    moved, least = travel(evidence), least_travel(evidence)
    if moved is not None and moved < least:
        found.append(Symptom(what="way of the weights", measured=moved, limit=least))
    return tuple(found)
