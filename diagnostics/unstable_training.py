"""The training loses again what it had learned, or its steps are too large to settle."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pytest_mltrainer.diagnostics.fixes import clipping, less_momentum, lower_rate, warm_up
from pytest_mltrainer.diagnostics.layer_readings import (
    first_update,
    flattened_by_steps,
    has_dead_layer,
    update_ratio,
)
from pytest_mltrainer.diagnostics.readings import (
    broken,
    can_patch,
    epoch_values,
    finite,
    high_decay,
    last_third,
    loss_curve,
    mean,
    picture,
    rose_at_once,
    setting,
    step_values,
)
from pytest_mltrainer.diagnostics.scores import (
    in_points,
    is_learning,
    is_well,
    read_scores,
    reference,
    skill,
    standard_error,
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

RISE = 1.5
LEAST_RISE = 0.1
NOISE = 0.3
LOST = 0.1
CERTAIN = 3.0
# Adam at usual rates moves weights by 0.001 to 0.02, and settles lower.
HIGH_UPDATE = 0.1
# Adam's first step moves each weight by the rate: usual ones make it 0.01 to 0.1.
FIRST_UPDATE = 0.3
ROSE = 2.0
FEWEST_EPOCHS = 4
LEAST_GAIN = 0.1
DROP, LONE_DROP = 0.25, 0.5
SETTLED = 0.05
OFTEN = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Course:
    """The smoothed loss: lowest value of the first half, mean of the last, noise around its trend.

    `error` is the standard error of a point of the curve from the noise of single batches.
    """

    curve: Sequence[float]
    start: float
    lowest_at: int
    late: float
    noise: float
    error: float

    @property
    def lowest(self) -> float:
        return self.curve[self.lowest_at]

    @property
    def learned(self) -> float:
        return max(self.start - self.lowest, 0.0)


def detect(evidence: Evidence) -> Diagnosis | None:
    """Speaks on a loss that came back, a score that drops, a loss that swings, or huge steps.

    Came back: the smoothed loss of the last half is 1.5 times the minimum of the first, and a tenth
    of what was learned is lost. Drops: the training metric of a tenth of the epochs, two at least,
    fell behind the best before them by a quarter of what was gained since the start, or of one by a
    half for good, and not only on the way to a settled end. Swings: the loss strays by 0.3 of its
    size around its trend while the metric is 0.1 below its best. Losses beyond 3 standard errors of
    single batches. Huge: updates move weights by over 0.1 of their size, or the loss doubled at
    once, in a model that learns but falls short, or whose units were free and are saturated now,
    or whose smoothed loss rose to 1.5 times its start on the way while no layer of ReLUs died,
    which `dead_relu` tells.
    Never on the raw loss of a batch.
    """
    course = _course(evidence)
    if broken(evidence):
        raise NotJudged("the loss is not finite, which nan_loss explains")
    if course is None:
        raise NotJudged("under 24 steps: too short to smooth the loss")
    symptoms, story = _came_back(course), "lost what it had learned"
    if not symptoms:
        symptoms, story = _drops(evidence), "drops back again and again"
    if not symptoms:
        symptoms, story = _swings(evidence, course), "swings instead of settling"
    signs = _large_steps(evidence)
    if not symptoms:
        story = "takes steps that are too large to settle"
        if is_well(evidence):
            return None
        if not is_learning(evidence):
            flattening = _flattening(evidence, signs)
            if flattening:
                signs, story = flattening, "drove the units where they are flat"
            elif not _was_thrown(evidence, course) or has_dead_layer(evidence):
                return None
        if not signs:
            return None
    symptoms += signs
    return Diagnosis(
        id="unstable_training",
        cause=Cause.LEARNING_RATE,
        summary=f"The training {story}{_reason(evidence, bool(signs))}.",
        confidence=confidence(symptoms),
        symptoms=tuple(symptoms),
        where=f"lowest loss {course.lowest:.4g} at {course.lowest_at + 1} of {len(course.curve)} "
        f"points of the smoothed loss, {course.late:.4g} in its last half",
        recommendations=by_worth(_fixes(evidence, bool(signs))),
        curve=picture(
            "smoothed training loss",
            ("part of the run", "loss"),
            range(1, len(course.curve) + 1),
            course.curve,
            mark=float(course.lowest_at + 1),
        ),
    )


def _course(evidence: Evidence) -> _Course | None:
    curve = loss_curve(evidence)
    if not curve or any(finite(value) is None for value in curve):
        return None
    half = len(curve) // 2
    lowest_at = min(range(half), key=lambda place: curve[place])
    steps = step_values(evidence, "loss")
    errors = [abs(after - before) for before, after in pairwise(steps)]
    each = mean(errors) / math.sqrt(max(1.0, len(steps) / len(curve))) if errors else 0.0
    return _Course(
        curve=curve,
        start=max((steps or curve)[0], curve[0]),
        lowest_at=lowest_at,
        late=mean(curve[half:]),
        noise=_noise(curve[half:]),
        error=each if finite(each) is not None else math.inf,
    )


def _noise(values: Sequence[float]) -> float:
    """Standard deviation around the line between both neighbours, for independent noise."""
    strays = [b - (a + c) / 2 for a, b, c in zip(values, values[1:], values[2:], strict=False)]
    # A point minus the mean of two others of equal noise varies 1.5 times as much.
    return math.sqrt(mean([stray**2 for stray in strays]) / 1.5) if strays else 0.0


def _came_back(course: _Course) -> list[Symptom]:
    rise = course.late - course.lowest
    wanted = max(
        (RISE - 1) * abs(course.lowest), LEAST_RISE * course.learned, CERTAIN * course.error
    )
    if course.lowest <= 0 or rise <= wanted:
        return []
    ratio = course.late / course.lowest
    return [Symptom(what="late loss over its minimum", measured=ratio, limit=RISE)]


def _drops(evidence: Evidence) -> list[Symptom]:
    """Training scores far below the best one before them, on the scale of what was gained."""
    read = [skill(evidence, raw) for raw in epoch_values(evidence, "train", evidence.metric)]
    scores = [max(value, 0.0) for value in read if value is not None]
    if len(scores) < FEWEST_EPOCHS or len(scores) != len(read):
        return []
    trivial = reference(evidence, "trivial")
    floor = max(trivial if trivial is not None else scores[0], 0.0)
    best, drops = scores[0], []
    for score in scores[1:]:
        drops.append((best - score) / (best - floor) if best - floor > LEAST_GAIN else 0.0)
        best = max(best, score)
    worst = max(drops)
    often = sum(drop > DROP for drop in drops) >= max(2, OFTEN * len(drops))
    settled = max(last_third(scores)) >= best - SETTLED * (best - floor)
    lasting = worst > LONE_DROP and not settled
    if not (often or lasting) or (settled and max(last_third(drops)) < DROP):
        return []
    return [Symptom(what="share of the gained score lost again", measured=worst, limit=DROP)]


def _swings(evidence: Evidence, course: _Course) -> list[Symptom]:
    scores, size = read_scores(evidence), abs(course.late)
    is_certain = course.noise > max(CERTAIN * course.error, LEAST_RISE * course.learned / 2)
    if scores is None or size == 0 or course.noise / size <= NOISE or not is_certain:
        return []
    lost = scores.best_validation - scores.validation
    chance = CERTAIN * standard_error(evidence, scores.validation) if in_points(evidence) else 0.0
    if lost <= max(LOST, chance):
        return []
    return [
        Symptom(what="swing of the smoothed loss", measured=course.noise / size, limit=NOISE),
        Symptom(what="metric below its best", measured=lost, limit=LOST),
    ]


def _large_steps(evidence: Evidence) -> list[Symptom]:
    found = []
    ratio, rose = update_ratio(evidence, late=True), rose_at_once(evidence)
    # Decay that shrinks the weights makes any step large beside them.
    if ratio is not None and ratio > HIGH_UPDATE and not high_decay(evidence):
        found.append(Symptom(what="update over weights, late", measured=ratio, limit=HIGH_UPDATE))
    if rose is not None and rose > ROSE:
        found.append(Symptom(what="loss after the first steps", measured=rose, limit=ROSE))
    return found


def _flattening(evidence: Evidence, signs: list[Symptom]) -> list[Symptom]:
    """What drove free units into the flat, if they are: the signs, or a first update of 0.3.

    Weights that were thrown far out make later updates look small beside them.
    """
    if not flattened_by_steps(evidence):
        return []
    first = first_update(evidence) or 0.0
    if signs or first <= FIRST_UPDATE:
        return signs
    return [Symptom(what="first update over weights", measured=first, limit=FIRST_UPDATE)]


def _was_thrown(evidence: Evidence, course: _Course) -> bool:
    """Whether the smoothed loss rose far above its start: steps, not the task, are the matter."""
    first = min((*step_values(evidence, "loss")[:1], course.curve[0]))
    return max(course.curve) - first > max((RISE - 1) * abs(first), CERTAIN * course.error)


def _reason(evidence: Evidence, high_rate: bool) -> str:
    if high_rate:
        rate = finite(setting(evidence, "training.learning_rate"))
        return f": the learning rate{f' {rate:.4g}' if rate else ''} is too high"
    return "; most often the learning rate is too high"


def _fixes(evidence: Evidence, high_rate: bool) -> list[Recommendation]:
    fixes = [
        lower_rate(evidence),
        *less_momentum(evidence),
        *clipping(evidence),
        *warm_up(evidence),
    ]
    size = setting(evidence, "training.batch_size")
    if isinstance(size, int) and not isinstance(size, bool) and 0 < size < 32 and not high_rate:
        known = can_patch(evidence, "training.batch_size")
        fixes.append(
            Recommendation(
                instruction="use larger batches, whose gradients vary less",
                patch={"training.batch_size": 4 * size} if known else {},
                impact="medium",
                risk="medium",
            )
        )
    return fixes
