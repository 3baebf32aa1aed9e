"""The verdict of a gate, bound to the digests of everything that was judged.

Its identity holds artifacts, objective, limits, check sources, check ids and outcomes; never
times, hosts or measured values, so that judging the same again changes nothing. Checks that wait
for a signature are left out of it: what is signed cannot hold the verdict that it completes.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pytest_mltrainer.core import files
from pytest_mltrainer.core.artifacts import (
    JUDGEMENTS,
    SCHEMA,
    VERDICT,
    Manifest,
    PhaseFolder,
    check_schema,
)
from pytest_mltrainer.core.digests import digest_value
from pytest_mltrainer.core.errors import StorageError

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"

CheckOutcome = Literal[
    "pass", "fail", "cannot judge", "not applicable", "waived", "awaiting signature"
]
GateOutcome = Literal["PASS", "FAIL", "INCOMPLETE", "BLOCKED", "NOT NEEDED", "AWAITING SIGNATURE"]

SignedRole = Literal["review", "technical", "product", "compliance"]
SIGNED_CHECKS: dict[str, SignedRole] = {
    "finalization/code_reviewed": "review",
    "finalization/technical_approval": "technical",
    "finalization/product_approval": "product",
    "finalization/compliance_approval": "compliance",
}
"""The checks that a person's signature completes, with the role that signs."""

