"""The first layers get hardly any gradient, so the model cannot use its input."""

from pytest_mltrainer.diagnostics.layer_readings import (
    EARLY,
    gradient_sizes,
    label,
    layer_type,
    listed,
    positions,
    recurrent_reach,
)
from pytest_mltrainer.diagnostics.readings import picture
from pytest_mltrainer.diagnostics.scores import (
    LEAST_LEAD,
    generalises,
    is_learning,
    near_linear,
    read_scores,
    reference,
)

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

RATIO = 1e-3
SMALL = 1e-4
SMALLEST = 1e-30
LEAST_LAYERS = 3
# An LSTM's default gates forget half at each time: over 20 times that is 1e-6.
FORGOTTEN = 1e-6
SQUASHING = ("Sigmoid", "Tanh")
RECURRENT = ("RNN", "LSTM", "GRU")


def detect(evidence: Evidence) -> Diagnosis | None:
    """Speaks when the first layer's gradient is under 1e-4 and under 1e-3 of the last layer's.

    Per root of the number of parameters, median over the sampled ones of the first 20 steps, in a
    run that learns nothing. Embeddings and norms are left out: their gradients do not compare.
    Frozen layers have no gradient and do not count. A gradient of exactly 0 without sigmoid, tanh
    or recurrence was cut off, by dead units or a detach, and did not fade. Judged from 3 layers
    with weights on. In recurrent layers the gradient fades over the times instead: to under 1e-6
    at the first ones, in a run whose validation gained nothing although simple models do, or
    although its training did.
    """
    through_time = _through_time(evidence)
    if through_time is not None:
        return through_time
    sizes = gradient_sizes(evidence, before=EARLY) or gradient_sizes(evidence)
    if len(sizes) < LEAST_LAYERS:
        raise NotJudged(f"{len(sizes)} layers with gradients; the fall with depth needs 3")
    if is_learning(evidence):
        return None
    layers = list(sizes)
    first, last = sizes[layers[0]], sizes[layers[-1]]
    if last <= 0 or first >= SMALL or first >= RATIO * last:
        return None
    if first == 0 and not _types(evidence) & {*SQUASHING, *RECURRENT}:
        return None
    symptoms = (
        Symptom(
            what="gradient of the first layer over the last",
            measured=max(first / last, SMALLEST),
            limit=RATIO,
        ),
        Symptom(what="gradient of the first layer", measured=max(first, SMALLEST), limit=SMALL),
    )
    return Diagnosis(
        id="vanishing_gradients",
        cause=Cause.GRADIENTS,
        summary=f"The gradient fades from {last:.2g} in the last layer to {first:.2g} in the "
        f"first, and the model does not learn: {_reason(evidence, len(layers))}.",
        confidence=confidence(symptoms),
        symptoms=symptoms,
        where=_where(evidence, sizes),
        details=(f"gradient per root of parameters, by depth: {listed(evidence, sizes)}",),
        recommendations=by_worth(_fixes(evidence)),
        curve=picture(
            "gradient over depth",
            ("layer", "norm / root of parameters"),
            positions(layers),
            [max(size, SMALLEST) for size in sizes.values()],
            limit=SMALL,
            log=True,
        ),
    )


def _through_time(evidence: Evidence) -> Diagnosis | None:
    reach = recurrent_reach(evidence)
    if not reach or not _knows_only_its_samples(evidence):
        return None
    name = min(reach, key=lambda layer: reach[layer])
    if reach[name] >= FORGOTTEN:
        return None
    symptoms = (
        Symptom(
            what="gradient at the first times over the last",
            measured=max(reach[name], SMALLEST),
            limit=FORGOTTEN,
        ),
    )
    return Diagnosis(
        id="vanishing_gradients",
        cause=Cause.GRADIENTS,
        summary=f"On its way back through the times of {name} the gradient fades to "
        f"{reach[name]:.2g} of itself, so what stands at the beginning cannot be learned.",
        confidence=confidence(symptoms),
        symptoms=symptoms,
        where=name,
        recommendations=by_worth(_fixes(evidence)),
    )


def _knows_only_its_samples(evidence: Evidence) -> bool:
    gained = generalises(evidence)
    if gained is not None:
        return not gained
    scores, trivial = read_scores(evidence), reference(evidence, "trivial")
    if scores is None or trivial is None:
        return False
    near = trivial + LEAST_LEAD
    return scores.best_validation < near and scores.train > near + LEAST_LEAD


def _types(evidence: Evidence) -> set[str]:
    return {layer_type(evidence, layer) for layer in range(len(evidence.layer_names))}


def _reason(evidence: Evidence, layers: int) -> str:
    types = _types(evidence)
    if types & set(SQUASHING):
        return f"sigmoid or tanh shrink it in each of {layers} layers"
    if types & set(RECURRENT):
        return "it is carried back over many time steps"
    return f"{layers} layers without a norm or residual path shrink it"


def _where(evidence: Evidence, sizes: dict[int, float]) -> str:
    """The layers behind which the gradient is below the limit."""
    last = list(sizes.values())[-1]
    lost = [layer for layer, size in sizes.items() if size < RATIO * last]
    return f"from {label(evidence, lost[-1])} down to {label(evidence, lost[0])}"


def _fixes(evidence: Evidence) -> list[Recommendation]:
    reach = near_linear(evidence)
    types = _types(evidence)
    fixes = [
        Recommendation(
            instruction="put a norm (BatchNorm, LayerNorm) in front of each activation, or a "
            "residual path around every two layers",
            impact="high",
            effort="medium",
            predicted=reach,
        ),
        Recommendation(
            instruction="take layers out until the first one learns",
            impact="medium",
            effort="medium",
            predicted=reach,
        ),
    ]
    if types & set(SQUASHING):
        fixes.insert(
            0,
            Recommendation(
                instruction="replace the hidden sigmoid and tanh by ReLU, with "
                "nn.init.kaiming_uniform_ for the weights before it",
                impact="high",
                effort="low",
                predicted=reach,
            ),
        )
    if types & {"RNN"}:
        fixes.insert(
            0,
            Recommendation(
                instruction="replace nn.RNN by nn.LSTM or nn.GRU, or shorten the sequences",
                impact="high",
                effort="low",
                predicted=reach,
            ),
        )
    return fixes
