"""Training labels are wrong more often than validation's."""

import math
from collections.abc import Mapping
from typing import Any

from pytest_mltrainer.diagnostics.batch_mixing import LEAK_LIMIT as MIXING_LIMIT
from pytest_mltrainer.diagnostics.data_facts import (
    TELLING,
    entries,
    judged_part,
    shared_share,
)
from pytest_mltrainer.diagnostics.merged_classes import (
    merged_pairs,
    merged_rows,
    merged_symptoms,
    merged_text,
)
from pytest_mltrainer.diagnostics.readings import can_patch, lookup, number_in, setting, text_in
from pytest_mltrainer.diagnostics.scores import overlapping_or_skewed, read_scores, skill

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
from pytest_mltrainer.evaluation.proportions import newcombe, wilson
from pytest_mltrainer.training.diagnosing.remedies import more_decay, more_dropout

# 20 % of labels replaced at random show as 16 points with ten classes and 20 with two, less what
# the noise costs the reference itself.
EXCESS_LIMIT = 0.15
LEAST_EXCESS = 0.05
# 5 % of residuals are this large by chance.
TAIL_LIMIT, LEAST_TAIL = 0.2, 0.12
BY_NATURE, TWICE = 0.05, 0.1
LEAK_LIMIT = 0.05
# The model itself: in evaluation mode a model does better on what it was trained on.
BEHIND_POINTS, BEHIND_VARIANCE = 0.06, 0.15
CERTAIN = 4.0
SHARES_APART, BY_CHANCE = 0.1, 1e-3
SKEW_LIMIT = 0.75


def detect(evidence: Evidence) -> Diagnosis | None:
    """Speaks when simple references contradict training labels 15 points more than validation's.

    Both are judged unseen, so on splits of one source the two shares are equal. The lower bound
    of Newcombe's 95 % interval must exceed 5 points. Of values: 20 % of training's residuals are
    larger than 95 % of validation's; or 10 % are, and the references explain 0.15 and 4 standard
    errors less of training's variance: many small errors, and no few large ones. After a training
    the model itself is asked as well, of any kind: in evaluation mode its best state is 6 points
    (R2: 0.15) and 4 standard errors worse on the samples that it was trained on than on
    validation. Pairs of classes are named where one carries training rows of the other, as a model
    of validation sees it (`merged_pairs`), which may be far fewer rows. Not judged where neither
    can tell, or where the splits share samples or differ in their source, which explains such a gap
    as well. Noise that is alike in both splits cannot be told from a hard problem and is not seen.
    """
    if pairs := _merged(evidence):
        return _by_pairs(evidence, pairs)
    _must_be_one_source(evidence)
    values = evidence.kind == "regression"
    own = _behind(evidence)
    try:
        facts = judged_part(evidence, "relations", "labels")
        _must_be_telling(facts, values)
    except NotJudged:
        if own is None:
            raise
        return _by_model(evidence, own) if own else None
    numbers = [number_in(facts, name) for name in ("train", "validation", "n_train")]
    train, validation, n = numbers
    if train is None or validation is None or n is None or n < 1:
        raise NotJudged("the profile does not say how often references disagree")
    symptoms = _values_off(facts, train, n) if values else _classes_off(facts, train, validation, n)
    if not symptoms:
        return _by_model(evidence, own) if own else None
    symptoms += own or ()
    what = "values are far from what simple models expect" if values else "labels are contradicted"
    return Diagnosis(
        id="label_noise",
        cause=Cause.LABELS,
        summary=f"Training {what} in {train:.0%} of the samples, against {validation:.0%} in "
        "validation: many of them are wrong.",
        confidence=confidence(symptoms),
        symptoms=symptoms,
        where=_worst(facts),
        details=_details(facts),
        recommendations=by_worth(_fixes(evidence)),
    )


