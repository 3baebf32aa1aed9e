"""What to do next: from the state of each phase to a plan. Pure decisions, no work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pytest_mltrainer.core.artifacts import MANIFEST, Manifest, PhaseFolder, RunFolder
from pytest_mltrainer.core.catalogue import catalogue, source_digest
from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.core.files import read_json
from pytest_mltrainer.core.inputs import CurrentInputs
from pytest_mltrainer.core.project import PHASES, Project
from pytest_mltrainer.core.route import need, why_not_final
from pytest_mltrainer.core.steps import STEPS, with_dependents
from pytest_mltrainer.core.verdict import Basis, Verdict, basis_of, load_verdict

Action = Literal["honour", "judge", "run", "not needed", "perhaps", "blocked"]
LONG_TRAINING_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseState:
    """What is there of a phase, and what is not what it was.

    `elsewhere`: what computed otherwise where it was done than it does here.
    """

    phase: str
    manifest: Manifest | None
    stale: Mapping[str, Sequence[str]] = field(default_factory=dict)
    verdict: Verdict | None = None
    verdict_changes: Sequence[str] = ()
    rehearsed_s: float | None = None
    elsewhere: Sequence[str] = ()

    @property
    def is_done(self) -> bool:
        """Whether the work is there and belongs to the present code, configuration and data."""
        return self.manifest is not None and not self.stale

    @property
    def is_honoured(self) -> bool:
        """Whether a PASS verdict still holds for exactly what is there."""
        return (
            self.is_done
            and self.verdict is not None
            and self.verdict.outcome == "PASS"
            and not self.verdict_changes
        )

    @property
    def redo(self) -> tuple[str, ...]:
        """The steps to do, in order."""
        return with_dependents(self.phase, self.stale)

    @property
    def reasons(self) -> list[str]:
        """Why the work is not done, each change once."""
        return list(dict.fromkeys(reason for reasons in self.stale.values() for reason in reasons))

    @property
    def estimated_s(self) -> float | None:
        """How long `redo` will take: as the last time, else as the rehearsed steps suggest."""
        recorded = self.recorded_s(self.redo)
        return self.rehearsed_s if recorded is None and "train" in self.redo else recorded

    def recorded_s(self, steps: Sequence[str]) -> float | None:
        """How long `steps` took the last time; None when one was never done."""
        done = self.manifest.steps if self.manifest else {}
        if not all(name in done for name in steps):
            return None
        return sum(done[name].duration_s for name in steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """What will be done about a phase, and why."""

    phase: str
    action: Action
    reason: str
    steps: tuple[str, ...] = ()
    estimated_s: float | None = None


def inspect(
    project: Project,
    config: Config,
    phase: str,
    user_checks: Mapping[str, Any],
    *,
    anywhere: bool = False,
) -> PhaseState:
    """The state of a phase. `user_checks` maps the ids of the user's checks to their files.

    Files are hashed, nothing is imported. Damage is a reason to redo, never an exception.
    `anywhere`: that other versions or hardware did the work is no reason to redo it.
    """
    run = RunFolder(project.run_folder)
    folder = run.phase(phase)
    rehearsed_s = _rehearsed_s(run, config, phase)
    try:
        manifest = folder.manifest()
    except StorageError as error:
        return _absent(phase, str(error), rehearsed_s)
    if manifest is None:
        return _absent(phase, "not done yet", rehearsed_s)
    inputs = CurrentInputs(project, config, run)
    stale, elsewhere = _stale_steps(folder, manifest, inputs, anywhere=anywhere)
    try:
        verdict = load_verdict(folder)
    except StorageError as error:
        return PhaseState(phase=phase, manifest=manifest, stale=stale, verdict_changes=[str(error)])
    basis = gate_basis(config, manifest, user_checks)
    return PhaseState(
        phase=phase,
        manifest=manifest,
        stale=stale,
        verdict=verdict,
        verdict_changes=verdict.basis.differences(basis) if verdict else [],
        elsewhere=elsewhere,
    )


def _stale_steps(
    folder: PhaseFolder, manifest: Manifest, inputs: CurrentInputs, *, anywhere: bool
) -> tuple[dict[str, list[str]], list[str]]:
    """Why each stale step is stale, and what `anywhere` forgives."""
    phase = folder.phase
    damaged = folder.damaged(manifest)
    stale: dict[str, list[str]] = {}
    elsewhere: list[str] = []
    for step in STEPS[phase]:
        record = manifest.steps.get(step.name)
        if record is None:
            stale[step.name] = [f"step {step.name} was not done"]
            continue
        changes = inputs.changes(step, phase, record.inputs)
        if anywhere:
            elsewhere += [change.text() for change in changes if change.is_numerics]
            changes = [change for change in changes if not change.is_numerics]
        reasons = [change.text() for change in changes]
        reasons += [
            f"artifact {phase}/{name} {what}"
            for name, what in damaged.items()
            if name in record.outputs
        ]
        if reasons:
            stale[step.name] = reasons
    strangers = [
        f"artifact {phase}/{name} {what}"
        for name, what in damaged.items()
        if name not in manifest.artifacts
    ]
    if strangers:
        stale.setdefault(STEPS[phase][-1].name, []).extend(strangers)
    return stale, list(dict.fromkeys(elsewhere))


def gate_basis(config: Config, manifest: Manifest, user_checks: Mapping[str, Any]) -> Basis:
    """What the gate of `manifest.phase` judges now, and by what."""
    resolved = config.to_json()
    required = [check.id for check in catalogue(manifest.phase)] + sorted(user_checks)
    return basis_of(
        manifest,
        objective=resolved["objective"],
        limits={"limits": resolved["limits"], "budgets": resolved["budgets"]},
        sources=source_digest(manifest.phase, list(user_checks.values())),
        required=required,
    )


def make_plan(target: str, states: Mapping[str, PhaseState]) -> list[Planned]:
    """One entry a phase up to `target`; what lies behind a stale phase is decided later."""
    plan: list[Planned] = []
    prefix_holds = True
    decisions = decisions_of(states)
    for phase in PHASES[: PHASES.index(target) + 1]:
        needed = need(phase, target, decisions)
        if needed.answer != "yes":
            action: Action = "not needed" if needed.answer == "no" else "perhaps"
            plan.append(Planned(phase=phase, action=action, reason=needed.reason))
            continue
        state = states[phase]
        waits = phase == "finalization" and all(entry.action != "run" for entry in plan)
        if waits and (why := why_not_final(decisions)):
            plan.append(Planned(phase=phase, action="blocked", reason=why))
            continue
        prefix_holds = prefix_holds and state.is_honoured and phase != target
        plan.append(_planned(state, honour=prefix_holds))
    return plan


def decisions_of(states: Mapping[str, PhaseState]) -> dict[str, Mapping[str, Any] | None]:
    """The decisions of the phases whose work is current."""
    return {
        phase: state.manifest.decision
        for phase, state in states.items()
        if state.manifest is not None and state.is_done
    }


def _planned(state: PhaseState, *, honour: bool) -> Planned:
    where = f"; done elsewhere: {', '.join(state.elsewhere)}" if state.elsewhere else ""
    if honour and state.verdict is not None:
        reason = f"verdict {state.verdict.identity[:12]} holds, nothing changed{where}"
        return Planned(phase=state.phase, action="honour", reason=reason)
    if state.is_done:
        reason = (
            "; ".join(state.verdict_changes) or "artifacts are current, the gate is judged live"
        )
        return Planned(phase=state.phase, action="judge", reason=reason + where)
    return Planned(
        phase=state.phase,
        action="run",
        reason="; ".join(state.reasons),
        steps=state.redo,
        estimated_s=state.estimated_s,
    )


def _absent(phase: str, reason: str, rehearsed_s: float | None) -> PhaseState:
    return PhaseState(
        phase=phase,
        manifest=None,
        stale={step.name: [reason] for step in STEPS[phase]},
        rehearsed_s=rehearsed_s,
    )


def _rehearsed_s(run: RunFolder, config: Config, phase: str) -> float | None:
    """Seconds that the epochs of a phase take at the pace of planning's rehearsal."""
    planning = run.phase("planning")
    if planning.phase == phase or not (planning.path / MANIFEST).exists():
        return None
    try:
        first = read_json(planning.artifact("rehearsal/first.json"))
        steps = first["updates_per_epoch"] * config.for_phase(phase).training.epochs
        return float(first["step_s"] * steps)
    except (StorageError, KeyError, TypeError):
        return None
