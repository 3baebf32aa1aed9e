"""The gradients are so large that steps overshoot instead of learning."""

from collections.abc import Sequence
from statistics import median

from pytest_mltrainer.diagnostics.fixes import clipping, lower_rate, warm_up
from pytest_mltrainer.diagnostics.layer_readings import (
    EARLY,
    at_first,
    first_update,
    gradient_sizes,
    growth_with_depth,
    label,
    listed,
    update_ratio,
    worst,
)
from pytest_mltrainer.diagnostics.readings import (
    broken,
    finite,
    number_in,
    picture,
    rose_at_once,
    step_values,
)
from pytest_mltrainer.diagnostics.scores import is_learning, is_well

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

LARGE = 1e3
SPIKE = 100.0
SPIKES = 3
LONE_SPIKE = 1e4
CALM_STEPS, CALM, CALM_FIRST = 3, 100.0, 30.0
FLAT = 0.5
REMEMBERED = 50
GROWTH = 10.0
ENLARGED = 4.0
HIGH_UPDATE = 0.1
ROSE = 2.0


def detect(evidence: Evidence) -> Diagnosis | None:
    """Speaks when gradients are huge from the start, or grow huge, in a run that learns nothing.

    Huge from the start: the median norm of the first 20 updates is over 1e3, counted in standard
    deviations of the targets in a regression, whose loss has their scale. Growing: at least 3
    updates over 100 times the median of the 50 before them, or one over 10,000 times. Through time:
    the gradient at the first times of a recurrent layer is over 1,000 times that at the last.
    Outputs that spread over 10 times as wide with depth agree. Silent on a model that does well;
    on one that learns but falls short only the first sign counts. Where the first gradients were
    calm, steps made them large: then the confidence is halved, and `unstable_training` comes first.
    Where they are huge before any step, and grow with depth or time, they come before the overflow
    that they lead to (`nan_loss`).
    """
    norms = step_values(evidence, "gradient_norm")
    known = [norm for norm in norms if finite(norm) is not None]
    if len(known) < EARLY // 2 and not (known and broken(evidence)):
        raise NotJudged("under 10 finite gradient norms were recorded")
    learns = is_learning(evidence)
    if learns and is_well(evidence):
        return None
    scale = max(1.0, _target_scale(evidence))
    symptoms, first = _symptoms(known, scale, learns=learns)
    symptoms += [] if learns or symptoms else _thrown(evidence, median(known[:EARLY]) / scale)
    symptoms += _growing(evidence) if learns else _through_time(evidence)
    if not symptoms:
        return None
    symptoms += _agreeing(evidence)
    from_start = (known[0] / scale > LARGE and len(symptoms) > 1) or _grown(evidence) > LARGE
    # Gradients that were calm at first were blown up by steps, not by the initial weights.
    high_rate = first > 0 or _rate_is_high(evidence)
    was_calm = _was_calm(evidence, [norm / scale for norm in known])
    return Diagnosis(
        id="exploding_gradients",
        cause=_cause(from_start=from_start, by_steps=was_calm and high_rate),
        summary=_summary(symptoms[0], high_rate),
        confidence=confidence(symptoms) * (0.5 if was_calm and high_rate else 1.0),
        symptoms=tuple(symptoms),
        where=_where(evidence, first),
        details=_details(evidence),
        recommendations=by_worth(_fixes(evidence, high_rate)),
        curve=picture(
            "gradient norm",
            ("step", "norm"),
            range(len(norms)),
            norms,
            mark=float(first),
            limit=LARGE * scale,
            log=True,
        ),
    )


def _cause(*, from_start: bool, by_steps: bool) -> Cause:
    if from_start:
        return Cause.INIT_OR_SCALE
    return Cause.LEARNING_RATE if by_steps else Cause.GRADIENTS


def _target_scale(evidence: Evidence) -> float:
    if evidence.kind != "regression":
        return 1.0
    return number_in(evidence.profile, "targets", "std") or 1.0