def _behind(evidence: Evidence) -> tuple[Symptom, ...] | None:
    """The best state's skill on validation above that on training; None where it was not asked.

    Empty where it is not behind, and where training samples are made harder on purpose: augmented,
    or rebalanced to other shares of the classes than validation has. Where outputs depend on the
    others of a batch, batches of other sizes make other scores: not asked either.
    """
    modes, scores = lookup(evidence.trained, "modes"), read_scores(evidence)
    train, rows = skill(evidence, number_in(modes, "eval")), number_in(modes, "rows")
    if lookup(modes, "judged") is not True or train is None or scores is None or not rows:
        return None
    if lookup(evidence.profile, "random") is True or _rebalanced(evidence):
        return ()
    if (number_in(evidence.probes, "mixing", "leak") or 0.0) > MIXING_LIMIT:
        return None
    limit = BEHIND_VARIANCE if evidence.kind == "regression" else BEHIND_POINTS
    behind = scores.best_validation - train
    if behind <= max(limit, CERTAIN * _error(evidence, train, scores.best_validation, rows)):
        return ()
    return (Symptom(what="training behind validation, in one state", measured=behind, limit=limit),)


def _error(evidence: Evidence, train: float, validation: float, rows: float) -> float:
    """Standard error of the difference, of shares or roughly of an R2."""
    held_out = number_in(evidence.profile, "splits", "validation", "n") or 1.0
    both = ((train, rows), (validation, held_out))
    if evidence.kind == "regression":
        parts = [(max(1 - score, 0.0), n) for score, n in both]
        return math.sqrt(sum(2 * left**2 / n for left, n in parts))
    labels = lookup(evidence.profile, "targets", "labels")
    each = len(labels) if isinstance(labels, Mapping) and labels else 1
    clipped = [(min(max(score, 0.0), 1.0), n) for score, n in both]
    return math.sqrt(sum(share * (1 - share) / (each * n) for share, n in clipped))


def _rebalanced(evidence: Evidence) -> bool:
    labels = lookup(evidence.profile, "relations", "skew", "labels")
    distance, by_chance = number_in(labels, "distance"), number_in(labels, "by_chance")
    return (distance or 0.0) > SHARES_APART and (by_chance or 0.0) < BY_CHANCE


def _by_model(evidence: Evidence, symptoms: tuple[Symptom, ...]) -> Diagnosis:
    behind = symptoms[0].measured
    return Diagnosis(
        id="label_noise",
        cause=Cause.LABELS,
        summary=f"The model is {behind:.2f} better in {evidence.metric} on validation than on the "
        "samples that it was trained on: many of their targets are wrong.",
        confidence=confidence(symptoms),
        symptoms=symptoms,
        where=_worst(lookup(evidence.profile, "relations", "labels")),
        recommendations=by_worth(_fixes(evidence)),
    )


def _merged(evidence: Evidence) -> list[Mapping[str, Any]]:
    """The pairs of merged classes; other shares of the classes are what these make themselves."""
    shares = shared_share(evidence, "train/validation")
    ids = number_in(evidence.profile, "overlap", "train/validation", "ids") or 0
    low = number_in(evidence.profile, "relations", "skew", "auc_low") or 0
    is_one_source = not ids and shares < LEAK_LIMIT and low <= SKEW_LIMIT
    return merged_pairs(evidence) if is_one_source else []


def _by_pairs(evidence: Evidence, pairs: list[Mapping[str, Any]]) -> Diagnosis:
    symptoms = merged_symptoms(pairs)
    return Diagnosis(
        id="label_noise",
        cause=Cause.LABELS,
        summary="Training labels put samples of one class into another, as a model of validation "
        f"sees them, and not the other way round ({merged_text(pairs)}).",
        confidence=confidence(symptoms),
        symptoms=symptoms,
        where=merged_rows(pairs),
        recommendations=by_worth(_fixes(evidence)),
    )


def _must_be_one_source(evidence: Evidence) -> None:
    if overlapping_or_skewed(evidence) or shared_share(evidence, "train/validation") >= LEAK_LIMIT:
        raise NotJudged("training and validation share samples or differ in their classes")
    if (number_in(evidence.profile, "relations", "skew", "auc_low") or 0) > SKEW_LIMIT:
        raise NotJudged("training and validation differ in their source")


