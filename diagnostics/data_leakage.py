"""Scores measure memory or a give-away: the same samples in two splits, or a column that tells."""

from collections.abc import Mapping
from typing import Any

from pytest_mltrainer.diagnostics.data_facts import shared_share, texts
from pytest_mltrainer.diagnostics.readings import lookup, number_in, text_in
from pytest_mltrainer.diagnostics.scores import best_validation_score, in_points, span

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

SHARE_LIMIT = 0.05
WINDOWS_LIMIT = 0.1
FEWEST_SAMPLES = 3
ALONE_LIMIT = 0.02
OTHERS_LIMIT = 0.1
PAIRS = ("train/validation", "train/test", "validation/test")
SHOWN_EXAMPLES = 5


def detect(evidence: Evidence) -> Diagnosis | None:
    """Speaks on a shared identity, on 5 % of (nearly) equal samples, and on a column that tells.

    Shares are of the smaller split, less what chance explains (categories repeat by nature), and
    from 3 samples on. A column tells when looking the target up in it errs under 0.02 while all
    other columns together leave 0.1 or more: one strong column among other useful ones is silent.
    It tells as well when real-valued targets lie exactly on one straight line in it in 5 % of the
    rows, in training and in validation: an encoding of the target over all rows does that. And
    windows of one recording stand on both sides where in 10 % of the samples of a split a training
    sample begins. Samples that were cropped, mirrored or reworded are not found.
    """
    if not isinstance(lookup(evidence.profile, "overlap"), Mapping):
        raise NotJudged("the profile of the data does not compare the splits")
    shared = [pair for pair in PAIRS if _leaks(evidence, pair)]
    column = _column(evidence) or _on_a_line(evidence)
    symptoms = [symptom for pair in shared for symptom in _symptoms(evidence, pair)]
    symptoms += [*_alone(column), *_windows(evidence)]
    if not symptoms:
        return None
    return Diagnosis(
        id="data_leakage",
        cause=Cause.LEAK_OR_SKEW,
        summary=_summary(evidence, shared, column),
        confidence=confidence(symptoms),
        symptoms=tuple(symptoms),
        where=_where(evidence, shared, column),
        details=tuple(_counted(evidence, pair) for pair in shared),
        recommendations=by_worth(_fixes(evidence, shared, column)),
    )


def _overlap(evidence: Evidence, pair: str) -> object:
    return lookup(evidence.profile, "overlap", pair)


def _near(evidence: Evidence, pair: str) -> object:
    return lookup(evidence.profile, "relations", "duplicates", "pairs", pair)


def _leaks(evidence: Evidence, pair: str) -> bool:
    if (number_in(_overlap(evidence, pair), "ids") or 0) > 0:
        return True
    counts = [
        number_in(_overlap(evidence, pair), "content"),
        number_in(_near(evidence, pair), "near"),
    ]
    known = [count for count in counts if count]
    enough = not known or max(known) >= FEWEST_SAMPLES
    return enough and shared_share(evidence, pair) >= SHARE_LIMIT


def _symptoms(evidence: Evidence, pair: str) -> list[Symptom]:
    found = []
    if (ids := number_in(_overlap(evidence, pair), "ids") or 0) > 0:
        found.append(Symptom(what=f"shared identities {pair}", measured=ids, limit=0.0))
    if (share := shared_share(evidence, pair)) >= SHARE_LIMIT:
        equal = (number_in(_overlap(evidence, pair), "share") or 0) >= SHARE_LIMIT
        what = "shared content" if equal else "nearly equal samples"
        found.append(Symptom(what=f"{what} {pair}", measured=share, limit=SHARE_LIMIT))
    return found


def _windows(evidence: Evidence) -> list[Symptom]:
    shares = {pair: number_in(_overlapping(evidence, pair), "share") or 0.0 for pair in PAIRS}
    return [
        Symptom(what=f"overlapping windows {pair}", measured=share, limit=WINDOWS_LIMIT)
        for pair, share in shares.items()
        if share >= WINDOWS_LIMIT
    ]


def _overlapping(evidence: Evidence, pair: str) -> object:
    return lookup(evidence.profile, "relations", "windows", "pairs", pair)


def _column(evidence: Evidence) -> Mapping[str, Any] | None:
    """The facts of a column that tells the target alone, or None; places of words are none."""
    if "embed" in text_in(evidence.profile, "model", "first_layer").lower():
        return None
    facts = lookup(evidence.profile, "relations", "alone")
    error, others = number_in(facts, "error"), number_in(facts, "others")
    if not isinstance(facts, Mapping) or error is None or others is None:
        return None
    return facts if error <= ALONE_LIMIT and others >= OTHERS_LIMIT else None


def _on_a_line(evidence: Evidence) -> Mapping[str, Any] | None:
    """The facts of a column that equals the target, but for scale, in part of the rows; or None."""
    facts = lookup(evidence.profile, "relations", "line")
    shares = [number_in(facts, split) or 0.0 for split in ("train", "validation")]
    if not isinstance(facts, Mapping) or min(shares) < SHARE_LIMIT:
        return None
    counts = [
        number_in(evidence.profile, "splits", split, "sampled") or 0.0
        for split in ("train", "validation")
    ]
    enough = all(n * share >= FEWEST_SAMPLES for n, share in zip(counts, shares, strict=True))
    return {**facts, "columns": [text_in(facts, "column")]} if enough else None


