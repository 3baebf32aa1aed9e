"""How detectors read the profile's comparisons of samples, and whether a finding did harm."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_mltrainer.diagnostics.readings import lookup, number_in, text_in
from pytest_mltrainer.diagnostics.scores import is_well

from pytest_mltrainer.core.evidence import Evidence, NotJudged

CHANCE_ERRORS = 3.0
# A reference that errs nearly as often as the most frequent class cannot tell noise.
TELLING = 0.7


def judged_part(evidence: Evidence, *path: str) -> Mapping[str, Any]:
    """A part of the profile that was judged. Raises NotJudged with the reason that it gives."""
    found = lookup(evidence.profile, *path)
    if not isinstance(found, Mapping):
        raise NotJudged(f"the profile of the data has no {' '.join(path)}")
    if found.get("judged") is not True:
        raise NotJudged(text_in(found, "reason") or f"{' '.join(path)} was not judged")
    return found


def entries(tree: object, *path: str) -> list[Mapping[str, Any]]:
    """The mappings in a list of the profile; empty where there is none."""
    found = lookup(tree, *path)
    if not isinstance(found, Sequence) or isinstance(found, str):
        return []
    return [entry for entry in found if isinstance(entry, Mapping)]


def texts(tree: object, *path: str) -> list[str]:
    """The entries of a list of the profile as texts; empty where there is none."""
    found = lookup(tree, *path)
    if not isinstance(found, Sequence) or isinstance(found, str):
        return []
    return [str(entry) for entry in found]


def trained(evidence: Evidence) -> bool:
    """Whether there was a training to judge the finding by."""
    return bool(evidence.epochs) or bool(evidence.fault)


def did_no_harm(evidence: Evidence) -> bool:
    """Whether a training came out well all the same; False before one and where it cannot tell."""
    try:
        return bool(evidence.epochs) and is_well(evidence)
    except NotJudged:
        return False


def shared_share(evidence: Evidence, pair: str) -> float:
    """The share of a pair's samples that are equal or nearly so, beyond what chance explains.

    Where a few categories repeat their rows by nature, both the share and what is expected of it
    are counts that vary: an excess of under 3 of its standard errors is 0.
    """
    overlap = lookup(evidence.profile, "overlap", pair)
    near = lookup(evidence.profile, "relations", "duplicates", "pairs", pair)
    by_chance = number_in(overlap, "chance") or 0.0
    near_by_chance = number_in(overlap, "chance_near") or 0.0
    share = number_in(overlap, "share") or 0.0
    rows = (number_in(overlap, "content") or 0.0) / share if share else 0.0
    equal = number_in(overlap, "estimated") or share
    alike = number_in(near, "estimated") or 0.0
    expected = number_in(evidence.profile, "relations", "duplicates", "chance") or 0.0
    return max(
        _beyond(equal, by_chance, rows),
        _beyond(alike, max(near_by_chance, expected), number_in(near, "of") or 0.0),
        0.0,
    )


def _beyond(share: float, by_chance: float, rows: float) -> float:
    spread = math.sqrt(2 * by_chance * (1 - by_chance) / rows) if rows and by_chance < 1 else 0.0
    return share - by_chance if share - by_chance > CHANCE_ERRORS * spread else 0.0
