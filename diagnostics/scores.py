"""The objective's metric on a scale where higher is better, so that limits mean the same for all.

`skill` of a metric that is maximised is the metric itself (accuracy, F1, R2: 1 is perfect). Of one
that is minimised it is the share of the trivial model's error that is gone, `1 - score / trivial`
(squared for RMSE, which makes it R2).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_mltrainer.diagnostics.readings import (
    broken,
    epoch_values,
    finite,
    last_third,
    lookup,
    loss_curve,
    mean,
    number_in,
    step_values,
)

from pytest_mltrainer.core.evidence import Evidence, NotJudged

LEAST_LEAD = 0.05
LEAD_OF_TREES = 0.2
"""What trees must be ahead of a trivial model for a shortfall behind them to count."""
NEAR_TRIVIAL = 0.2
LEAST_FALL = 0.1
HELD_BACK = 0.1
SHORT_OF_LEAD = 0.15
VARIANCE_METRICS = ("r2", "explained_variance")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Skill on training and validation: late in the run (mean of `late`) and at best."""

    train: float
    validation: float
    best_validation: float

    @property
    def gap(self) -> float:
        """How far training is ahead of validation, late in the run."""
        return self.train - self.validation


def in_points(evidence: Evidence) -> bool:
    """Whether the metric is a share from 0 to 1, whose differences are percentage points."""
    return (
        evidence.maximize
        and evidence.kind != "regression"
        and evidence.metric.lower() not in VARIANCE_METRICS
    )


def skill(evidence: Evidence, score: float | None) -> float | None:
    """The score as skill, or None when it is missing, or its scale is unknown.

    Unknown: a maximised metric above 1, a minimised one without a positive trivial score, or so
    far beyond it that the share overflows.
    """
    if score is None or finite(score) is None:
        return None
    if evidence.maximize:
        return score if score <= 1 + 1e-9 else None
    trivial = finite(evidence.references.get("trivial"))
    if trivial is None or trivial <= 0:
        return None
    ratio = score / trivial
    return finite(1 - (ratio * abs(ratio) if evidence.metric.lower() == "rmse" else ratio))


def reference(evidence: Evidence, name: str) -> float | None:
    """The skill of a simple model on validation by its name in `Evidence.references`; or None."""
    return skill(evidence, finite(evidence.references.get(name)))


def attainable(evidence: Evidence) -> float | None:
    """The best skill that a simple model, linear or trees, reached on validation; or None."""
    found = (reference(evidence, name) for name in ("linear_validation", "attainable"))
    return max((value for value in found if value is not None), default=None)


def target(evidence: Evidence) -> float | None:
    """The objective's target as skill, or None."""
    return skill(evidence, finite(evidence.target))


def read_scores(evidence: Evidence) -> Scores | None:
    """Late and best skill of the run, or None when either split has no readable score."""
    columns = []
    for split in ("train", "validation"):
        read = [skill(evidence, raw) for raw in epoch_values(evidence, split, evidence.metric)]
        known = [value for value in read if value is not None]
        if not known or len(known) != len(read):
            return None
        columns.append(known)
    train, validation = columns
    return Scores(
        train=mean(late(train)),
        validation=mean(late(validation)),
        best_validation=max(validation),
    )


def is_held_back(evidence: Evidence) -> bool:
    """Whether validation is far ahead of training, late in the run: 0.1, and three errors.

    Training scores are taken as the epoch goes, with what regularises at work: dropout, mixtures,
    augmentation. So far behind, it is these that keep the model from learning its own samples.
    """
    scores = read_scores(evidence)
    if scores is None:
        return False
    noise = 3 * standard_error(evidence, scores.validation) if in_points(evidence) else 0.0
    return scores.validation - scores.train > max(HELD_BACK, noise)


def is_learning(evidence: Evidence) -> bool:
    """Whether the run got anywhere. Raises NotJudged when neither scores nor losses tell.

    It gained 20 % of the lead that a simple model (else the target) has over the trivial one, on
    training or validation, late in the run. Where that lead is under 0.05 or unknown: the smoothed
    training loss ended 10 % below its start. A run that a non-finite value ended did not.
    """
    if broken(evidence):
        return False
    scores, trivial = read_scores(evidence), reference(evidence, "trivial")
    goal = attainable(evidence)
    goal = target(evidence) if goal is None else goal
    if scores and trivial is not None and goal is not None and goal - trivial >= LEAST_LEAD:
        near = trivial + NEAR_TRIVIAL * (goal - trivial)
        return max(scores.train, scores.validation) > near
    curve = loss_curve(evidence)
    if not curve:
        raise NotJudged("under 24 steps: whether the model learns cannot be told")
    first = (step_values(evidence, "loss") or curve)[0]
    start = max(first, curve[0])
    return mean(last_third(curve)) < start - LEAST_FALL * abs(start)


