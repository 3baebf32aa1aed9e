"""The outputs, the targets and the loss do not belong together."""

from collections.abc import Mapping
from typing import Any

from pytest_mltrainer.diagnostics.data_facts import did_no_harm, trained
from pytest_mltrainer.diagnostics.probed import probed
from pytest_mltrainer.diagnostics.readings import last_third, loss_curve, number_in

from pytest_mltrainer.core.evidence import (
    Cause,
    Diagnosis,
    Evidence,
    NotJudged,
    Recommendation,
    Symptom,
    confidence,
)

FLOOR_LIMIT = 0.1
SWAP_LIMIT = 1e-3
LOG_SHIFT = (0.9, 1.1)


def detect(evidence: Evidence) -> Diagnosis | None:
    """Speaks on one of five mismatches, the first that holds.

    A class index beyond the outputs. A loss that is the same when the outputs are given to samples
    with other targets (to 0.1 %): shapes broadcast. A loss on log-probabilities (it falls by 1 for
    each 1 added to all outputs) with outputs that are none; where the outputs do not follow the
    last layer upwards without limit they may be densities: then only once a training came out badly
    or its loss fell without end. Of several labels, targets whose outputs the loss pays no heed to,
    such as zeros where it wants -1. An output range in which even perfect
    outputs keep over 10 % of the loss of undecided ones: an activation before a loss that has its
    own, or targets out of reach. log_softmax before cross entropy changes nothing and is silent.
    Raises NotJudged without the probe, and when the loss refused every output it was asked about.
    """
    facts = probed(evidence, "loss")
    beyond = _class_beyond(evidence, facts)
    if beyond is not None:
        return beyond
    paired, swapped = number_in(facts, "paired"), number_in(facts, "swapped")
    if paired is None or swapped is None:
        raise NotJudged("the loss has no finite value for outputs that match the targets")
    return (
        _unpaired(facts, paired, swapped)
        or _wants_logarithms(evidence, facts)
        or _unheard(facts)
        or _out_of_reach(evidence.kind, facts)
    )


def _class_beyond(evidence: Evidence, facts: Mapping[str, Any]) -> Diagnosis | None:
    classes = number_in(facts, "classes")
    highest = number_in(evidence.profile, "targets", "max")
    if evidence.kind != "classification" or classes is None or highest is None:
        return None
    # One output for two classes is a score of the second one.
    if highest < classes or classes < 2:
        return None
    return _diagnosis(
        facts,
        f"Targets name class {highest:.0f}, but the model has {classes:.0f} outputs "
        f"(classes 0 to {classes - 1:.0f}).",
        [Symptom(what="highest class", measured=highest, limit=classes - 1)],
        f"give the last layer {highest + 1:.0f} outputs, or number the classes from 0 without gaps "
        "in Task.data",
        0.98,
    )


def _unpaired(facts: Mapping[str, Any], paired: float, swapped: float) -> Diagnosis | None:
    undecided = number_in(facts, "undecided") or 0.0
    difference = abs(swapped - paired) / max(abs(paired), abs(swapped), 1e-30)
    # A loss of 0 either way has no opinion on these outputs at all.
    if difference > SWAP_LIMIT or max(abs(paired), abs(swapped)) <= 0.01 * abs(undecided):
        return None
    if facts.get("targets_vary") is not True:
        return None
    shapes = f"outputs {facts.get('output_shape')}, targets {facts.get('target_shape')}"
    return _diagnosis(
        facts,
        "The loss is the same whichever sample an output is given to: shapes broadcast, and each "
        "output is compared with every target.",
        [Symptom(what="change of the loss by swapping", measured=difference, limit=SWAP_LIMIT)],
        f"give outputs and targets one shape in Task.loss ({shapes}): "
        "outputs.squeeze(-1) or targets.unsqueeze(-1)",
        0.95,
    )


def _wants_logarithms(evidence: Evidence, facts: Mapping[str, Any]) -> Diagnosis | None:
    shift = number_in(facts, "shift")
    if shift is None or not LOG_SHIFT[0] <= shift <= LOG_SHIFT[1]:
        return None
    if facts.get("log_normalised") is True or _may_be_densities(evidence, facts):
        return None
    given = "probabilities" if facts.get("sums_to_one") is True else "plain scores"
    return _diagnosis(
        facts,
        f"The loss wants log-probabilities and gets {given}: it falls without end when all outputs "
        "rise.",
        [Symptom(what="fall of the loss for 1 added to all", measured=shift, limit=LOG_SHIFT[0])],
        "return plain scores and use cross entropy (torch.nn.functional.cross_entropy), or put "
        "log_softmax before nll_loss",
        0.95,
    )


