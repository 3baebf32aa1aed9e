"""The initial weights are alike, or of a scale that the model cannot learn from."""

from collections.abc import Mapping
from typing import Any

from pytest_mltrainer.diagnostics.data_facts import did_no_harm
from pytest_mltrainer.diagnostics.layer_readings import at_first
from pytest_mltrainer.diagnostics.probed import listed, probed
from pytest_mltrainer.diagnostics.readings import lookup, number_in, text_in

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

LOSS_LIMIT = 5.0
SCALE_LIMIT = 10.0
SMALL_LIMIT = 1e-3
GAIN_LIMIT = 0.1
BIAS_LIMIT = 10.0
NOTHING_LEFT = 1e-25
# He's initialisation enlarges 1.4 times, and halves of it are cut off by the ReLU.
MOST_GAIN = 4.0
FLAT_LIMIT = 0.5
COMMON_LIMIT = 5.0
DEAD = 0.9
RESET = "remove the initialisation of one's own: torch's default keeps the scale over depth"


def detect(evidence: Evidence) -> Diagnosis | None:
    """Speaks when units start alike and stay so, or scales leave 0.1 to 10 over depth.

    Alike: all rows of a hidden layer's weights are equal, and still after the rehearsed updates, or
    in every hidden layer. Large: an initial loss over 5 times that of undecided outputs, inputs of
    a later layer over 10 in deviation and over 10 times those of the first, or half of the inputs
    of a sigmoid or tanh beyond 5, by a layer that enlarges its inputs over 4 times; ordinary layers
    whose depth does it are another matter (`exploding_gradients`). One-sided: in half of the hidden
    layers the mean of the weights is over 5 errors of a mean from 0, so that units say the same.
    Small: outputs below 1e-3 of the inputs at under 0.1 a layer. Biases over 10 times what the
    inputs move, unless they leave ReLUs dead, which `dead_relu` tells. All on standardised inputs.
    The last layer may start at zero, and so may branches that updates part. Silent after a training
    that came out well. Raises NotJudged without the probe.
    """
    facts = probed(evidence, "initial")
    found = facts.get("layers")
    layers = (
        [entry for entry in found if isinstance(entry, Mapping)]
        if (isinstance(found, list))
        else []
    )
    if not layers:
        raise NotJudged("no layer with weights was seen")
    if did_no_harm(evidence):
        return None
    is_dead = max(at_first(evidence, "dead").values(), default=0.0) >= DEAD
    return (
        _alike(layers)
        or (None if is_dead else _biased(layers))
        or _large(facts, layers, flat=max(at_first(evidence, "saturated").values(), default=0.0))
        or _one_sided(layers)
        or (None if is_dead or _thrown_away(evidence) else _small(facts, layers))
    )


def _thrown_away(evidence: Evidence) -> bool:
    """Whether one module throws the inputs away, which is no matter of scale."""
    inputs = lookup(evidence.probes, "inputs")
    return lookup(inputs, "constant") is True and bool(text_in(inputs, "lost_at"))


def _alike(layers: list[Mapping[str, Any]]) -> Diagnosis | None:
    hidden = [layer for layer in layers[:-1] if layer.get("alike") is not None]
    alike = [layer for layer in hidden if layer.get("alike") is True]
    lasting = [layer for layer in alike if layer.get("alike_after") is True]
    if not lasting and not (alike and len(alike) == len(hidden)):
        return None
    shown = lasting or alike
    zero = all(layer.get("zero") is True for layer in shown)
    return _diagnosis(
        f"All units of {len(shown)} hidden layer{'' if len(shown) == 1 else 's'} start "
        f"{'at zero' if zero else 'with the same weights'}, so they learn the same and count as "
        "one.",
        [Symptom(what="hidden layers of equal units", measured=float(len(shown)), limit=0.0)],
        0.95,
        listed(_name(layer) for layer in shown),
        "initialise the weights at random (nn.init.kaiming_normal_, or torch's default); zeros are "
        "for biases and for the last layer of a branch",
        layers,
    )