def is_well(evidence: Evidence) -> bool:
    """Whether the model did what could be asked of it, late in the run. Raises NotJudged.

    Its validation reaches the target or comes within 0.05, or 15 % of its lead over the trivial
    model, of the best simple model, whichever is lower; goals that are no better than the trivial
    model count for nothing, and without any goal a run is well that learns and beats the trivial
    model on validation.
    """
    scores, trivial = read_scores(evidence), reference(evidence, "trivial")
    best = attainable(evidence)
    lead = 0.0 if best is None or trivial is None else best - trivial
    goals = [
        target(evidence),
        None if best is None else best - max(LEAST_LEAD, SHORT_OF_LEAD * lead),
    ]
    floor = -math.inf if trivial is None else trivial
    known = [goal for goal in goals if goal is not None and goal > floor]
    if broken(evidence) or scores is None:
        return is_learning(evidence)
    if not known:
        return scores.validation > floor and is_learning(evidence)
    return scores.validation >= min(known)


def needs_activation(evidence: Evidence) -> int:
    """How many layers make no more than one affine map together, where bending could mend it.

    0 where they bend, and where a linear model is 0.05 better on validation: what keeps one affine
    map below another is a bottleneck, or its training.
    """
    layers = lookup(evidence.probes, "initial", "layers")
    count = len(layers) if isinstance(layers, list) else 0
    if count < 2 or lookup(evidence.probes, "inputs", "affine") is not True:
        return 0
    scores, linear = read_scores(evidence), reference(evidence, "linear_validation")
    if scores is None or linear is None:
        return count
    return count if linear - scores.best_validation < LEAST_LEAD else 0


def generalises(evidence: Evidence) -> bool | None:
    """Whether validation, late in the run, gained 20 % of the lead that a simple model has.

    None where no simple model is better than the trivial one by 0.05, or scores are unknown.
    """
    scores, trivial = read_scores(evidence), reference(evidence, "trivial")
    goal = attainable(evidence)
    if broken(evidence) or scores is None or trivial is None or goal is None:
        return None
    if goal - trivial < LEAST_LEAD:
        return None
    return scores.validation > trivial + NEAR_TRIVIAL * (goal - trivial)


def late(values: Sequence[float]) -> Sequence[float]:
    """The last three values; of a run shorter than nine epochs, its last third."""
    return values[-min(3, max(1, len(values) // 3)) :]


def best_validation_score(evidence: Evidence) -> float | None:
    """The best finite validation metric as it was logged, or None."""
    logged = [
        value
        for value in epoch_values(evidence, "validation", evidence.metric)
        if finite(value) is not None
    ]
    if not logged:
        return None
    return max(logged) if evidence.maximize else min(logged)


def late_train_score(evidence: Evidence) -> float | None:
    """The mean training metric late in the run as it was logged, or None."""
    logged = late(epoch_values(evidence, "train", evidence.metric))
    return mean(logged) if logged and all(finite(value) is not None for value in logged) else None


def span(evidence: Evidence, one: float | None, other: float | None) -> tuple[float, float] | None:
    """The range between two metric values, low first, cut at a perfect score; None if unknown."""
    if one is None or other is None:
        return None
    low, high = sorted((one, other))
    if evidence.maximize:
        return (min(low, 1.0), min(high, 1.0))
    return (max(low, 0.0), max(high, 0.0))


def near_linear(evidence: Evidence) -> tuple[float, float] | None:
    """Where a network that trains should land: the linear model's score, give or take a tenth.

    A tenth of the linear model's lead over the trivial one. None without both references.
    """
    trivial = number_in(evidence.references, "trivial")
    linear = number_in(evidence.references, "linear_validation")
    if trivial is None or linear is None:
        return None
    tenth = 0.1 * (linear - trivial)
    return span(evidence, linear - tenth, linear + tenth)


def standard_error(evidence: Evidence, share: float) -> float:
    """Standard error of a share measured on the validation split; 0 when its size is unknown."""
    n = number_in(evidence.profile, "splits", "validation", "n")
    if n is None or n < 1 or not 0 <= share <= 1:
        return 0.0
    return math.sqrt(share * (1 - share) / n)


def overlapping_or_skewed(evidence: Evidence) -> bool:
    """Whether train and validation share rows beyond chance, or differ in their classes.

    Differ: a validation class that training lacks, or class shares that are apart by more than
    0.3 in total variation (50 rows in each at least).
    """
    pair = lookup(evidence.profile, "overlap", "train/validation")
    shared = (number_in(pair, "share") or 0) - (number_in(pair, "chance") or 0)
    if (number_in(pair, "ids") or 0) > 0 or shared >= 0.05:
        return True
    classes = lookup(evidence.profile, "targets", "classes")
    if not isinstance(classes, dict):
        return False
    train = [number_in(counts, "train") or 0.0 for counts in classes.values()]
    held_out = [number_in(counts, "validation") or 0.0 for counts in classes.values()]
    if sum(train) <= 0 or sum(held_out) <= 0:
        return False
    pairs = list(zip(train, held_out, strict=True))
    unseen = any(seen == 0 and wanted > 0 for seen, wanted in pairs)
    distance = sum(abs(a / sum(train) - b / sum(held_out)) for a, b in pairs) / 2
    return unseen or (min(sum(train), sum(held_out)) >= 50 and distance > 0.3)
