"""A sample's output depends on the other samples of its batch."""

from pytest_mltrainer.diagnostics.probed import probed
from pytest_mltrainer.diagnostics.readings import number_in, text_in

from pytest_mltrainer.core.evidence import (
    Cause,
    Diagnosis,
    Evidence,
    NotJudged,
    Recommendation,
    Symptom,
    confidence,
)

LEAK_LIMIT = 1e-4
"""Of the largest output; rounding in another order stays below 1e-6, a real leak above 1e-3."""


def detect(evidence: Evidence) -> Diagnosis | None:
    """Speaks when exchanging the other samples moves a sample's output by over 1e-4 of the scale.

    In evaluation mode, with the same batch size, padding and random numbers; BatchNorm with running
    statistics is silent. Raises NotJudged without the probe, or when outputs are not finite.
    """
    facts = probed(evidence, "mixing")
    leak = number_in(facts, "leak")
    if leak is None:
        raise NotJudged("the outputs are not finite")
    if leak <= LEAK_LIMIT:
        return None
    symptoms = (Symptom(what="influence of the others", measured=leak, limit=LEAK_LIMIT),)
    where = text_in(facts, "where")
    return Diagnosis(
        id="batch_mixing",
        cause=Cause.WIRING,
        summary="In evaluation mode a sample's output changes with the other samples of its batch.",
        confidence=max(0.8, confidence(symptoms)),
        symptoms=symptoms,
        where=where,
        recommendations=(Recommendation(instruction=_fix(where), impact="high"),),
    )


def _fix(where: str) -> str:
    if "BatchNorm" in where or "InstanceNorm" in where:
        return f"let {where} keep running statistics (track_running_stats=True)"
    if any(kind in where for kind in ("LSTM", "GRU", "RNN", "Attention")):
        return f"give {where} batch_first=True, or transpose its input to (time, batch, features)"
    place = where or "the forward pass"
    return (
        f"look at {place} for an operation over dimension 0: softmax, mean or cumsum without "
        "dim=-1, or view and reshape where permute or transpose is meant"
    )
