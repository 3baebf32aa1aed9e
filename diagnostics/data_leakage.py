"""The same samples stand in two splits, so that a score measures memory."""

from pytest_mltrainer.diagnostics.readings import lookup, number_in
from pytest_mltrainer.diagnostics.scores import best_validation_score, in_points, span

from pytest_mltrainer.core.evidence import Cause, Diagnosis, Evidence, Recommendation, Symptom

CONTENT_LIMIT = 0.05
PAIRS = ("train/validation", "train/test", "validation/test")
SHOWN_EXAMPLES = 5


def detect(evidence: Evidence) -> Diagnosis | None:
    """Speaks when two splits share one sample identity, or 5 % of the smaller one's content.

    Fewer equal rows happen by chance in rounded or categorical data and are silent.
    """
    shared = [pair for pair in PAIRS if _leaks(lookup(evidence.profile, "overlap", pair))]
    if not shared:
        return None
    overlaps = {pair: lookup(evidence.profile, "overlap", pair) for pair in shared}
    by_identity = any((number_in(entry, "ids") or 0) > 0 for entry in overlaps.values())
    return Diagnosis(
        id="data_leakage",
        cause=Cause.LEAK_OR_SKEW,
        summary=f"Samples stand in two splits ({', '.join(shared)}): the scores on the second are "
        "too good.",
        confidence=0.98 if by_identity else 0.9,
        symptoms=tuple(
            symptom for pair, entry in overlaps.items() for symptom in _symptoms(pair, entry)
        ),
        where="; ".join(filter(None, (_examples(entry) for entry in overlaps.values()))),
        details=tuple(_counted(pair, entry) for pair, entry in overlaps.items()),
        recommendations=_fixes(evidence, by_identity),
    )


def _leaks(entry: object) -> bool:
    return (number_in(entry, "ids") or 0) > 0 or (number_in(entry, "share") or 0) >= CONTENT_LIMIT


def _symptoms(pair: str, entry: object) -> list[Symptom]:
    found = []
    if (ids := number_in(entry, "ids") or 0) > 0:
        found.append(Symptom(what=f"shared identities {pair}", measured=ids, limit=0.0))
    if (share := number_in(entry, "share") or 0) >= CONTENT_LIMIT:
        found.append(Symptom(what=f"shared content {pair}", measured=share, limit=CONTENT_LIMIT))
    return found


def _examples(entry: object) -> str:
    rows = lookup(entry, "examples")
    if not isinstance(rows, (list, tuple)):
        return ""
    whole = [row for row in rows if isinstance(row, (list, tuple)) and len(row) == 4]
    shown = whole[:SHOWN_EXAMPLES]
    return ", ".join(f"{one} row {i} = {other} row {j}" for one, i, other, j in shown)


def _counted(pair: str, entry: object) -> str:
    ids, content = (int(number_in(entry, name) or 0) for name in ("ids", "content"))
    return f"{pair}: {ids} shared identities, {content} rows of equal content"


def _fixes(evidence: Evidence, by_identity: bool) -> tuple[Recommendation, ...]:
    how = (
        "split by identity (sklearn.model_selection.GroupShuffleSplit with the key that "
        "Task.sample_key returns)"
        if by_identity
        else "drop equal rows (numpy.unique on the inputs)"
    )
    return (
        Recommendation(
            instruction=f"in Task.data, {how} before splitting, then plan and train again; "
            "oversample and augment only after the split",
            impact="high",
            effort="medium",
            predicted=_honest_range(evidence),
        ),
    )


def _honest_range(evidence: Evidence) -> tuple[float, float] | None:
    """The score without the leak, `(v - s) / (1 - s)` if each leaked row was right, up to v."""
    share = number_in(evidence.profile, "overlap", "train/validation", "share")
    score = best_validation_score(evidence)
    if share is None or score is None or not 0 < share < 1 or not in_points(evidence):
        return None
    return span(evidence, max(0.0, (score - share) / (1 - share)), score)
