"""Gradients survive from one update to the next and add up."""

from pytest_mltrainer.diagnostics.probed import listed, names_in, probed
from pytest_mltrainer.diagnostics.readings import finite, number_in

from pytest_mltrainer.core.evidence import (
    Cause,
    Curve,
    Diagnosis,
    Evidence,
    NotJudged,
    Recommendation,
    Symptom,
    confidence,
)

SHARE_LIMIT = 0.5


def detect(evidence: Evidence) -> Diagnosis | None:
    """Speaks when over half of the updates still hold the gradient of the update before.

    The gradient of an update is compared with the sum of what its own backward passes contributed:
    accumulation over batches, several backward passes, clipping and momentum are no survival.
    Raises NotJudged without the probe, or when fewer than three updates were watched.
    """
    facts = probed(evidence, "gradients")
    share, ratio = number_in(facts, "survived_share"), number_in(facts, "ratio")
    if share is None or ratio is None:
        raise NotJudged("the probe of the gradients is incomplete")
    if share <= SHARE_LIMIT:
        return None
    symptoms = (
        Symptom(what="updates with the old gradient in them", measured=share, limit=SHARE_LIMIT),
        Symptom(what="part of the old gradient that is left", measured=ratio, limit=SHARE_LIMIT),
    )
    norms = facts.get("norms")
    known = [finite(norm) for norm in norms] if isinstance(norms, list) else []
    heights = [norm for norm in known if norm is not None]
    return Diagnosis(
        id="missing_zero_grad",
        cause=Cause.WIRING,
        summary="Gradients are not cleared: each update uses the sum of all gradients so far.",
        confidence=max(0.9, confidence(symptoms)),
        symptoms=symptoms,
        where=f"Task.train, seen at {listed(names_in(facts, 'parameters'))}",
        recommendations=(
            Recommendation(
                instruction="call session.optimizer.zero_grad() in every step of Task.train, "
                "before backward() or behind step(); session.update() does it",
                impact="high",
            ),
        ),
        curve=Curve(
            title="Gradient norm of the first updates",
            x_label="update",
            y_label="norm",
            x=tuple(float(step) for step in range(len(heights))),
            y=tuple(heights),
        )
        if heights
        else None,
    )