def _large(
    facts: Mapping[str, Any], layers: list[Mapping[str, Any]], *, flat: float
) -> Diagnosis | None:
    loss, undecided = number_in(facts, "loss"), number_in(facts, "undecided")
    symptoms, where = [], ""
    if facts.get("standardised") is not True:
        return None  # Raw inputs may be the cause as well.
    if loss is not None and undecided is not None and undecided > 0:
        ratio = loss / undecided
        if ratio > LOSS_LIMIT:
            symptoms.append(Symptom(what="initial loss, in undecided losses", measured=ratio,
                                    limit=LOSS_LIMIT))  # fmt: skip
            where = _name(layers[-1])
    first = number_in(layers[0], "input_std") or 0.0
    for layer in layers[1:]:
        scale = number_in(layer, "input_std") or 0.0
        if scale > SCALE_LIMIT * max(first, 1.0):
            symptoms.append(
                Symptom(what="deviation of a layer's inputs", measured=scale, limit=SCALE_LIMIT)
            )
            where = _name(layer)
            break
    if flat > FLAT_LIMIT:
        symptoms.append(
            Symptom(what="inputs beyond 5 before training", measured=flat, limit=FLAT_LIMIT)
        )
        where = where or _name(max(layers, key=lambda layer: number_in(layer, "gain") or 0.0))
    gains = [number_in(layer, "gain") for layer in layers]
    ordinary = all(gain is not None and gain <= MOST_GAIN for gain in gains)
    if not symptoms or ordinary:
        return None
    return _diagnosis(
        "The initial weights are too large: the untrained model is sure of wrong answers.",
        symptoms,
        confidence(symptoms),
        where,
        RESET,
        layers,
    )


def _one_sided(layers: list[Mapping[str, Any]]) -> Diagnosis | None:
    hidden = [layer for layer in layers[:-1] if layer.get("zero") is not True]
    known = {_name(layer): number_in(layer, "common") or 0.0 for layer in hidden}
    sided = {name: common for name, common in known.items() if common > COMMON_LIMIT}
    if not sided or len(sided) < len(hidden) / 2:
        return None
    worst = max(sided.values())
    symptom = Symptom(what="mean of the weights over chance", measured=worst, limit=COMMON_LIMIT)
    return _diagnosis(
        "The initial weights have one sign: all units add up the same, and outputs drift with it.",
        [symptom],
        confidence([symptom]),
        listed(sided),
        RESET,
        layers,
    )


def _biased(layers: list[Mapping[str, Any]]) -> Diagnosis | None:
    for layer in layers[:-1]:
        bias, moved = number_in(layer, "bias") or 0.0, number_in(layer, "row_std") or 0.0
        if bias >= 1 and moved > 0 and bias > BIAS_LIMIT * moved:
            symptom = Symptom(what="bias over response", measured=bias / moved, limit=BIAS_LIMIT)
            return _diagnosis(
                "Initial biases drown what the inputs say: units are all on or all off.",
                [symptom],
                confidence([symptom]),
                _name(layer),
                "start biases of hidden layers at 0",
                layers,
            )
    return None


def _small(facts: Mapping[str, Any], layers: list[Mapping[str, Any]]) -> Diagnosis | None:
    weighted = [layer for layer in layers if layer.get("zero") is not True]
    # What the model itself made large may well come back to a usual scale.
    first = min(number_in(layers[0], "input_std") or 0.0, 1.0)
    last = number_in(weighted[-1], "row_std") if weighted else None
    if len(weighted) < 2 or first <= 0 or last is None:
        return None
    whole = last / first
    gain = whole ** (1 / len(weighted))
    # Nothing left at all is no scale: something throws the inputs away.
    if whole >= SMALL_LIMIT or gain >= GAIN_LIMIT or whole < NOTHING_LEFT:
        return None
    symptoms = [
        Symptom(what="outputs against inputs", measured=max(whole, 1e-30), limit=SMALL_LIMIT),
        Symptom(what="scale kept by a layer", measured=max(gain, 1e-30), limit=GAIN_LIMIT),
    ]
    return _diagnosis(
        "The initial weights are too small: what the inputs say fades from layer to layer.",
        symptoms,
        confidence(symptoms),
        f"{_name(weighted[0])} to {_name(weighted[-1])}",
        RESET,
        layers,
    )


def _name(layer: Mapping[str, Any]) -> str:
    return f"{layer.get('name')} ({layer.get('kind')})"


def _diagnosis(
    summary: str,
    symptoms: list[Symptom],
    sureness: float,
    where: str,
    instruction: str,
    layers: list[Mapping[str, Any]],
) -> Diagnosis:
    scales = [number_in(layer, "row_std") or 0.0 for layer in layers][:200]
    return Diagnosis(
        id="bad_init",
        cause=Cause.INIT_OR_SCALE,
        summary=summary,
        confidence=sureness,
        symptoms=tuple(symptoms),
        where=where,
        recommendations=(Recommendation(instruction=instruction, impact="high"),),
        curve=Curve(
            title="Scale of the outputs by depth, before training",
            x_label="layer",
            y_label="deviation between samples",
            x=tuple(float(depth) for depth in range(len(scales))),
            y=tuple(scales),
            log=all(scale > 0 for scale in scales),
        ),
    )
