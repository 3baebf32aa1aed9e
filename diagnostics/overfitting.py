"""The model goes on learning its training samples by heart and gets worse on others."""

from dataclasses import dataclass

from pytest_mltrainer.diagnostics.readings import (
    broken,
    can_patch,
    epoch_values,
    picture,
    setting,
)
from pytest_mltrainer.diagnostics.scores import (
    LEAST_LEAD,
    Scores,
    best_validation_score,
    in_points,
    late_train_score,
    overlapping_or_skewed,
    read_scores,
    reference,
    span,
    standard_error,
    target,
)

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
from pytest_mltrainer.core.ranking import by_worth
from pytest_mltrainer.training.diagnosing.remedies import more_decay, more_dropout, narrower

GAP_POINTS, GAP_VARIANCE = 0.15, 0.3
LEARNED_POINTS, LEARNED_VARIANCE = 0.95, 0.9
RISE = 1.2
FALLEN = 0.05
FAR = 2.0
HALF_LEARNED = 0.5
EVALUATIONS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Losses:
    """The validation loss against its minimum: `rise` of the lowest of the last evaluations."""

    best_epoch: int
    rise: float
    training_falls: bool


def detect(evidence: Evidence) -> Diagnosis | None:
    """Speaks when the gap is wide and the validation loss turned, or all is known by heart.

    Wide: over 15 points (0.3 for R2 and errors) and over two standard errors of the validation
    score. Turned: at least 1.2 times its minimum in the last 3 evaluations while the training loss
    fell on. By heart: training over 0.95, or over 0.5 and 30 points ahead; of values (R2) over 0.9
    with validation below the target, else below a linear model that finds something, or without
    either, or fallen by 0.05 since its best; or over 0.5 and 0.6 ahead. A target that was reached
    excuses all but a validation that has fallen. Silent when the splits share rows or differ in
    their classes, on a model that is hardly better than a trivial one on its own samples, and on
    non-finite losses.
    """
    scores = read_scores(evidence)
    if broken(evidence):
        raise NotJudged("the loss is not finite, which nan_loss explains")
    if scores is None:
        raise NotJudged(f"{evidence.metric} was not logged on both splits, or has no known scale")
    if overlapping_or_skewed(evidence):
        return None
    points = in_points(evidence)
    limit = GAP_POINTS if points else GAP_VARIANCE
    noise = 2 * standard_error(evidence, scores.validation) if points else 0.0
    if scores.gap <= max(limit, noise) or scores.train <= _nothing(evidence):
        return None
    losses = _losses(evidence)
    turned = losses is not None and losses.rise >= RISE and losses.training_falls
    if not turned and not _by_heart(evidence, scores, limit, points=points):
        return None
    symptoms = _symptoms(scores, limit, losses if turned else None)
    return Diagnosis(
        id="overfitting",
        cause=Cause.OVERFITTING,
        summary=_summary(evidence, scores, losses if turned else None),
        confidence=confidence(symptoms),
        symptoms=symptoms,
        where=f"after epoch {losses.best_epoch}" if losses is not None and turned else "",
        details=(
            f"training {scores.train:.4f}, validation {scores.validation:.4f}, "
            f"best validation {scores.best_validation:.4f}",
        ),
        recommendations=by_worth(_fixes(evidence, turned)),
        curve=_validation_loss(evidence, losses),
    )


def _validation_loss(evidence: Evidence, losses: _Losses | None) -> Curve | None:
    """The validation loss, marked at its best epoch, with the limit of 1.2 times its minimum."""
    train = epoch_values(evidence, "train", "loss")
    held_out = epoch_values(evidence, "validation", "loss")
    if losses is None:
        return None
    return picture(
        "validation loss",
        ("epoch", f"loss (training ends at {train[-1]:.3g})"),
        [float(record.epoch) for record in evidence.epochs],
        held_out,
        mark=float(losses.best_epoch),
        limit=RISE * min(held_out),
    )