_SEVERITY: dict[str, int] = {
    "pass": 0,
    "not applicable": 1,
    "waived": 2,
    "awaiting signature": 3,
    "cannot judge": 4,
    "fail": 5,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """How one check ended, with everything that it judged."""

    id: str
    outcome: CheckOutcome
    reason: str = ""
    duration_s: float = 0.0
    judgements: Sequence[Mapping[str, Any]] = ()
    notes: Sequence[str] = ()
    guidance: str = ""
    witnessed: Mapping[str, bytes] = field(default_factory=dict)


def worst(results: Sequence[CheckResult]) -> CheckResult:
    """Of several results of one check (reruns, subtests) the one that counts."""
    return max(results, key=lambda result: _SEVERITY[result.outcome])


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """Digests of what a gate judges and by what."""

    artifacts: Mapping[str, str]
    objective: str
    limits: str
    check_sources: str
    required: tuple[str, ...]

    def differences(self, other: "Basis") -> list[str]:
        """What changed from `self` to `other`, in words; empty when a verdict still holds."""
        changed = [
            f"artifact {name} changed"
            for name in sorted({*self.artifacts, *other.artifacts})
            if self.artifacts.get(name) != other.artifacts.get(name)
        ]
        if self.objective != other.objective:
            changed.append("the objective changed")
        if self.limits != other.limits:
            changed.append("limits or budgets changed")
        if self.check_sources != other.check_sources:
            changed.append("the source of a check changed")
        changed += [f"check {name} is new" for name in other.required if name not in self.required]
        changed += [f"check {name} is gone" for name in self.required if name not in other.required]
        return changed


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """PASS, FAIL, INCOMPLETE or AWAITING SIGNATURE of one gate, over `basis`.

    `witnessed` are digests of what the checks repeated where the run trained.
    """

    phase: str
    outcome: GateOutcome
    basis: Basis
    checks: Mapping[str, CheckOutcome]
    previous: str = ""
    upstream: Mapping[str, str] = field(default_factory=dict)
    witnessed: Mapping[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """sha256 over everything that makes this verdict another one, signatures left out."""
        return digest_value(
            {
                "phase": self.phase,
                "outcome": self._unsigned_outcome,
                "artifacts": dict(self.basis.artifacts),
                "objective": self.basis.objective,
                "limits": self.basis.limits,
                "check_sources": self.basis.check_sources,
                "required": list(self.basis.required),
                "checks": self.unsigned_checks,
                "witnessed": dict(self.witnessed),
            }
        )

    @property
    def unsigned_checks(self) -> dict[str, CheckOutcome]:
        """The outcomes of the checks that no signature completes: what people sign."""
        return {name: outcome for name, outcome in self.checks.items() if not is_signed(name)}

    @property
    def _unsigned_outcome(self) -> GateOutcome:
        unsigned = [name for name in self.basis.required if not is_signed(name)]
        if len(unsigned) == len(self.basis.required):
            return self.outcome
        return _outcome(self.unsigned_checks, unsigned)

    def to_json(self) -> dict[str, Any]:
        """The verdict as an in-toto Statement with a test-result predicate."""
        by_outcome: dict[str, list[str]] = {name: [] for name in _SEVERITY}
        for name, outcome in sorted(self.checks.items()):
            by_outcome[outcome].append(name)
        return {
            "_type": STATEMENT,
            "schema": SCHEMA,
            "subject": [
                {"name": f"{self.phase}/{name}", "digest": {"sha256": digest}}
                for name, digest in sorted(self.basis.artifacts.items())
            ],
            "predicateType": PREDICATE,
            "predicate": {
                "result": "PASSED" if self.outcome == "PASS" else "FAILED",
                "configuration": [
                    {"name": "objective", "digest": {"sha256": self.basis.objective}},
                    {"name": "limits", "digest": {"sha256": self.basis.limits}},
                    {"name": "check sources", "digest": {"sha256": self.basis.check_sources}},
                ],
                "passedTests": by_outcome["pass"],
                "warnedTests": by_outcome["not applicable"] + by_outcome["waived"],
                "failedTests": by_outcome["fail"]
                + by_outcome["cannot judge"]
                + by_outcome["awaiting signature"],
                "phase": self.phase,
                "outcome": self.outcome,
                "required": list(self.basis.required),
                "checks": dict(self.checks),
                "identity": self.identity,
                "previous": self.previous,
                "upstream": dict(self.upstream),
                "witnessed": dict(self.witnessed),
            },
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any], phase: str, path: Path) -> "Verdict":
        """The verdict that `to_json` wrote. Raises StorageError when forged or damaged.

        Every byte that has a meaning must be the one that `to_json` writes for this verdict.
        """
        check_schema(stored, path)
        try:
            predicate = stored["predicate"]
            configuration = {
                entry["name"]: entry["digest"]["sha256"] for entry in predicate["configuration"]
            }
            basis = Basis(
                artifacts={
                    entry["name"].removeprefix(f"{phase}/"): entry["digest"]["sha256"]
                    for entry in stored["subject"]
                },
                objective=configuration["objective"],
                limits=configuration["limits"],
                check_sources=configuration["check sources"],
                required=tuple(predicate["required"]),
            )
            verdict = cls(
                phase=predicate["phase"],
                outcome=predicate["outcome"],
                basis=basis,
                checks=predicate["checks"],
                previous=predicate["previous"],
                upstream=predicate["upstream"],
                witnessed=predicate["witnessed"],
            )
            is_edited = digest_value(verdict.to_json()) != digest_value(stored)
            earned = _outcome(verdict.checks, basis.required)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise StorageError(
                f"{path}: not a verdict ({error!r}); judge the gate again"
            ) from error
        claims = verdict.outcome in ("PASS", "AWAITING SIGNATURE") and verdict.outcome != earned
        if verdict.phase != phase or is_edited or claims:
            raise StorageError(f"{path}: it was edited after it was written; judge the gate again")
        return verdict


def outcome_of(results: Mapping[str, CheckResult], required: Sequence[str]) -> GateOutcome:
    """PASS only if every required check passed, is waived or is not applicable.

    A failure outweighs a gap, and a gap a missing signature.
    """
    return _outcome({name: result.outcome for name, result in results.items()}, required)


def _outcome(checks: Mapping[str, CheckOutcome], required: Sequence[str]) -> GateOutcome:
    if any(outcome in ("fail", "cannot judge") for outcome in checks.values()):
        return "FAIL"
    if any(name not in checks for name in required):
        return "INCOMPLETE"
    if "awaiting signature" in checks.values():
        return "AWAITING SIGNATURE"
    return "PASS"


def is_signed(check: str) -> bool:
    """Whether a person's signature completes the check."""
    return check in SIGNED_CHECKS


def load_verdict(folder: PhaseFolder) -> Verdict | None:
    """The stored verdict; None when there is none. Raises StorageError when damaged."""
    path = folder.path / VERDICT
    if not path.exists():
        return None
    return Verdict.from_json(files.read_json(path), folder.phase, path)


def store_verdict(
    folder: PhaseFolder, verdict: Verdict, results: Mapping[str, CheckResult], when: str
) -> bool:
    """Append the judgement to the ledger and write the verdict if anything in it is new.

    Returns whether `verdict.json` was written: an unchanged identity leaves its bytes alone, unless
    a signature came or went, or a verdict upstream is another one.
    """
    files.append_json(
        folder.path / JUDGEMENTS,
        {
            "when": when,
            "identity": verdict.identity,
            "outcome": verdict.outcome,
            "checks": {
                name: {
                    "outcome": result.outcome,
                    "reason": result.reason,
                    "judgements": list(result.judgements),
                }
                for name, result in sorted(results.items())
            },
        },
    )
    # A damaged or edited verdict must not stay because its identity still reads right.
    with contextlib.suppress(StorageError):
        stored = load_verdict(folder)
        if stored is not None and _is_the_same(stored, verdict):
            return False
    files.write_json(folder.path / VERDICT, verdict.to_json())
    return True


def _is_the_same(stored: Verdict, verdict: Verdict) -> bool:
    same_checks = dict(stored.checks) == dict(verdict.checks)
    same_upstream = dict(stored.upstream) == dict(verdict.upstream)
    return stored.identity == verdict.identity and same_checks and same_upstream


def last_identity(folder: PhaseFolder) -> str:
    """The identity of the judgement before, from the ledger; empty when there was none."""
    lines = files.read_ledger(folder.path / JUDGEMENTS)
    return str(lines[-1]["identity"]) if lines else ""


def basis_of(
    manifest: Manifest, *, objective: object, limits: object, sources: str, required: Sequence[str]
) -> Basis:
    """The basis of a gate over the artifacts of `manifest`."""
    return Basis(
        artifacts=manifest.artifacts,
        objective=digest_value(objective),
        limits=digest_value(limits),
        check_sources=sources,
        required=tuple(required),
    )
