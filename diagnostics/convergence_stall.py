"""The training stands still while the model is hardly better than a trivial one."""

from itertools import pairwise

from pytest_mltrainer.diagnostics.fixes import lower_rate, raise_rate
from pytest_mltrainer.diagnostics.layer_readings import update_ratio
from pytest_mltrainer.diagnostics.pace import least_travel, travel
from pytest_mltrainer.diagnostics.readings import (
    adaptive,
    broken,
    can_patch,
    fall,
    finite,
    high_decay,
    high_dropout,
    last_third,
    loss_curve,
    mean,
    picture,
    rose_at_once,
    setting,
    step_values,
)
from pytest_mltrainer.diagnostics.scores import (
    LEAD_OF_TREES,
    LEAST_LEAD,
    NEAR_TRIVIAL,
    Scores,
    attainable,
    is_held_back,
    near_linear,
    needs_activation,
    read_scores,
    reference,
    target,
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
from pytest_mltrainer.training.diagnosing.remedies import dropout_setting

FALL_LIMIT = 0.03
DECAYED = 0.01
SLOW_FALL = 0.15
ABOVE_START = 0.2
SLOW_TRAVEL = 0.5
SLOW_UPDATE, HIGH_UPDATE, ROSE = 1e-4, 0.1, 2.0
# Learning rates far outside of what the methods are used with: (Adam and its kin, SGD).
VERY_HIGH = (0.03, 1.0)
VERY_LOW = (1e-5, 1e-4)

SCHEDULES = ("decayed", "warm-up")
STORIES = {
    "decayed": "The learning rate decayed away before the model had learned anything",
    "warm-up": "The warm-up never let the learning rate grow",
    "too low": "The learning rate is too low: the weights hardly move",
    "too high": "The learning rate is too high: the loss jumped and the model got stuck",
    "held down": "The loss stands still: regularisation undoes what the model learns",
    "stuck": "The loss stands still and no learning rate explains it",
}


def detect(evidence: Evidence) -> Diagnosis | None:
    """Speaks when the loss falls by under 3 % in the last third and the model is near trivial.

    Near: training and validation both gained under 20 % of the lead that a simple model (else the
    target) has over the trivial one. When that lead is under 0.05 nothing shows that there is
    something to learn: then only a learning rate that was gone before the loss had fallen by 15 %
    speaks. A loss that ended above its first value counts as standing
    still. Silent where regularisation holds the model down or its layers lack activations, which
    `underfitting` tells. Not judged under 6 epochs and 24 steps, nor on non-finite losses.
    """
    curve, scores, trivial = _judged(evidence)
    goal = attainable(evidence)
    goal = target(evidence) if goal is None else goal
    story = _story(evidence, curve)
    scheduled = story in SCHEDULES and _fallen(evidence, curve) < SLOW_FALL
    if goal is None and not scheduled:
        raise NotJudged("neither a target nor a simple model says what can be reached")
    if goal is None or goal - trivial < LEAST_LEAD:
        if not scheduled:
            return None
        goal = max(trivial + LEAST_LEAD, scores.train, scores.validation)
    near = trivial + NEAR_TRIVIAL * (goal - trivial)
    gained = max(scores.train, scores.validation)
    late_fall = fall(last_third(curve))
    if gained > near and not scheduled:
        return None
    if late_fall >= FALL_LIMIT and not _above_start(evidence, curve):
        return None
    is_bent_too_little = needs_activation(evidence) > 0 and goal - trivial >= LEAD_OF_TREES
    is_explained = story == "held down" or (story == "stuck" and is_bent_too_little)
    if is_explained and reference(evidence, "linear_train") is not None:
        return None
    symptoms = (
        Symptom(what="fall of the loss in the last third", measured=late_fall, limit=FALL_LIMIT),
        Symptom(what=f"skill in {evidence.metric}", measured=gained, limit=near),
        *_signs(evidence, story),
    )
    return Diagnosis(
        id="convergence_stall",
        # Where no schedule explains it, whatever else was found explains the standstill.
        cause=Cause.LEARNING_RATE if story in SCHEDULES else Cause.CAPACITY,
        summary=f"{STORIES[story]}.",
        confidence=confidence(symptoms),
        symptoms=symptoms,
        where=_where(evidence),
        details=_details(evidence, curve, trivial, goal),
        recommendations=by_worth(_fixes(evidence, story)),
        curve=picture(
            "smoothed training loss",
            ("part of the run", "loss"),
            range(1, len(curve) + 1),
            curve,
            mark=float(len(curve) - len(last_third(curve)) + 1),
        ),
    )


def _judged(evidence: Evidence) -> tuple[list[float], Scores, float]:
    """The smoothed loss, the scores of the run, and the trivial one. Raises NotJudged."""
    curve, scores = loss_curve(evidence), read_scores(evidence)
    trivial = reference(evidence, "trivial")
    if broken(evidence):
        raise NotJudged("the loss is not finite, which nan_loss explains")
    if not curve:
        raise NotJudged("under 6 epochs and under 24 steps: too short to smooth the loss")
    if scores is None or trivial is None:
        raise NotJudged("no scores of the run, or of a trivial model, to compare")
    return curve, scores, trivial


def _fallen(evidence: Evidence, curve: list[float]) -> float:
    """How much of its first value the loss lost."""
    start = _start(evidence, curve)
    return (start - mean(last_third(curve))) / abs(start) if start else 0.0


def _above_start(evidence: Evidence, curve: list[float]) -> bool:
    start = _start(evidence, curve)
    return mean(last_third(curve)) > start + ABOVE_START * abs(start)


def _signs(evidence: Evidence, story: str) -> list[Symptom]:
    """What the updates of the layers say of the learning rate, where it is the story."""
    ratio, rose = update_ratio(evidence), rose_at_once(evidence)
    found = []
    if story == "too low" and ratio is not None and 0 < ratio < SLOW_UPDATE:
        found.append(Symptom(what="update over weights", measured=ratio, limit=SLOW_UPDATE))
    if story == "too high" and ratio is not None and ratio > HIGH_UPDATE:
        found.append(Symptom(what="update over weights", measured=ratio, limit=HIGH_UPDATE))
    if story == "too high" and rose is not None and rose > ROSE:
        found.append(Symptom(what="loss after the first steps", measured=rose, limit=ROSE))
    return found


def _start(evidence: Evidence, curve: list[float]) -> float:
    """The loss before anything was learned: of the first step, else of the first epoch."""
    steps = step_values(evidence, "loss")
    return steps[0] if steps else curve[0]


def _rates(evidence: Evidence) -> list[float]:
    steps = step_values(evidence, "learning_rate")
    return steps or [record.learning_rate for record in evidence.epochs]


def _story(evidence: Evidence, curve: list[float]) -> str:
    """What the curve and the learning rate tell; a rate alone counts only if nothing else does."""
    rates, configured = _rates(evidence), finite(setting(evidence, "training.learning_rate"))
    peak = max(rates, default=0.0)
    if configured and 0 < peak < 0.1 * configured and rates[-1] == peak:
        return "warm-up"
    if peak > 0 and mean(last_third(rates)) < DECAYED * peak:
        return "decayed"
    moved = travel(evidence)
    if moved is not None and moved < least_travel(evidence):
        return "too low"
    start = _start(evidence, curve)
    high, low = (VERY_HIGH[0], VERY_LOW[0]) if adaptive(evidence) else (VERY_HIGH[1], VERY_LOW[1])
    rose, ratio = rose_at_once(evidence) or 0.0, update_ratio(evidence, late=True) or 0.0
    jumped = max(curve) > 1.5 * abs(start) or rose > ROSE or _above_start(evidence, curve)
    # Decay that shrinks the weights makes any step large beside them.
    if jumped or peak >= high or (ratio > HIGH_UPDATE and not high_decay(evidence)):
        return "too high"
    falls = sum(after < before for before, after in pairwise(curve))
    steady = falls >= 0.7 * (len(curve) - 1) and fall(last_third(curve)) > 0.2 * fall(curve)
    slow = not adaptive(evidence) or moved is None or moved < SLOW_TRAVEL
    if (steady and slow and 0 < fall(curve) < SLOW_FALL) or 0 < peak <= low:
        return "too low"
    held_down = high_decay(evidence) or high_dropout(evidence) or is_held_back(evidence)
    return "held down" if held_down else "stuck"


def _where(evidence: Evidence) -> str:
    if not evidence.epochs:
        return ""
    return f"epochs {evidence.epochs[0].epoch} to {evidence.epochs[-1].epoch}"


def _details(
    evidence: Evidence, curve: list[float], trivial: float, goal: float
) -> tuple[str, ...]:
    rates = _rates(evidence)
    lines = [
        f"smoothed loss: first {curve[0]:.4g}, last {curve[-1]:.4g}, highest {max(curve):.4g}",
        f"trivial model {trivial:.4g}, attainable {goal:.4g} (skill in {evidence.metric})",
    ]
    if rates:
        lines.append(f"learning rate: {rates[0]:.4g} at first, {rates[-1]:.4g} at last")
    return tuple(lines)


def _fixes(evidence: Evidence, story: str) -> list[Recommendation]:
    if story == "decayed":
        return [_keep_rate(evidence)]
    if story == "warm-up":
        return [_shorter_warmup(evidence)]
    if story == "too low":
        return [raise_rate(evidence)]
    if story == "too high":
        return [lower_rate(evidence)]
    if story == "held down":
        return [_less_regularisation(evidence)]
    return [
        _checks(),
        Recommendation(
            instruction="train a few epochs at a tenth and at ten times the learning rate and keep "
            "the one whose loss falls fastest",
            impact="medium",
            effort="medium",
            predicted=near_linear(evidence),
        ),
    ]


def _keep_rate(evidence: Evidence) -> Recommendation:
    known = can_patch(evidence, "training.scheduler")
    return Recommendation(
        instruction="use a schedule that decays over the planned epochs and not before them",
        patch={"training.scheduler": "cosine"}
        if known and setting(evidence, "training.scheduler") != "cosine"
        else {},
        impact="high",
        predicted=near_linear(evidence),
    )


def _shorter_warmup(evidence: Evidence) -> Recommendation:
    tenth = max(1, sum(record.steps for record in evidence.epochs) // 10)
    return Recommendation(
        instruction=f"warm up over a tenth of the run: {tenth} steps",
        patch={"training.warmup_steps": tenth}
        if can_patch(evidence, "training.warmup_steps")
        else {},
        impact="high",
        predicted=near_linear(evidence),
    )


def _less_regularisation(evidence: Evidence) -> Recommendation:
    decay = finite(setting(evidence, "training.weight_decay")) or 0.0
    patch: dict[str, float] = {}
    if high_decay(evidence) and can_patch(evidence, "training.weight_decay"):
        patch["training.weight_decay"] = float(f"{decay / 100:.6g}")
    dropout = dropout_setting(evidence)
    if high_dropout(evidence) and can_patch(evidence, dropout):
        patch[dropout] = 0.1
    return Recommendation(
        instruction="divide the weight decay by 100 and keep dropout at 0.1 or lower",
        patch=patch,
        impact="high",
        predicted=near_linear(evidence),
    )


def _checks() -> Recommendation:
    return Recommendation(
        instruction="see that every layer gets a gradient and is in the optimizer, that units are "
        "not dead (leaky_relu, default initialisation) nor too few, and that a batch of 8 can be "
        "learned by heart",
        impact="high",
        effort="medium",
    )