def _losses(evidence: Evidence) -> _Losses | None:
    train = epoch_values(evidence, "train", "loss")
    held_out = epoch_values(evidence, "validation", "loss")
    if len(held_out) != len(evidence.epochs) or len(train) != len(held_out):
        return None
    lowest = min(held_out, default=0.0)
    if len(held_out) <= EVALUATIONS or not lowest > 0:
        return None
    best = held_out.index(lowest)
    return _Losses(
        best_epoch=evidence.epochs[best].epoch,
        rise=min(held_out[-EVALUATIONS:]) / lowest,
        training_falls=train[-1] < train[best],
    )


def _by_heart(evidence: Evidence, scores: Scores, limit: float, *, points: bool) -> bool:
    """Whether the samples are known and the gap is no price of a good validation score."""
    goal = target(evidence)
    error = standard_error(evidence, scores.validation) if points else 0.0
    has_fallen = scores.best_validation - scores.validation > max(FALLEN, 2 * error)
    is_known = scores.train >= (LEARNED_POINTS if points else LEARNED_VARIANCE)
    if goal is not None and scores.best_validation >= goal:
        return is_known and has_fallen
    if scores.gap > FAR * limit and scores.train >= HALF_LEARNED:
        return True
    simple = reference(evidence, "linear_validation") if goal is None else goal
    falls_short = simple is None or simple <= _nothing(evidence) or scores.best_validation < simple
    # Of values, noise is learned by heart early on, and the rest is what there is to learn.
    return is_known and (points or falls_short or has_fallen)


def _nothing(evidence: Evidence) -> float:
    """The skill up to which nothing was found: hardly more than a trivial model's."""
    return max(reference(evidence, "trivial") or 0.0, 0.0) + LEAST_LEAD


def _summary(evidence: Evidence, scores: Scores, turned: _Losses | None) -> str:
    gap = f"Training is {scores.gap:.2f} ahead of validation in {evidence.metric}"
    if turned is None:
        return f"{gap}: the training samples are known by heart and the rest falls short."
    return f"{gap}, and the validation loss has been rising since epoch {turned.best_epoch}."


def _symptoms(scores: Scores, limit: float, losses: _Losses | None) -> tuple[Symptom, ...]:
    gap = Symptom(what="gap", measured=scores.gap, limit=limit)
    if losses is None:
        return (gap,)
    rise = Symptom(what="validation loss over its minimum", measured=losses.rise, limit=RISE)
    return (gap, rise)


def _fixes(evidence: Evidence, turned: bool) -> list[Recommendation]:
    best, train = best_validation_score(evidence), late_train_score(evidence)
    quarter = None if best is None or train is None else best + 0.25 * (train - best)
    half = None if best is None or train is None else best + 0.5 * (train - best)
    reach = span(evidence, best, quarter)
    fixes = [more_dropout(evidence, can_patch, reach), more_decay(evidence, can_patch, reach)]
    if turned and not setting(evidence, "training.early_stopping"):
        fixes.append(_stop_early(evidence, best))
    fixes += narrower(evidence, can_patch, reach)
    fixes.append(
        Recommendation(
            instruction="add training samples, or augment those there are in Task.data (training "
            "split only) with changes that keep the target: flips, crops, noise, synonyms",
            impact="high",
            effort="high",
            predicted=span(evidence, best, half),
        )
    )
    return fixes


def _stop_early(evidence: Evidence, best: float | None) -> Recommendation:
    """Keeps what the best epoch reached, give or take a standard error."""
    known = can_patch(evidence, "training.early_stopping")
    error = standard_error(evidence, best) if best is not None and in_points(evidence) else 0.0
    return Recommendation(
        instruction="stop when validation has not improved for 5 epochs",
        patch={"training.early_stopping": {"patience": 5, "min_delta": 0.0}} if known else {},
        impact="high",
        predicted=None if best is None else span(evidence, best - error, best + error),
    )
