"""The weights hardly move: at this learning rate the run would need many times its epochs."""

import math

from pytest_mltrainer.diagnostics.fixes import raise_rate
from pytest_mltrainer.diagnostics.layer_readings import (
    by_layer,
    layer_rows,
    listed,
    update_ratio,
)
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
from pytest_mltrainer.diagnostics.scores import is_well

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
GOAL = 0.9
BUDGETS = 10.0
WARMED_UP = 0.1
MOST_BUDGETS = 1e6


def detect(evidence: Evidence) -> Diagnosis | None:
    """Speaks when updates are tiny, the loss hardly fell, and the pace would need 10 budgets.

    Tiny: the median over layers of |dw| / |w| is under 1e-4 on steps near the peak of the learning
    rate. Hardly: the smoothed loss fell by under 15 %. The pace: a straight line to a tenth of the
    first loss takes over 10 times the planned epochs. Silent on a model that does well, such as a
    pretrained one that is tuned gently, on a learning rate of 0, and on one that its warm-up never
    let grow to a tenth of what was configured, which `convergence_stall` tells.
    """
    layer_rows(evidence)
    ratio = update_ratio(evidence)
    curve = loss_curve(evidence)
    if ratio is None or not curve or broken(evidence):
        raise NotJudged("no finite update ratio and smoothed loss were recorded")
    peak = max(step_values(evidence, "learning_rate"), default=math.nan)
    if ratio <= 0 or ratio >= SLOW_UPDATE or peak == 0 or is_well(evidence):
        return None
    configured = finite(setting(evidence, "training.learning_rate"))
    if configured is not None and peak < WARMED_UP * configured:
        return None
    start = curve[0]
    fallen = (start - mean(last_third(curve))) / abs(start) if start else 0.0
    budgets = min(GOAL / fallen, MOST_BUDGETS) if fallen > 0 else MOST_BUDGETS
    if abs(fallen) >= SLOW_FALL or budgets <= BUDGETS:
        return None
    symptoms = (
        Symptom(what="update over weights", measured=ratio, limit=SLOW_UPDATE),
        Symptom(what="budgets of epochs needed", measured=budgets, limit=BUDGETS),
    )
    epochs = evidence.planned_epochs or len(evidence.epochs)
    rate = finite(setting(evidence, "training.learning_rate")) or finite(peak)
    return Diagnosis(
        id="lr_too_low",
        cause=Cause.LEARNING_RATE,
        summary=f"The learning rate{f' {rate:.4g}' if rate else ''} is too low: an update moves "
        f"the weights by {ratio:.1g} of their size (usual: 1e-3), and {epochs} epochs were "
        f"{1 / budgets:.2g} of what the pace would need.",
        confidence=confidence(symptoms),
        symptoms=symptoms,
        where=f"epochs {evidence.epochs[0].epoch} to {evidence.epochs[-1].epoch}"
        if evidence.epochs
        else "",
        details=(
            f"smoothed loss: first {start:.4g}, fallen by {fallen:.2%}",
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
