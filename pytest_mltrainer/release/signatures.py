"""The signatures of one finalization: what is to be signed, what was, and how each role stands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_mltrainer.core.artifacts import MANIFEST, VERDICT, Manifest, RunFolder
from pytest_mltrainer.core.chain import way
from pytest_mltrainer.core.digests import digest_value, sha256_file
from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.core.verdict import Verdict, load_verdict
from pytest_mltrainer.release.approvals import (
    Desk,
    Standing,
    Stored,
    Subjects,
    read_statements,
    standing,
)
from pytest_mltrainer.release.policy import VARIABLE, find_policy, load_policy
from pytest_mltrainer.release.signers import PolicyError
from pytest_mltrainer.release.statement import APPROVALS, REVIEW, WAIVER, Role
from pytest_mltrainer.release.subject import FINAL, code_subject, model_subject, recorded_authors

if TYPE_CHECKING:
    from pytest_mltrainer.core.config import Config

NO_POLICY = (
    "there is no policy that says who may sign: write one in a protected place and name it in "
    f"${VARIABLE}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signatures:
    """Statements beside a run with what each role has to sign now."""

    subjects: Subjects
    statements: Sequence[Stored]
    desk: Desk | None

    @classmethod
    def read(cls, run: RunFolder, root: Path | None, model: Mapping[str, Any]) -> "Signatures":
        """Read policy and statements. `model` is what the approvals are about.

        Raises PolicyError for a policy that is missing where one is named, or not protected.
        """
        manifest = run.phase(FINAL).manifest()
        if manifest is None:
            raise StorageError(f"{run.phase(FINAL).path}: finalization is not done; run it first")
        path = find_policy(root, run.path)
        return cls(
            subjects={REVIEW: code_subject(manifest), **dict.fromkeys(APPROVALS, model)},
            statements=read_statements(run),
            desk=Desk.open(load_policy(path), recorded_authors(run)) if path else None,
        )

    def standing(self, role: Role) -> Standing:
        """How a role stands. Raises PolicyError when there are statements and no policy."""
        if self.desk is not None:
            return standing(role, self.subjects, self.statements, self.desk)
        if self.statements:
            raise PolicyError(NO_POLICY)
        return Standing(role=role, outcome="missing", reason="nobody has signed yet")


def judged_now(run: RunFolder, config: "Config") -> dict[str, Any]:
    """What the approvals are about while the gate still judges: all but the outcomes of checks.

    Raises StorageError when finalization is not done.
    """
    manifest = run.phase(FINAL).manifest()
    if manifest is None:
        raise StorageError(f"{run.phase(FINAL).path}: finalization is not done; run it first")
    resolved = config.to_json()
    return model_subject(
        manifest,
        records=_records(run),
        objective=digest_value(resolved["objective"]),
        limits=digest_value({"limits": resolved["limits"], "budgets": resolved["budgets"]}),
        upstream=_upstream(run),
        checks=None,
    )


def concluded_model(run: RunFolder, manifest: Manifest, verdict: Verdict) -> dict[str, Any]:
    """What the approvals are about once the gate has judged, with the outcomes of the checks."""
    return model_subject(
        manifest,
        records=_records(run),
        objective=verdict.basis.objective,
        limits=verdict.basis.limits,
        upstream=verdict.upstream,
        checks=verdict.unsigned_checks,
    )


def waivable_model(model: Mapping[str, Any], check: str) -> dict[str, Any]:
    """What a waiver is about: one check of one model."""
    kept = ("artifacts", "records", "objective", "limits", "upstream")
    return {name: model[name] for name in kept} | {"check": check}


def waiver_of(
    check: str, model: Mapping[str, Any], every: Sequence[Stored], desk: Desk
) -> Standing:
    """Whether the failure of a check is waived for this model."""
    return standing("waiver", {WAIVER: waivable_model(model, check)}, every, desk)


def _records(run: RunFolder) -> dict[str, str]:
    """The digests of the manifests on the way, and of the verdicts but the last."""
    names = [f"{phase}/{MANIFEST}" for phase in way(run)]
    names += [f"{phase}/{VERDICT}" for phase in way(run) if phase != FINAL]
    return {name: sha256_file(run.path / name) for name in names}


def _upstream(run: RunFolder) -> dict[str, str]:
    """The identities of the verdicts on the way to finalization."""

    found = {}
    for phase in way(run):
        verdict = load_verdict(run.phase(phase)) if phase != FINAL else None
        if verdict is not None:
            found[phase] = verdict.identity
    return found
