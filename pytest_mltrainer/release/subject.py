"""What is signed: one final model with all that was judged of it, or the code that trained it."""

from collections.abc import Mapping, Sequence
from typing import Any

from pytest_mltrainer.core.artifacts import Manifest, RunFolder
from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.core.files import read_json

FINAL = "finalization"
OPEN = ("fail", "cannot judge")
"""Outcomes of a check with which nobody can approve."""
_DELIVERED = "final_model/"


def model_subject(
    manifest: Manifest,
    *,
    records: Mapping[str, str],
    objective: str,
    limits: str,
    upstream: Mapping[str, str],
    checks: Mapping[str, str] | None,
) -> dict[str, Any]:
    """Digests of model, exports and all other artifacts, objective, limits, and verdicts upstream.

    `records` seal the bytes of manifests and of verdicts upstream: decisions, and what each step
    was made from. `checks` are the outcomes of the checks that no signature completes; None: not
    compared.
    """
    subject: dict[str, Any] = {
        "artifacts": dict(manifest.artifacts),
        "records": dict(records),
        "objective": objective,
        "limits": limits,
        "upstream": dict(upstream),
    }
    return subject if checks is None else subject | {"checks": dict(checks)}


def code_subject(manifest: Manifest) -> dict[str, Any]:
    """The digest of every source file that the final training was made from.

    A model that is trained again from the same code keeps its review.
    """
    inputs = manifest.steps["train"].inputs
    code = {name: digest for name, digest in inputs.items() if name.startswith("code/")}
    return {"code": code}


def subject_changes(signed: Mapping[str, Any], there: Mapping[str, Any]) -> list[str]:
    """What differs between what was signed and what is there, in words, the model first.

    The outcomes of checks are compared only where `there` has them.
    """
    changes: list[str] = []
    for part in sorted(signed.keys() | there.keys()):
        one, other = signed.get(part), there.get(part)
        if one == other or (part == "checks" and other is None):
            continue
        if isinstance(one, Mapping) and isinstance(other, Mapping):
            changes += _entries(part, one, other)
        else:
            changes.append(f"{part} changed")
    return changes


_WORDS = {
    "artifacts": "artifact",
    "records": "file",
    "upstream": "the verdict of",
    "checks": "check",
}


def _entries(part: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    names = sorted(one.keys() | other.keys(), key=lambda name: (_DELIVERED not in name, name))
    word = _WORDS.get(part, "")
    return [f"{word} {name} changed".strip() for name in names if one.get(name) != other.get(name)]


def recorded_authors(run: RunFolder) -> Sequence[str] | None:
    """Who wrote the code that trained, as planning recorded it from git; None without git."""
    try:
        facts = read_json(run.phase("planning").artifact("source.json"))
    except StorageError:
        return None
    authors = facts.get("authors")
    return [str(author) for author in authors] if isinstance(authors, list) else None
