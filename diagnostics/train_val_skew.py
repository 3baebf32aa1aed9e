"""Training and validation are not drawn from the same source."""

from pytest_mltrainer.diagnostics.data_facts import (
    TELLING,
    did_no_harm,
    entries,
    judged_part,
    texts,
)
from pytest_mltrainer.diagnostics.merged_classes import merged_pairs
from pytest_mltrainer.diagnostics.readings import lookup, number_in, text_in
from pytest_mltrainer.diagnostics.scores import read_scores

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

AUC_LIMIT = 0.75
SHIFT_LIMIT = 0.5
DISTANCE_LIMIT = 0.2
BY_CHANCE = 1e-3
GAP_LIMIT = 0.15
HELD_SHARE = 0.5
CERTAIN = 4.0
SHOWN = 3
OTHER_MEANINGS = "what is learned within a split and lost from one to the other"


def detect(evidence: Evidence) -> Diagnosis | None:
    """Speaks when a classifier tells the splits apart, their classes or their meanings differ.

    Told apart: the 95 % lower bound of its cross-validated AUC is over 0.75. Classes: validation
    has one that training lacks, beyond chance, or label shares are over 0.2 apart (total
    variation) with under 1 in 1,000 by chance, unless training was rebalanced to equal shares or
    classes of its labels were merged. Meanings: a simple model learns within each split, and less
    than half of that holds from one to the other, 4 standard errors less on the same rows.
    Silent after a training that came out well, validation no more than 0.15 behind training,
    except on classes that training lacks. Splits that
    cannot be compared (augmented training, no arrays) speak by their labels or are not judged.
    """
    labels = lookup(evidence.profile, "relations", "skew", "labels")
    unseen = texts(labels, "unseen")
    symptoms: list[Symptom] = []
    if unseen:
        symptoms.append(
            Symptom(what="classes that training lacks", measured=float(len(unseen)), limit=0.0)
        )
    if not did_no_harm(evidence) or _falls_behind(evidence):
        symptoms += _told_apart(evidence) + _other_meanings(evidence)
        symptoms += [] if merged_pairs(evidence) else _other_shares(labels)
    if not symptoms:
        # Raises with the reason where nothing but the labels could be looked at.
        judged_part(evidence, "relations", "skew")
        return None
    return Diagnosis(
        id="train_val_skew",
        cause=Cause.LEAK_OR_SKEW,
        summary=_summary(unseen, symptoms),
        confidence=confidence(symptoms),
        symptoms=tuple(symptoms),
        where=_where(evidence, unseen, labels),
        recommendations=by_worth(_fixes(evidence, symptoms)),
    )


def _falls_behind(evidence: Evidence) -> bool:
    """Whether validation is far behind training, whatever references reach on such a split."""
    scores = read_scores(evidence)
    return scores is not None and scores.gap > GAP_LIMIT


def _told_apart(evidence: Evidence) -> list[Symptom]:
    try:
        facts = judged_part(evidence, "relations", "skew")
    except NotJudged:
        return []
    area, low = number_in(facts, "auc"), number_in(facts, "auc_low")
    if area is None or low is None or low <= AUC_LIMIT or area > 1:
        return []
    found = [Symptom(what="AUC of telling the splits apart", measured=area, limit=AUC_LIMIT)]
    shifts = [abs(number_in(entry, "shift") or 0.0) for entry in entries(facts, "moved")]
    if shifts and max(shifts) > SHIFT_LIMIT:
        found.append(
            Symptom(
                what="furthest shift of a column",
                measured=max(shifts),
                limit=SHIFT_LIMIT,
                unit="deviations",
            )
        )
    return found


def _other_meanings(evidence: Evidence) -> list[Symptom]:
    facts = lookup(evidence.profile, "relations", "across")
    known = [number_in(facts, name) for name in ("train", "validation", "across", "trivial")]
    train, validation, across, trivial = known
    if train is None or validation is None or across is None or not trivial:
        return []
    within = max(train, validation)
    if within >= TELLING * trivial or (number_in(facts, "errors") or 0.0) < CERTAIN:
        return []
    held = max(0.0, trivial - across) / (trivial - within)
    if held >= HELD_SHARE:
        return []
    return [Symptom(what=OTHER_MEANINGS, measured=1 - held, limit=1 - HELD_SHARE)]


def _other_shares(labels: object) -> list[Symptom]:
    distance, by_chance = number_in(labels, "distance"), number_in(labels, "by_chance")
    if distance is None or by_chance is None or lookup(labels, "rebalanced") is True:
        return []
    if distance <= DISTANCE_LIMIT or by_chance >= BY_CHANCE:
        return []
    return [Symptom(what="distance of label shares", measured=distance, limit=DISTANCE_LIMIT)]


def _summary(unseen: list[str], symptoms: list[Symptom]) -> str:
    if unseen:
        return (
            f"Validation has classes that training lacks ({', '.join(unseen[:5])}): no model can "
            "learn them."
        )
    if symptoms[0].what == OTHER_MEANINGS:
        return (
            "What can be learned within training, and within validation, does not hold from one to "
            "the other: the inputs or labels have other meanings."
        )
    if symptoms[0].limit == DISTANCE_LIMIT:
        return "Training and validation have different shares of the classes."
    return "Training and validation look different: a simple classifier tells which is which."


def _where(evidence: Evidence, unseen: list[str], labels: object) -> str:
    places = [f"classes {', '.join(unseen[:5])}"] if unseen else []
    for entry in entries(evidence.profile, "relations", "skew", "moved")[:SHOWN]:
        shift, spread = number_in(entry, "shift"), number_in(entry, "spread")
        column = text_in(entry, "column")
        if column and shift is not None and spread is not None:
            places.append(f"column {column} (mean {shift:+.2g} deviations, spread x {spread:.2g})")
    if _other_shares(labels):
        for entry in entries(labels, "furthest")[:SHOWN]:
            own, other = number_in(entry, "train") or 0.0, number_in(entry, "validation") or 0.0
            places.append(f"class {text_in(entry, 'label')} ({own:.0%} against {other:.0%})")
    return "; ".join(places)


def _fixes(evidence: Evidence, symptoms: list[Symptom]) -> list[Recommendation]:
    fixes = []
    if any(symptom.what == OTHER_MEANINGS for symptom in symptoms):
        fixes.append(
            Recommendation(
                instruction="in Task.data, number words, categories and classes once, from "
                "training, and use that for all splits; see that columns stand in one order",
                impact="high",
            )
        )
    moved = [symptom for symptom in symptoms if symptom.what != OTHER_MEANINGS]
    if any(symptom.limit in (AUC_LIMIT, SHIFT_LIMIT) for symptom in moved):
        fixes += [
            Recommendation(
                instruction="in Task.data, fit the transform on training and apply the same one to "
                "all splits; see that none is scaled twice or not at all",
                impact="high",
            ),
            Recommendation(
                instruction="if the samples come from several sources or times, let each split "
                "have some of all, or declare the shift and expect the gap",
                impact="high",
                effort="medium",
            ),
        ]
    if any(symptom.limit in (0.0, DISTANCE_LIMIT) for symptom in moved):
        fixes.append(
            Recommendation(
                instruction="in Task.data, split by class (sklearn.model_selection."
                "train_test_split(stratify=targets)) after shuffling",
                impact="high",
            )
        )
    return fixes
