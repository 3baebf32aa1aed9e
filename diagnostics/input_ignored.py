"""The outputs are the same whatever goes in."""

from pytest_mltrainer.diagnostics.layer_readings import flat_at_first
from pytest_mltrainer.diagnostics.probed import listed, names_in, probed
from pytest_mltrainer.diagnostics.readings import number_in

from pytest_mltrainer.core.evidence import (
    Cause,
    Diagnosis,
    Evidence,
    NotJudged,
    Recommendation,
    Symptom,
)


def detect(evidence: Evidence) -> Diagnosis | None:
    """Speaks when the samples that go in are all equal, or outputs are equal for different ones.

    Equal: within four rounding errors of the outputs' size, both before and after the rehearsed
    updates, since a head that starts at zero answers alike at first. Silent when the difference
    fades over many layers, or when all units of a layer are dead or saturated: that is a matter of
    scale, not of wiring. A part of a mapping that is
    ignored is a detail, no diagnosis. Raises NotJudged without the probe.
    """
    facts = probed(evidence, "inputs")
    rows, distinct = number_in(facts, "rows"), number_in(facts, "distinct_inputs")
    variation, rounding = number_in(facts, "variation"), number_in(facts, "rounding")
    if rows is None or distinct is None or variation is None or rounding is None:
        raise NotJudged("the probe of the inputs is incomplete")
    if distinct == 1 < rows:
        return Diagnosis(
            id="input_ignored",
            cause=Cause.WIRING,
            summary=f"The pipeline feeds one and the same input: {rows:.0f} samples are equal.",
            confidence=0.95,
            symptoms=(Symptom(what="different inputs", measured=1.0, limit=2.0),),
            where="Task.data, training split",
            recommendations=(
                Recommendation(
                    instruction="print two samples of the training split and follow them back "
                    "through Task.data: an index that is not used, or a transform that returns a "
                    "constant",
                    impact="high",
                    effort="medium",
                ),
            ),
        )
    place = facts.get("lost_at")
    if facts.get("constant") is not True or not isinstance(place, str) or not place:
        return None
    if flat_at_first(evidence):
        return None
    return Diagnosis(
        id="input_ignored",
        cause=Cause.WIRING,
        summary="The outputs do not depend on the inputs: all samples get the same answer.",
        confidence=0.95,
        symptoms=(Symptom(what="difference between samples", measured=variation, limit=rounding),),
        where=place,
        details=(f"ignored: {listed(ignored)}",)
        if (ignored := names_in(facts, "ignored_parts"))
        else (),
        recommendations=(
            Recommendation(
                instruction=f"look at {place}: a variable that is not used, zeros in place of the "
                "input, an average over the features, or units that never fire",
                impact="high",
                effort="medium",
            ),
        ),
    )
