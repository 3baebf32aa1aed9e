"""Is this run production-ready? From bytes alone: chain, manifests, verdicts, approvals.

Runs none of the user's code and needs neither torch nor the data: what a deploy job calls.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_mltrainer.core.artifacts import RunFolder
from pytest_mltrainer.core.chain import FINAL, Chain, read_chain
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.verdict import SIGNED_CHECKS, Verdict
from pytest_mltrainer.release.signatures import (
    NO_POLICY,
    Signatures,
    concluded_model,
    waiver_of,
)

DELIVERED = "final_model/"
RUN_FOLDER = ".mltrainer"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """What was found; `problems` empty means production-ready."""

    problems: tuple[str, ...]
    phases: Mapping[str, str] = field(default_factory=dict)
    roles: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    waived: Mapping[str, str] = field(default_factory=dict)
    model: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_ready(self) -> bool:
        """Whether nothing at all speaks against deploying."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "schema": 1,
            "production_ready": self.is_ready,
            "problems": list(self.problems),
            "phases": dict(self.phases),
            "roles": dict(self.roles),
            "counts": dict(self.counts),
            "waived": dict(self.waived),
            "model": dict(self.model),
        }


def find_run(path: Path) -> tuple[RunFolder, Path | None]:
    """The run folder at or below `path`, and the project's root where there is one."""
    if (path / FINAL).is_dir() or not (path / "pyproject.toml").exists():
        inside = path / RUN_FOLDER
        is_project = inside.is_dir() and not (path / FINAL).is_dir()
        run = inside if is_project else path
        root = run.parent if (run.parent / "pyproject.toml").exists() else None
    else:
        from pytest_mltrainer.core.project import Project

        root, run = path, Project.load(path).run_folder
    if not run.is_dir():
        raise UserError(f"{run}: there is no run here; name a project's folder, or a run folder")
    return RunFolder(run.resolve()), root


def verify_run(run: RunFolder, root: Path | None) -> Verification:
    """Verify the chain, then each role's signature and each waiver against the policy."""
    chain = read_chain(run, with_final_verdict=True)
    final = chain.links[FINAL]
    verdict, manifest = final.verdict, final.manifest
    problems = list(chain.problems)
    roles: dict[str, str] = {}
    waived: dict[str, str] = {}
    if verdict is not None and manifest is not None:
        try:
            model = concluded_model(run, manifest, verdict)
            signatures = Signatures.read(run, root, model)
            problems += _role_problems(verdict, signatures, roles)
            problems += _waiver_problems(chain, signatures, model, waived)
        except UserError as error:
            problems.append(str(error))
    artifacts = manifest.artifacts if manifest else {}
    return Verification(
        problems=tuple(dict.fromkeys(problems)),
        phases=chain.identities,
        roles=roles,
        counts=chain.counts,
        waived=waived,
        model={name: digest for name, digest in artifacts.items() if name.startswith(DELIVERED)},
    )


def _role_problems(
    verdict: Verdict, signatures: Signatures, roles: dict[str, str]
) -> Iterator[str]:
    """What is missing of the signatures; fills `roles` with how each role stands."""
    for check, role in SIGNED_CHECKS.items():
        outcome = verdict.checks.get(check)
        required = signatures.desk.policy.required if signatures.desk else ()
        if outcome == "not applicable" and role not in required:
            roles[role] = "not applicable, by the configuration"
            continue
        if signatures.desk is None:
            roles[role] = "not signed"
            yield f"{role}: {NO_POLICY}"
            continue
        found = signatures.standing(role)
        roles[role] = f"{found.outcome}: {found.reason}"
        if found.outcome != "approved":
            yield f"{role} is {found.outcome}: {found.reason}"


def _waiver_problems(
    chain: Chain, signatures: Signatures, model: Mapping[str, Any], waived: dict[str, str]
) -> Iterator[str]:
    """What was waived without a valid signature; fills `waived` with the reasons."""
    for phase, link in chain.links.items():
        for check, outcome in link.verdict.checks.items() if link.verdict else ():
            if outcome != "waived":
                continue
            if phase != FINAL or signatures.desk is None:
                yield f"{check} is waived, and no policy allows that"
                continue
            found = waiver_of(check, model, signatures.statements, signatures.desk)
            waived[check] = found.reason
            if found.outcome != "approved":
                yield f"the waiver of {check} is {found.outcome}: {found.reason}"


def lines_of(found: Verification) -> list[str]:
    """The verification for a terminal: phases, roles, how often somebody tried, the outcome."""
    lines = [f"{phase:<13} verdict {identity[:12]}" for phase, identity in found.phases.items()]
    lines += [f"{role:<13} {standing}" for role, standing in found.roles.items()]
    lines += [f"waived        {check}: {reason}" for check, reason in found.waived.items()]
    lines += [f"disclosed     {event}: {count}" for event, count in sorted(found.counts.items())]
    lines += [f"model         {digest[:12]} {name}" for name, digest in found.model.items()]
    if found.is_ready:
        return [*lines, "production-ready"]
    return [*lines, "NOT production-ready:", *(f"  {problem}" for problem in found.problems)]