def _may_be_densities(evidence: Evidence, facts: Mapping[str, Any]) -> bool:
    """Whether outputs may be logarithms of densities, which no layer can raise all together.

    Plain scores follow the last layer (`free`), probabilities sum to 1, and what is limited from
    below as well as from above is an activation. Of the rest a training decides.
    """
    bounded = number_in(facts, "low") is not None and number_in(facts, "high") is not None
    if facts.get("free") is not False or facts.get("sums_to_one") is True or bounded:
        return False
    return not trained(evidence) or (did_no_harm(evidence) and not _falls_without_end(evidence))


def _falls_without_end(evidence: Evidence) -> bool:
    """Whether the loss ends below 0 and fell in the last third by that third's share or more."""
    curve = loss_curve(evidence)
    if not curve or curve[-1] >= 0:
        return False
    late = last_third(curve)
    return late[0] - late[-1] >= (curve[0] - curve[-1]) / 3


def _unheard(facts: Mapping[str, Any]) -> Diagnosis | None:
    found = facts.get("unheard")
    if not isinstance(found, list) or len(found) != 1:
        return None
    target = found[0]
    return _diagnosis(
        facts,
        f"The loss is the same whatever the outputs say of labels whose target is {target}: they "
        "teach nothing.",
        [Symptom(what=f"targets {target} that the loss heeds", measured=0.0, limit=0.0)],
        "give the loss the targets that it wants (a hinge wants -1 and 1: 2 * targets - 1), or use "
        "torch.nn.functional.binary_cross_entropy_with_logits",
        0.95,
    )


def _out_of_reach(kind: str, facts: Mapping[str, Any]) -> Diagnosis | None:
    floor, reachable = number_in(facts, "floor"), number_in(facts, "reachable")
    undecided, shift = number_in(facts, "undecided"), number_in(facts, "shift")
    if floor is None or reachable is None or undecided is None or undecided <= floor:
        return None
    if shift is not None and shift >= LOG_SHIFT[0]:
        return None  # Log-probabilities as wanted; scores beyond them are no outputs of theirs.
    share = (reachable - floor) / (undecided - floor)
    if share <= FLOOR_LIMIT:
        return None
    symptom = Symptom(what="loss left by perfect outputs", measured=share, limit=FLOOR_LIMIT)
    activation = _activation(facts)
    if kind == "regression":
        return _diagnosis(
            facts,
            f"The targets lie outside of what the model can answer ({_range(facts)}).",
            [symptom],
            f"remove {activation} from the output, or scale the targets into its range",
            confidence([symptom]),
        )
    return _diagnosis(
        facts,
        f"The outputs pass {activation} before a loss that has its own: even perfect outputs keep "
        f"{share:.0%} of the initial loss.",
        [symptom],
        f"remove {activation} from the end of the model or from Task.predict: the loss wants plain "
        "scores (logits)",
        max(0.85, confidence([symptom])),
    )


def _activation(facts: Mapping[str, Any]) -> str:
    """What the range of the outputs tells of the operation that made them."""
    low, high = number_in(facts, "low"), number_in(facts, "high")
    if facts.get("sums_to_one") is True:
        return "softmax"
    if facts.get("log_normalised") is True:
        return "log_softmax"
    named = {(0.0, 1.0): "sigmoid", (-1.0, 1.0): "tanh", (0.0, None): "relu"}
    if low is None:
        return "the bounded activation"
    return named.get((low, high), f"an activation with a limit at {low:g}")


def _range(facts: Mapping[str, Any]) -> str:
    low, high = number_in(facts, "low"), number_in(facts, "high")
    bounds = [f"{word} {value:.4g}" for word, value in (("from", low), ("to", high))
              if value is not None]  # fmt: skip
    return " ".join(bounds)


def _diagnosis(
    facts: Mapping[str, Any],
    summary: str,
    symptoms: list[Symptom],
    instruction: str,
    sureness: float,
) -> Diagnosis:
    return Diagnosis(
        id="loss_mismatch",
        cause=Cause.WIRING,
        summary=summary,
        confidence=sureness,
        symptoms=tuple(symptoms),
        where=f"outputs {facts.get('output_shape')}, targets {facts.get('target_shape')} "
        f"({facts.get('target_dtype')})",
        recommendations=(Recommendation(instruction=instruction, impact="high"),),
    )
