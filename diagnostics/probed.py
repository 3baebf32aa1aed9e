"""How detectors read the probes: a part that was not measured is a reason, never a guess."""

from collections.abc import Iterable, Mapping
from typing import Any

from pytest_mltrainer.core.evidence import Evidence, NotJudged

LIMIT_SHOWN = 5


def probed(evidence: Evidence, part: str) -> Mapping[str, Any]:
    """The facts of a probe. Raises NotJudged when it is missing or could not be measured."""
    facts = (evidence.probes or {}).get(part)
    if not isinstance(facts, Mapping):
        raise NotJudged(f"planning left no probe of the {part}")
    if facts.get("judged") is not True:
        raise NotJudged(str(facts.get("reason", "not measured")))
    return facts


def names_in(facts: Mapping[str, Any], key: str) -> list[str]:
    """The texts of a list, or an empty list."""
    found = facts.get(key)
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def listed(names: Iterable[str]) -> str:
    """The first five names, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - LIMIT_SHOWN} more" if len(every) > LIMIT_SHOWN else ""
    return ", ".join(every[:LIMIT_SHOWN]) + more
