"""Most units of a ReLU layer are zero for every input: they get no gradient any more."""

from collections.abc import Mapping

from pytest_mltrainer.diagnostics.data_facts import trained
from pytest_mltrainer.diagnostics.fixes import lower_rate
from pytest_mltrainer.diagnostics.layer_readings import (
    at_first,
    by_layer,
    layer_rows,
    positions,
)
from pytest_mltrainer.diagnostics.readings import (
    finite,
    high_decay,
    lookup,
    number_in,
    picture,
    setting,
)
from pytest_mltrainer.diagnostics.scores import is_held_back, is_learning, is_well, near_linear

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

WARN, DEAD = 0.5, 0.9
LEAST_ROWS = 64
ALIVE_AT_FIRST = 0.5
SHOWN = 6


def detect(evidence: Evidence) -> Diagnosis | None:
    """Speaks on a model that falls short with 90 % of a ReLU layer dead, or learns nothing with 50.

    Dead: zero on each of 256 training rows sent through the trained model, whether the ReLU is a
    module or a function; without that probe, on the whole of each batch sampled in the later half,
    an upper bound. Needs 64 rows either way. Before training: 90 % of a layer of the fresh model.
    Silent when the model does well: wide layers may keep some units for few inputs; and under a
    weight decay so strong that it takes the weights away, which `underfitting` tells, as it tells
    of half a layer that is idle where dropout and its kin keep the model from learning.
    """
    has_run = trained(evidence)
    shares = _shares(evidence) if has_run else at_first(evidence, "dead")
    if not shares:
        raise NotJudged("no ReLU was seen, as a module or as a function")
    if has_run and (is_well(evidence) or high_decay(evidence)):
        return None
    place = max(shares, key=lambda entry: shares[entry])
    share = shares[place]
    if share < WARN or (share < DEAD and (not has_run or is_learning(evidence))):
        return None
    if share < DEAD and is_held_back(evidence):
        return None
    died = _died(evidence, place) if has_run else False
    limit = DEAD if share >= DEAD else WARN
    symptoms = (Symptom(what="dead units", measured=share, limit=WARN),) + (
        (Symptom(what="dead units, plain", measured=share, limit=DEAD),) if limit == DEAD else ()
    )
    return Diagnosis(
        id="dead_relu",
        # Units that lived were killed by steps: then these are the root.
        cause=Cause.LEARNING_RATE if died else Cause.GRADIENTS,
        summary=f"{share:.0%} of the units of {_label(evidence, place)} are zero for every input "
        f"and learn no more: {_reason(died)}.",
        confidence=confidence(symptoms),
        symptoms=symptoms[:1],
        where=_label(evidence, place),
        details=(f"dead share by layer: {_listed(evidence, shares)}",),
        recommendations=by_worth(_fixes(evidence, died)),
        curve=picture(
            "dead units over depth",
            ("ReLU layer", "share"),
            positions(range(len(shares))),
            list(shares.values()),
            limit=WARN,
        ),
    )


def _shares(evidence: Evidence) -> dict[str, float]:
    probed = lookup(evidence.trained, "dead_units")
    if isinstance(probed, Mapping) and probed:
        rows = number_in(evidence.trained, "dead_units_rows")
        if rows is not None and rows < LEAST_ROWS:
            raise NotJudged(f"{rows:.0f} training rows: a dead unit shows only on 64")
        read = {str(place): finite(share) for place, share in probed.items()}
        return {place: share for place, share in read.items() if share is not None}
    layer_rows(evidence)
    batch = finite(setting(evidence, "training.batch_size"))
    if batch is None or batch < LEAST_ROWS:
        raise NotJudged("no probe of the trained model, and batches under 64 rows do not tell")
    shares = by_layer(evidence, "zero_share", late=True)
    return {evidence.layer_names[layer]: share for layer, share in shares.items()}


def _died(evidence: Evidence, place: str) -> bool | None:
    """Whether the units lived at first; None when that was not recorded."""
    first = at_first(evidence, "dead").get(place)
    if first is None and place in evidence.layer_names:
        try:
            early = by_layer(evidence, "zero_share", before=1)
        except NotJudged:
            return None
        first = early.get(list(evidence.layer_names).index(place))
    return None if first is None else first < ALIVE_AT_FIRST


def _label(evidence: Evidence, place: str) -> str:
    if place not in evidence.layer_names:
        return place
    kinds, row = evidence.layer_types, list(evidence.layer_names).index(place)
    return f"{place} ({kinds[row]})" if row < len(kinds) else place


def _listed(evidence: Evidence, shares: Mapping[str, float]) -> str:
    shown = [f"{_label(evidence, place)} {share:.3g}" for place, share in shares.items()]
    half = SHOWN // 2
    return ", ".join(shown if len(shown) <= SHOWN else [*shown[:half], "...", *shown[-half:]])


def _reason(died: bool | None) -> str:
    if died is None:
        return "a step that was too large, or a bias that starts too low"
    if died:
        return "they lived at first, so steps that were too large (learning rate) killed them"
    return "they never lived, so the initial bias is too low or the inputs are badly scaled"


def _fixes(evidence: Evidence, died: bool | None) -> list[Recommendation]:
    reach = near_linear(evidence)
    bias = Recommendation(
        instruction="start the biases at 0 (default initialisation) and standardise the inputs",
        impact="medium" if died else "high",
        effort="low",
        predicted=reach,
    )
    leaky = Recommendation(
        instruction="replace the ReLU by nn.LeakyReLU (or GELU) in the layers named above",
        impact="high",
        effort="low",
        risk="low",
        predicted=reach,
    )
    if died is False:
        return [bias, leaky]
    return [lower_rate(evidence), leaky, bias]