def _alone(column: Mapping[str, Any] | None) -> list[Symptom]:
    if column is None:
        return []
    if "error" not in column:
        return [
            Symptom(
                what=f"{split} targets that are column {text_in(column, 'column')} exactly, "
                "but for scale",
                measured=number_in(column, split) or 0.0,
                limit=SHARE_LIMIT,
            )
            for split in ("train", "validation")
        ]
    alone, others = number_in(column, "error") or 0.0, number_in(column, "others") or 0.0
    name = text_in(column, "column")
    return [
        Symptom(what=f"error by column {name} alone", measured=alone, limit=ALONE_LIMIT),
        Symptom(what="error by all other columns", measured=others, limit=OTHERS_LIMIT),
    ]


def _summary(evidence: Evidence, shared: list[str], column: Mapping[str, Any] | None) -> str:
    if shared:
        return (
            f"Samples stand in two splits ({', '.join(shared)}): the scores on the second are too "
            "good."
        )
    if windows := _windows(evidence):
        return (
            "Windows of one recording stand on both sides: training samples begin in the midst of "
            f"{windows[0].measured:.0%} of the others, with the same values."
        )
    if column is not None and "error" not in column:
        return (
            f"Column {text_in(column, 'column')} is the target itself, but for scale, in "
            f"{number_in(column, 'validation') or 0:.0%} of the rows: it was made from the target."
        )
    return (
        f"Column {text_in(column, 'column')} alone tells the target, and all others together do "
        "not: it probably follows from the target."
    )


def _where(evidence: Evidence, shared: list[str], column: Mapping[str, Any] | None) -> str:
    places = [_examples(evidence, pair) for pair in shared]
    places += [_begins(evidence, pair) for pair in PAIRS if _windows(evidence)]
    if column is not None:
        places.append(f"columns {', '.join(texts(column, 'columns'))}")
    return "; ".join(filter(None, places))


def _examples(evidence: Evidence, pair: str) -> str:
    rows = lookup(_overlap(evidence, pair), "examples")
    rows = rows or lookup(_near(evidence, pair), "examples")
    if not isinstance(rows, (list, tuple)):
        return ""
    whole = [row for row in rows if isinstance(row, (list, tuple)) and len(row) == 4]
    sign = "=" if lookup(_overlap(evidence, pair), "examples") else "~"
    shown = whole[:SHOWN_EXAMPLES]
    return ", ".join(f"{one} row {i} {sign} {other} row {j}" for one, i, other, j in shown)


def _begins(evidence: Evidence, pair: str) -> str:
    rows = lookup(_overlapping(evidence, pair), "examples")
    if not isinstance(rows, (list, tuple)):
        return ""
    whole = [row for row in rows if isinstance(row, (list, tuple)) and len(row) == 5]
    return ", ".join(
        f"{one} row {i} begins at value {place} of {other} row {j}"
        for one, i, other, j, place in whole[:SHOWN_EXAMPLES]
    )


def _counted(evidence: Evidence, pair: str) -> str:
    entry, near = _overlap(evidence, pair), _near(evidence, pair)
    ids, content = (int(number_in(entry, name) or 0) for name in ("ids", "content"))
    text = f"{pair}: {ids} shared identities, {content} rows of equal content"
    alike, looked_up = number_in(near, "near"), number_in(near, "of")
    if alike is None or looked_up is None:
        return text
    return f"{text}, {alike:.0f} of {looked_up:.0f} nearly equal"


def _fixes(
    evidence: Evidence, shared: list[str], column: Mapping[str, Any] | None
) -> list[Recommendation]:
    fixes = []
    if shared:
        by_identity = any((number_in(_overlap(evidence, pair), "ids") or 0) > 0 for pair in shared)
        how = (
            "split by identity (sklearn.model_selection.GroupShuffleSplit with the key that "
            "Task.sample_key returns)"
            if by_identity
            else "drop equal and nearly equal rows, or split by what they have in common,"
        )
        fixes.append(
            Recommendation(
                instruction=f"in Task.data, {how} before splitting, then plan and train again; "
                "oversample and augment only after the split",
                impact="high",
                effort="medium",
                predicted=_honest_range(evidence),
            )
        )
    if _windows(evidence):
        fixes.append(
            Recommendation(
                instruction="in Task.data, divide the recordings, or their time with a gap of one "
                "window, and cut the windows of each split afterwards",
                impact="high",
                effort="medium",
            )
        )
    if column is not None and "error" not in column:
        fixes.append(
            Recommendation(
                instruction="in Task.data, make encodings of the target from training rows only, "
                "each without its own (sklearn.preprocessing.TargetEncoder does both)",
                impact="high",
            )
        )
    if column is not None:
        fixes.append(
            Recommendation(
                instruction=f"in Task.data, drop {', '.join(texts(column, 'columns'))} unless the "
                "value is known before the target is, at the time of the prediction",
                impact="high",
            )
        )
    return fixes


def _honest_range(evidence: Evidence) -> tuple[float, float] | None:
    """The score without the leak, `(v - s) / (1 - s)` if each leaked row was right, up to v."""
    share = shared_share(evidence, "train/validation")
    score = best_validation_score(evidence)
    if score is None or not 0 < share < 1 or not in_points(evidence):
        return None
    return span(evidence, max(0.0, (score - share) / (1 - share)), score)
