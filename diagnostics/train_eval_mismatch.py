"""The model answers otherwise in evaluation than it was trained to."""

from collections.abc import Mapping
from typing import Any

from pytest_mltrainer.diagnostics.probed import listed, names_in, probed
from pytest_mltrainer.diagnostics.readings import lookup, number_in, text_in
from pytest_mltrainer.diagnostics.scores import skill

from pytest_mltrainer.core.evidence import (
    Cause,
    Diagnosis,
    Evidence,
    NotJudged,
    Recommendation,
    Symptom,
    confidence,
)

REPEAT_LIMIT = 1e-4
GAP_LIMIT = {"regression": 0.3}
GAP_POINTS = 0.15
UNLEARNED_LIMIT = 0.05
"""Share of the initial running statistics that may be left when training ends."""
LEAST_VALUES = 8.0
"""Values of a channel in a batch; of fewer, mean and variance are mostly noise."""


def detect(evidence: Evidence) -> Diagnosis | None:
    """Speaks on the first of: random evaluation, a mode gap after training, hopeless BatchNorm.

    Two evaluations of the same rows that differ by over 1e-4 of the scale. After training, on the
    same rows, in the best state or the last, evaluation mode worse than training mode by over 15
    points (R2: 0.3); better is what dropout does. Before it, a BatchNorm whose momentum leaves over
    5 % of the initial statistics when training ends, or that sees under 8 values of a channel in a
    batch. Raises NotJudged without any of these facts.
    """
    modes = lookup(evidence.trained, "modes")
    try:
        facts: Mapping[str, Any] | None = probed(evidence, "modes")
    except NotJudged:
        if lookup(modes, "judged") is not True:
            raise
        facts = None
    found = _random(facts) if facts else None
    if lookup(modes, "judged") is True:
        for scores in (modes, lookup(modes, "last")):
            found = found or _gap(evidence, scores, number_in(modes, "rows") or 0, facts or {})
    return found or (_norm(facts) if facts and lookup(modes, "judged") is not True else None)


def _random(facts: Mapping[str, Any]) -> Diagnosis | None:
    difference = number_in(facts, "repeat_difference")
    if difference is None or difference <= REPEAT_LIMIT:
        return None
    symptoms = [
        Symptom(what="difference of two evaluations", measured=difference, limit=REPEAT_LIMIT)
    ]
    where = text_in(facts, "where")
    still = names_in(facts, "still_training")
    fix = (
        f"let eval() reach {listed(still)}: do not override train() or eval(), and register modules"
        if still
        else f"make {where or 'the forward pass'} random in training only: nn.Dropout in place of "
        "F.dropout, or F.dropout(x, training=self.training)"
    )
    return _diagnosis(
        "Two evaluations of the same samples differ: something draws random numbers in evaluation "
        "mode.",
        symptoms,
        max(0.9, confidence(symptoms)),
        where,
        [fix],
    )


def _gap(
    evidence: Evidence, scores: object, rows: float, facts: Mapping[str, Any]
) -> Diagnosis | None:
    train = skill(evidence, number_in(scores, "train"))
    held = skill(evidence, number_in(scores, "eval"))
    limit = GAP_LIMIT.get(evidence.kind, GAP_POINTS)
    if train is None or held is None or train - held <= limit:
        return None
    symptoms = [Symptom(what="training mode above evaluation", measured=train - held, limit=limit)]
    return _diagnosis(
        f"On the same {rows:.0f} training rows {evidence.metric} is "
        f"{number_in(scores, 'train'):.3g} in training mode and {number_in(scores, 'eval'):.3g} in "
        "evaluation mode.",
        symptoms,
        max(0.7, confidence(symptoms)),
        ", ".join(str(norm.get("name")) for norm in _norms(facts)[:3]),
        [
            "give BatchNorm its default momentum 0.1 and batches of 16 or more, or use GroupNorm "
            "or LayerNorm",
            "look in forward for what depends on self.training by mistake",
        ],
    )


def _norm(facts: Mapping[str, Any]) -> Diagnosis | None:
    updates = number_in(facts, "updates") or 0
    for norm in _norms(facts):
        momentum, values = number_in(norm, "momentum"), number_in(norm, "values")
        name = f"{norm.get('name')} (BatchNorm)"
        if momentum is not None and 0 <= momentum <= 1 and updates:
            left = (1 - momentum) ** updates
            if left > UNLEARNED_LIMIT:
                return _diagnosis(
                    f"BatchNorm with momentum {momentum:.4g} has not learned the data's mean and "
                    f"variance after {updates:.0f} updates: evaluation will use others.",
                    [Symptom(what="initial statistics left", measured=left, limit=UNLEARNED_LIMIT)],
                    0.85,
                    name,
                    ["set momentum=0.1, torch's default: it is the weight of the new batch"],
                )
        if values is not None and values < LEAST_VALUES:
            symptom = Symptom(what="values of a channel", measured=values, limit=LEAST_VALUES)
            return _diagnosis(
                f"BatchNorm sees {values:.0f} values of a channel in a batch: its statistics are "
                "noise in training and others in evaluation.",
                [symptom],
                confidence([symptom]),
                name,
                ["raise training.batch_size to 16 or more, or use GroupNorm or LayerNorm"],
            )
    return None


def _norms(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = facts.get("norms")
    return [norm for norm in found if isinstance(norm, Mapping)] if isinstance(found, list) else []


def _diagnosis(
    summary: str, symptoms: list[Symptom], sureness: float, where: str, fixes: list[str]
) -> Diagnosis:
    return Diagnosis(
        id="train_eval_mismatch",
        cause=Cause.WIRING,
        summary=summary,
        confidence=sureness,
        symptoms=tuple(symptoms),
        where=where,
        recommendations=tuple(Recommendation(instruction=fix, impact="high") for fix in fixes),
    )