def _must_be_telling(facts: Mapping[str, Any], values: bool) -> None:
    left = number_in(facts, "unexplained" if values else "validation")
    most = 1.0 if values else number_in(facts, "trivial")
    if left is None or most is None or left >= TELLING * most:
        raise NotJudged("simple references hardly learn the task, so they cannot tell its noise")


def _classes_off(
    facts: Mapping[str, Any], train: float, validation: float, n: float
) -> tuple[Symptom, ...]:
    held_out = number_in(facts, "n_validation") or 0
    if held_out < 1 or not (0 <= train <= 1 and 0 <= validation <= 1):
        raise NotJudged("the profile does not say how often references disagree")
    low, _ = newcombe(train, int(n), validation, int(held_out))
    excess = train - validation
    if excess < EXCESS_LIMIT or low <= LEAST_EXCESS:
        return ()
    symptoms = [
        Symptom(what="disagreement above validation's", measured=excess, limit=EXCESS_LIMIT)
    ]
    suspects = number_in(facts, "suspect_share") or 0.0
    if suspects > LEAST_EXCESS:
        symptoms.append(
            Symptom(what="labels that another class claims", measured=suspects, limit=LEAST_EXCESS)
        )
    return tuple(symptoms)


def _values_off(facts: Mapping[str, Any], train: float, n: float) -> tuple[Symptom, ...]:
    if not 0 <= train <= 1:
        return ()
    surely = wilson(train, int(n))[0]
    if train >= TAIL_LIMIT and surely > LEAST_TAIL:
        what = "residuals beyond validation's 95 % quantile"
        return (Symptom(what=what, measured=train, limit=TAIL_LIMIT),)
    names = ("unexplained_train", "unexplained", "unexplained_error")
    own, other, error = (number_in(facts, name) for name in names)
    if own is None or other is None or error is None or train < TWICE or surely <= BY_NATURE:
        return ()
    if own - other <= max(BEHIND_VARIANCE, CERTAIN * error):
        return ()
    what = "R2 of simple models on training behind validation's"
    return (Symptom(what=what, measured=own - other, limit=BEHIND_VARIANCE),)


def _worst(facts: object) -> str:
    shown = [
        f"row {number_in(entry, 'row') or 0:.0f} ({text_in(entry, 'label')}, neighbours say "
        f"{text_in(entry, 'neighbours_say')})"
        for entry in entries(facts, "suspects")[:5]
    ]
    return f"train {', '.join(shown)}" if shown else ""


def _details(facts: Mapping[str, Any]) -> tuple[str, ...]:
    rates = lookup(facts, "rate_by_class")
    if not isinstance(rates, Mapping):
        return ()
    known = {str(label): number_in(rates, label) or 0.0 for label in rates}
    worst = sorted(known, key=lambda label: -known[label])[:5]
    shown = ", ".join(f"{label}: {known[label]:.0%}" for label in worst)
    by = text_in(facts, "reference")
    return (f"share of doubtful labels by class, by {by}: {shown}",) if known else ()


def _fixes(evidence: Evidence) -> list[Recommendation]:
    fixes = [
        Recommendation(
            instruction="look at the named training rows, relabel or drop what is wrong, and find "
            "how it came about (a shifted join, one annotator, a merged class)",
            impact="high",
            effort="high",
        ),
    ]
    if evidence.kind == "classification" and not setting(evidence, "training.label_smoothing"):
        known = can_patch(evidence, "training.label_smoothing")
        fixes.append(
            Recommendation(
                instruction="smooth the labels, which costs less for a wrong one",
                patch={"training.label_smoothing": 0.1} if known else {},
                impact="medium",
            )
        )
    # A wrong label fits no rule: a model that is held back learns the rule before it.
    held_back = (more_decay(evidence, can_patch), more_dropout(evidence, can_patch))
    fixes += [fix for fix in held_back if fix.patch]
    if not setting(evidence, "training.early_stopping"):
        known = can_patch(evidence, "training.early_stopping")
        fixes.append(
            Recommendation(
                instruction="stop early: wrong labels are learned by heart last",
                patch={"training.early_stopping": {"patience": 5, "min_delta": 0.0}}
                if known
                else {},
                impact="medium",
            )
        )
    return fixes
