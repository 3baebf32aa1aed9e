"""Hidden sigmoids, tanhs or gates work where they are flat, so no gradient gets through."""

from collections.abc import Mapping

from pytest_mltrainer.diagnostics.fixes import lower_rate
from pytest_mltrainer.diagnostics.layer_readings import (
    at_first,
    by_layer,
    layer_rows,
    positions,
    update_ratio,
)
from pytest_mltrainer.diagnostics.readings import finite, lookup, picture
from pytest_mltrainer.diagnostics.scores import is_well, near_linear, read_scores

from pytest_mltrainer.core.evidence import (
    Cause,
    Diagnosis,
    Evidence,
    NotJudged,
    Recommendation,
    Symptom,
    confidence,
)
from pytest_mltrainer.core.ranking import by_worth

LIMIT = 0.5
WHOLLY = 0.8
NEARLY_PERFECT = 0.95
HIGH_UPDATE = 0.1
SHOWN = 6


def detect(evidence: Evidence) -> Diagnosis | None:
    """Speaks when half of a hidden layer's inputs to sigmoid or tanh lie beyond 5.

    On 256 training rows sent through the trained model, gates of recurrent layers and activations
    called as functions included; without that probe, the median over the later half of the sampled
    steps. In a model that falls short of what simple ones reach; where 80 % were flat before
    training and still are, in any whose training score is under 0.95. An activation behind the last
    layer with weights is the output, which is right to be sure; it does not count.
    """
    shares = _hidden(evidence)
    if not shares:
        raise NotJudged("no hidden sigmoid, tanh or gate was seen")
    place = max(shares, key=lambda entry: shares[entry])
    share, first = shares[place], _first(evidence, place)
    is_flat = min(share, first) >= WHOLLY and not _is_nearly_perfect(evidence)
    if share < LIMIT or (is_well(evidence) and not is_flat):
        return None
    from_start = first >= LIMIT
    symptoms = [Symptom(what="inputs beyond 5", measured=share, limit=LIMIT)]
    if len(others := [value for value in shares.values() if value >= LIMIT]) > 1:
        symptoms.append(Symptom(what="saturated layers", measured=float(len(others)), limit=1.0))
    return Diagnosis(
        id="saturation",
        cause=Cause.GRADIENTS if from_start else Cause.LEARNING_RATE,
        summary=f"{share:.0%} of the inputs of {place} lie where it is flat, so "
        f"the layers before it hardly learn: {_reason(from_start)}.",
        # Driven there by steps, it is a consequence of what `unstable_training` sees.
        confidence=confidence(symptoms) if from_start else 0.5,
        symptoms=tuple(symptoms),
        where=place,
        details=(f"saturated share by layer: {_listed(shares)}",),
        recommendations=by_worth(_fixes(evidence, from_start)),
        curve=picture(
            "saturation over depth",
            ("activation", "share beyond 5"),
            positions(range(len(shares))),
            list(shares.values()),
            limit=LIMIT,
        ),
    )


def _hidden(evidence: Evidence) -> dict[str, float]:
    probed = lookup(evidence.trained, "saturated_units")
    if isinstance(probed, Mapping) and probed:
        read = {str(place): finite(share) for place, share in probed.items()}
        return {place: share for place, share in read.items() if share is not None}
    rows = layer_rows(evidence)
    weights = rows["layer"][rows["numel"] > 0]
    last = int(weights.max()) if len(weights) else -1
    shares = by_layer(evidence, "saturated_share", late=True)
    return {evidence.layer_names[layer]: share for layer, share in shares.items() if layer < last}


def _first(evidence: Evidence, place: str) -> float:
    """The share before training; 0 where it was not recorded."""
    probed = at_first(evidence, "saturated").get(place)
    if probed is not None or place not in evidence.layer_names:
        return probed or 0.0
    try:
        early = by_layer(evidence, "saturated_share", before=1)
    except NotJudged:
        return 0.0
    return early.get(list(evidence.layer_names).index(place), 0.0)


def _is_nearly_perfect(evidence: Evidence) -> bool:
    scores = read_scores(evidence)
    return scores is None or scores.train >= NEARLY_PERFECT


def _listed(shares: Mapping[str, float]) -> str:
    shown = [f"{place} {share:.3g}" for place, share in shares.items()]
    half = SHOWN // 2
    return ", ".join(shown if len(shown) <= SHOWN else [*shown[:half], "...", *shown[-half:]])


def _reason(from_start: bool) -> str:
    if from_start:
        return "from the first step on, so inputs or initial weights are too large"
    return "the training drove them there, so its steps (learning rate) are too large"


def _fixes(evidence: Evidence, from_start: bool) -> list[Recommendation]:
    reach = near_linear(evidence)
    ratio = update_ratio(evidence)
    scale = Recommendation(
        instruction="standardise the inputs in Task.data, use the default initialisation "
        "(nn.init.xavier_uniform_), or put a norm in front of the activation",
        impact="high",
        effort="medium",
        predicted=reach,
    )
    relu = Recommendation(
        instruction="replace the hidden sigmoid or tanh by ReLU",
        impact="medium",
        predicted=reach,
    )
    too_fast = not from_start or (ratio is not None and ratio > HIGH_UPDATE)
    return [*([lower_rate(evidence)] if too_fast else []), scale, relu]