def _symptoms(norms: Sequence[float], scale: float, *, learns: bool) -> tuple[list[Symptom], int]:
    """What is beyond its limit, and the first step where."""
    found, first = [], 0
    early = median(norms[:EARLY]) / scale
    if early > LARGE:
        found.append(
            Symptom(what="median gradient norm of the first steps", measured=early, limit=LARGE)
        )
    if learns:
        return found, first
    ratios = {
        step: norms[step] / before
        for step in range(EARLY // 2, len(norms))
        if (before := median(norms[max(0, step - REMEMBERED) : step])) > 0
    }
    spikes = {step: ratio for step, ratio in ratios.items() if ratio > SPIKE}
    if len(spikes) >= SPIKES or max(spikes.values(), default=0.0) > LONE_SPIKE:
        highest = max(ratio for ratio in spikes.values())
        if finite(highest) is not None:
            found.append(
                Symptom(what="gradient norm over those before", measured=highest, limit=SPIKE)
            )
            first = first if early > LARGE else min(spikes)
    return found, first


def _thrown(evidence: Evidence, early: float) -> list[Symptom]:
    """Gradients over 100 whose steps double the loss and move weights by a tenth: all together."""
    rose, ratio = rose_at_once(evidence) or 0.0, update_ratio(evidence) or 0.0
    if early <= CALM or rose <= ROSE or ratio <= HIGH_UPDATE:
        return []
    return [
        Symptom(what="median gradient norm of the first steps", measured=early, limit=CALM),
        Symptom(what="loss after the first steps", measured=rose, limit=ROSE),
    ]


def _was_calm(evidence: Evidence, norms: Sequence[float]) -> bool:
    """Whether the first gradients were of a usual size, and steps made them large."""
    if norms[0] >= CALM_FIRST or _through_time(evidence):
        return False
    return max(norms[:CALM_STEPS]) < CALM or (first_update(evidence) or 0.0) > HIGH_UPDATE


def _grown(evidence: Evidence) -> float:
    return max(at_first(evidence, "growth").values(), default=0.0)


def _growing(evidence: Evidence) -> list[Symptom]:
    growth = _grown(evidence)
    if growth <= LARGE:
        return []
    return [Symptom(what="growth of the states with time", measured=growth, limit=LARGE)]


def _through_time(evidence: Evidence) -> list[Symptom]:
    reach, gain, flat = (
        max(at_first(evidence, kind).values(), default=0.0)
        for kind in ("reach", "gain", "saturated")
    )
    found = []
    # Gates that inputs make flat are the root of what they do to gradients.
    if reach > LARGE and (flat < FLAT or gain > ENLARGED):
        found.append(
            Symptom(what="gradient at the first times over the last", measured=reach, limit=LARGE)
        )
    found += _growing(evidence)
    if gain > ENLARGED:
        found.append(
            Symptom(what="enlargement of the state at each time", measured=gain, limit=ENLARGED)
        )
    return found


def _agreeing(evidence: Evidence) -> list[Symptom]:
    try:
        growth = growth_with_depth(evidence)
    except NotJudged:
        return []
    if growth is None or growth <= GROWTH:
        return []
    return [Symptom(what="growth of outputs with depth", measured=growth, limit=GROWTH)]


def _rate_is_high(evidence: Evidence) -> bool:
    ratio, rose = update_ratio(evidence), rose_at_once(evidence)
    return (ratio is not None and ratio > HIGH_UPDATE) or (rose is not None and rose > ROSE)


def _summary(symptom: Symptom, high_rate: bool) -> str:
    reason = (
        "the learning rate is too high and throws the weights far out"
        if high_rate
        else "weights or inputs are too large for the depth of the model"
    )
    return f"The gradients explode ({symptom.what} {symptom.measured:.3g}) and the model does not "\
        f"learn: {reason}."  # fmt: skip


def _where(evidence: Evidence, step: int) -> str:
    try:
        sizes = gradient_sizes(evidence)
    except NotJudged:
        sizes = {}
    place = f", most of all in {label(evidence, worst(sizes)[0])}" if sizes else ""
    return f"from step {step} on{place}"


def _details(evidence: Evidence) -> tuple[str, ...]:
    try:
        sizes = gradient_sizes(evidence, before=EARLY)
    except NotJudged:
        return ()
    lines = (
        [f"gradient per root of parameters, by depth: {listed(evidence, sizes)}"] if sizes else []
    )
    if (ratio := update_ratio(evidence)) is not None:
        lines.append(f"an update moves the weights by {ratio:.2g} of their size (usual: 1e-3)")
    return tuple(lines)


def _fixes(evidence: Evidence, high_rate: bool) -> list[Recommendation]:
    rate, clip = lower_rate(evidence, impact="high" if high_rate else "medium"), clipping(
        evidence, impact="high"
    )  # fmt: skip
    return [
        *([rate, *clip] if high_rate else [*clip, rate]),
        *warm_up(evidence),
        Recommendation(
            instruction="use the default initialisation (nn.init.kaiming_uniform_ before ReLU) and "
            "put a BatchNorm or LayerNorm behind the layer named above",
            impact="high",
            effort="medium",
        ),
    ]
