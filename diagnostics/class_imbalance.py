"""A class is so rare that the model may ignore it, or did."""

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_mltrainer.diagnostics.data_facts import trained
from pytest_mltrainer.diagnostics.readings import can_patch, lookup, number_in, setting

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
from pytest_mltrainer.evaluation.proportions import wilson

# Of an even share. A label of several is rare by nature, and counts from 1 in 100 rows down.
RARE, SCARCE = 0.2, 0.5
RARE_LABEL = 0.01
SCARCE_LABEL = 0.1
RECALL_LIMIT = 0.25
LIKELY_RECALL = 0.5
OTHERS_RECALL = 0.6
FEWEST_SEEN = 5


@dataclass(frozen=True, slots=True)
class Shares:
    """Rows of each class or label in training, of how many rows, and what counts as rare."""

    counts: Mapping[str, float]
    total: float
    rare: float
    scarce: float

    def of(self, label: str) -> float:
        """The share of rows that have the label."""
        return self.counts[label] / self.total


def detect(evidence: Evidence) -> Diagnosis | None:
    """Before training: the rarest class has under a fifth of an even share. A warning.

    With its Wilson interval, so that small splits do not speak by chance, only where a simple
    reference, too, finds under half of it, and no class weights make up for it. After training: a
    class with under half of an even share has a recall under 0.25 (upper bound under 0.5, 5
    validation samples at least), while the others' is 0.6 or more: it is ignored, which a model
    that learns nothing does not show. Labels of multilabel tasks: set on under 1 % of the rows,
    then under 10 %. Classes of other kinds of targets are not counted.
    """
    shares = _shares(evidence)
    if trained(evidence):
        return _ignored(evidence, shares)
    rarest = min(shares.counts, key=lambda label: shares.counts[label])
    share = shares.of(rarest)
    if wilson(share, int(shares.total))[1] >= shares.rare:
        return None
    if setting(evidence, "training.class_weights") == "balanced":
        return None
    recall = number_in(evidence.profile, "relations", "labels", "recall", rarest, "recall")
    if recall is not None and recall >= LIKELY_RECALL:
        return None
    symptoms = (Symptom(what=f"share of class {rarest}", measured=share, limit=shares.rare),)
    return Diagnosis(
        id="class_imbalance",
        cause=Cause.LABELS,
        summary=f"Class {rarest} is so rare ({share:.1%}) that ignoring it costs the model next "
        "to nothing.",
        # Halved: most models learn a rare class all the same, which only the training shows.
        confidence=confidence(symptoms) / 2,
        symptoms=symptoms,
        where=_place(shares, rarest),
        recommendations=by_worth(_fixes(evidence)),
    )


def _ignored(evidence: Evidence, shares: Shares) -> Diagnosis | None:
    recalls = lookup(evidence.trained, "class_recall")
    if not isinstance(recalls, Mapping):
        raise NotJudged("the recall of each class was not recorded")
    measured = {}
    for label in shares.counts:
        recall, n = number_in(recalls, label, "recall"), number_in(recalls, label, "n")
        if recall is not None and n is not None and 0 <= recall <= 1 and n >= FEWEST_SEEN:
            measured[label] = (recall, int(n))
    missed = [
        label
        for label, (recall, n) in measured.items()
        if shares.of(label) < shares.scarce
        and recall < RECALL_LIMIT
        and wilson(recall, n)[1] < LIKELY_RECALL
    ]
    others = [recall for label, (recall, _) in measured.items() if label not in missed]
    if not missed or not others or sum(others) / len(others) < OTHERS_RECALL:
        return None
    worst = min(missed, key=lambda label: (measured[label][0], shares.of(label)))
    symptoms = (
        Symptom(what=f"recall of class {worst}", measured=measured[worst][0], limit=RECALL_LIMIT),
        Symptom(what=f"share of class {worst}", measured=shares.of(worst), limit=shares.scarce),
    )
    return Diagnosis(
        id="class_imbalance",
        cause=Cause.LABELS,
        summary=f"The model ignores class{'es' if len(missed) > 1 else ''} {', '.join(missed[:5])},"
        " rare in training, and is right on the others.",
        confidence=confidence(symptoms),
        symptoms=symptoms,
        where="; ".join(_place(shares, label) for label in missed[:3]),
        details=(f"mean recall of the other classes: {sum(others) / len(others):.3f}",),
        recommendations=by_worth(_fixes(evidence)),
    )


def _shares(evidence: Evidence) -> Shares:
    single = evidence.kind == "classification"
    if not single and evidence.kind != "multilabel":
        raise NotJudged(f"classes of {evidence.kind} targets are not counted")
    found = lookup(evidence.profile, "targets", "classes" if single else "labels")
    if not isinstance(found, Mapping):
        raise NotJudged("the profile of the data counts no classes")
    counts = {str(label): max(0.0, number_in(found, label, "train") or 0.0) for label in found}
    # A class that only validation has is another matter: `train_val_skew` names it.
    counts = {label: count for label, count in counts.items() if count >= 1}
    total = (
        sum(counts.values())
        if single
        else number_in(evidence.profile, "splits", "train", "sampled") or 0.0
    )
    if len(counts) < 2 or total < max(counts.values()):
        raise NotJudged("under two classes are counted in training")
    if single:
        return Shares(counts, total, RARE / len(counts), SCARCE / len(counts))
    return Shares(counts, total, RARE_LABEL, SCARCE_LABEL)


def _place(shares: Shares, label: str) -> str:
    return f"class {label}: {shares.counts[label]:.0f} of {shares.total:.0f} training rows"


def _fixes(evidence: Evidence) -> list[Recommendation]:
    fixes = [
        Recommendation(
            instruction="collect more samples of the rare class, or repeat those of the training "
            "split in Task.data (after the split, never before)",
            impact="high",
            effort="medium",
        ),
        Recommendation(
            instruction="judge by a metric that counts classes alike (balanced_accuracy, "
            "macro_f1), and choose the decision threshold on validation",
            impact="medium",
        ),
    ]
    if evidence.kind != "classification":
        weighing = "give BCEWithLogitsLoss a pos_weight of negatives over positives in Task.loss"
        return [Recommendation(instruction=weighing, impact="high"), *fixes]
    if setting(evidence, "training.class_weights") == "balanced":
        return fixes
    known = can_patch(evidence, "training.class_weights")
    weighing = "weigh the classes by the inverse of their frequency"
    patch = {"training.class_weights": "balanced"} if known else {}
    return [Recommendation(instruction=weighing, patch=patch, impact="high"), *fixes]
