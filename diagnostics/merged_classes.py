"""Classes whose name training gives to rows of another class: how that is told and said."""

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_mltrainer.diagnostics.data_facts import TELLING, entries, texts
from pytest_mltrainer.diagnostics.readings import lookup, number_in, text_in

from pytest_mltrainer.core.evidence import Evidence, Symptom
from pytest_mltrainer.evaluation.proportions import newcombe

MERGED_LIMIT = 0.15
LEAST_MERGED = 0.05
ONE_SIDED = 0.5
EXPLAINED = 0.5
SHOWN_ROWS = 5


def merged_pairs(evidence: Evidence) -> list[Mapping[str, Any]]:
    """Pairs of classes of which one carries training rows of the other, most first.

    A model of validation calls 15 points more of the label's rows otherwise in training than in
    validation, with Newcombe's lower bound over 5 points at 95 % for all pairs together
    (Bonferroni), and not half as much the other way round, as two classes that are hard to tell
    apart do. Empty where such a model tells little, and where the pairs make up less than half of
    what training disagrees more: then it is no matter of single classes.
    """
    facts = lookup(evidence.profile, "relations", "labels", "merged")
    classes = lookup(evidence.profile, "targets", "classes")
    wrong, trivial = number_in(facts, "validation"), number_in(facts, "trivial")
    if wrong is None or trivial is None or wrong >= TELLING * trivial:
        return []
    count = len(classes) if isinstance(classes, Mapping) else 2
    found = [pair for pair in entries(facts, "pairs") if _is_merged(pair, count * (count - 1))]
    explained = sum(number_in(pair, "explains") or 0.0 for pair in found)
    return found if explained >= EXPLAINED * (number_in(facts, "more") or 0.0) else []


def merged_symptoms(pairs: Sequence[Mapping[str, Any]]) -> tuple[Symptom, ...]:
    """What was measured of each pair."""
    return tuple(
        Symptom(
            what=f"rows labelled {text_in(pair, 'label')} that look like "
            f"{text_in(pair, 'called')}, above validation's",
            measured=_excess(pair),
            limit=MERGED_LIMIT,
        )
        for pair in pairs
    )


def merged_text(pairs: Sequence[Mapping[str, Any]]) -> str:
    """The pairs as people say them: `64 rows of 7 called 1`."""
    return ", ".join(
        f"{number_in(pair, 'count') or 0:.0f} rows of {text_in(pair, 'called')} called "
        f"{text_in(pair, 'label')}"
        for pair in pairs
    )


def merged_rows(pairs: Sequence[Mapping[str, Any]]) -> str:
    """Where the first of these rows stand."""
    rows = [
        f"row {row} ({text_in(pair, 'label')})" for pair in pairs for row in texts(pair, "rows")
    ]
    return f"train {', '.join(rows[:SHOWN_ROWS])}"


def _excess(pair: Mapping[str, Any]) -> float:
    """By how much the label's rows are called otherwise more often in training."""
    shares = [
        (number_in(pair, part) or 0.0) / max(number_in(pair, whole) or 0.0, 1.0)
        for part, whole in (("count", "of"), ("held_out", "held_out_of"))
    ]
    return shares[0] - shares[1]


def _is_merged(pair: Mapping[str, Any], pairs: int) -> bool:
    n, held_out = (int(number_in(pair, name) or 0) for name in ("of", "held_out_of"))
    excess, reverse = _excess(pair), number_in(pair, "reverse") or 0.0
    if min(n, held_out) < 1 or excess < MERGED_LIMIT or reverse > ONE_SIDED * excess:
        return False
    own, other = (number_in(pair, "count") or 0.0) / n, (number_in(pair, "held_out") or 0.0)
    certainty = 1 - 0.05 / max(pairs, 1)
    return newcombe(own, n, other / held_out, held_out, certainty)[0] > LEAST_MERGED
