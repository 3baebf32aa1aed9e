"""One run of the pipeline, as pytest drives it: what may start, what was judged, what it means."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_mltrainer.core import ledger
from pytest_mltrainer.core.artifacts import RunFolder
from pytest_mltrainer.core.catalogue import catalogue
from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.errors import StaleError
from pytest_mltrainer.core.execution import do_phase
from pytest_mltrainer.core.files import read_json
from pytest_mltrainer.core.hooks import offered, plugin_manager
from pytest_mltrainer.core.overlay import Overlay, make_overlay, overlaid, store_overlay
from pytest_mltrainer.core.pipeline import (
    LONG_TRAINING_S,
    PhaseState,
    Planned,
    decisions_of,
    gate_basis,
    inspect,
    make_plan,
)
from pytest_mltrainer.core.project import PHASES, Project
from pytest_mltrainer.core.route import DECIDING, accepted_patch, need, why_not_final
from pytest_mltrainer.core.steps import STEPS
from pytest_mltrainer.core.verdict import (
    CheckResult,
    GateOutcome,
    Verdict,
    last_identity,
    outcome_of,
    store_verdict,
    worst,
)
from pytest_mltrainer.core.witness import store_witnessed, witnessed_by
from pytest_mltrainer.core.work import WorkEvent
from pytest_mltrainer.launchers import choose
from pytest_mltrainer.reporting.html import write_report
from pytest_mltrainer.reporting.junit import write_gate_xml

if TYPE_CHECKING:
    from pytest_mltrainer.training.run import TrainingRun

BEHIND_DIAGNOSIS = ("optimization", "finalization")
"""The targets that a broken baseline is repaired for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSummary:
    """How a gate ended, for the summary and the exit status."""

    phase: str
    outcome: GateOutcome
    note: str
    results: Sequence[CheckResult] = ()
    missing: Sequence[str] = ()
    identity: str = ""


@dataclass(slots=True)
class PipelineRun:
    """The state of one `pytest --phase=target`. `user_checks`: phase to check id to file."""

    project: Project
    config: Config
    target: str
    frozen: bool = False
    retrain: bool = False
    is_partial: bool = False
    user_checks: dict[str, dict[str, Path]] = field(default_factory=dict)
    plan: dict[str, Planned] = field(default_factory=dict)
    summaries: dict[str, GateSummary] = field(default_factory=dict)
    results: dict[str, dict[str, list[CheckResult]]] = field(default_factory=dict)
    phase_errors: dict[str, str] = field(default_factory=dict)
    overlay: Overlay | None = None
    before_repair: dict[str, GateSummary] = field(default_factory=dict)
    durations_s: dict[str, float] = field(default_factory=dict)
    _runs: "dict[str, TrainingRun]" = field(default_factory=dict)

    @property
    def phases(self) -> list[str]:
        """The phases up to the target that this version can do, in order."""
        return [phase for phase in PHASES[: PHASES.index(self.target) + 1] if phase in STEPS]

    def state(self, phase: str) -> PhaseState:
        """The state of a phase as it is on disk now."""
        checks: Mapping[str, Path] = self.user_checks.get(phase, {})
        state = inspect(self.project, self.config_of(phase), phase, checks, anywhere=self.frozen)
        if self.is_partial:
            # Only a part of the user's tests was asked for: that others are gone means nothing.
            gone = [why for why in state.verdict_changes if why.endswith(" is gone")]
            changes = [why for why in state.verdict_changes if why not in gone]
            sources = "the source of a check changed"
            if gone and sources in changes:
                changes.remove(sources)
            return replace(state, verdict_changes=changes)
        return state

    def config_of(self, phase: str) -> Config:
        """The configuration of the project for a phase: the final model has what was found."""
        if phase != "finalization":
            return self.config
        patch = accepted_patch(self._decisions())
        return self.config.with_patch(phase, patch) if patch else self.config

    def make_plan(self) -> None:
        """Decide what is honoured, judged and run, from what is on disk."""
        states = {phase: self.state(phase) for phase in self.phases}
        self.plan = {entry.phase: entry for entry in make_plan(self.target, states)}
        for phase, entry in self.plan.items():
            verdict = states[phase].verdict if phase in states else None
            if entry.action == "honour" and verdict is not None:
                self.summaries[phase] = GateSummary(
                    phase=phase, outcome="PASS", note="HONOURED", identity=verdict.identity
                )
            elif entry.action == "not needed" and phase in states:
                self.leave_out(phase, entry.reason)

    def is_honoured(self, phase: str) -> bool:
        """Whether the phase's stored PASS verdict stands for it."""
        return phase in self.plan and self.plan[phase].action == "honour"

    def why_blocked(self, phase: str) -> str | None:
        """Why a phase must not start: an earlier gate is not PASS, or the decision says so."""
        for earlier in self.phases[: self.phases.index(phase)]:
            summary = self.summaries.get(earlier)
            if summary is None or summary.outcome not in self._opening(earlier, phase):
                outcome = summary.outcome if summary else "not judged"
                return f"the gate of {earlier} is {outcome}"
        return why_not_final(self._decisions()) if phase == "finalization" else None

    def _opening(self, earlier: str, phase: str) -> tuple[GateOutcome, ...]:
        """Outcomes of an earlier gate behind which a phase may start."""
        if (earlier, phase) == ("baseline", "diagnostics") and earlier not in self.phase_errors:
            # A broken baseline is what there is to explain.
            return ("PASS", "FAIL")
        return ("PASS", "NOT NEEDED")

    def why_not_needed(self, phase: str) -> str | None:
        """Why the way to the target does not lead through a phase; None when it does, or may."""
        needed = need(phase, self.target, self._decisions())
        return needed.reason if needed.answer == "no" else None

    def leave_out(self, phase: str, reason: str) -> None:
        """Note that the way to the target does not lead through a phase."""
        self.summaries[phase] = GateSummary(phase=phase, outcome="NOT NEEDED", note=reason)

    def _decisions(self) -> Mapping[str, Mapping[str, Any] | None]:
        deciding = [phase for phase in DECIDING if phase in self.phases]
        return decisions_of({phase: self.state(phase) for phase in deciding})

    def work(self, phase: str, on_event: Callable[[WorkEvent], None]) -> str:
        """Bring the phase's work up to date; returns what was done.

        Raises StaleError where doing it is forbidden, WorkFailed when it was not finished.
        """
        state = self.state(phase)
        if state.is_done:
            return "up to date"
        reasons = "; ".join(state.reasons)
        if self.frozen:
            raise StaleError(
                f"{phase} is not what --mltrainer-frozen wants to judge: {reasons}. Run "
                f"`pytest --phase={phase}` where training is allowed, and bring its artifacts here"
            )
        trained_s = state.recorded_s(["train"]) if "train" in state.redo else None
        if trained_s is not None and trained_s > LONG_TRAINING_S and not self.retrain:
            raise StaleError(
                f"{phase} would be trained again, which took {trained_s / 60:.0f} minutes: "
                f"{reasons}. Add --mltrainer-retrain if that is meant"
            )
        start = time.perf_counter()
        more = offered(plugin_manager(self.project), "mltrainer_launchers")
        launcher = choose(self.config, state.redo, more)
        do_phase(self.project, self.config_of(phase), phase, state.redo, launcher, on_event)
        self.durations_s[phase] = time.perf_counter() - start
        self._runs.pop(phase, None)
        return f"{reasons}: did {', '.join(state.redo)} in {self.durations_s[phase]:.1f} s"

    def training_run(self, phase: str) -> "TrainingRun":
        """The artifacts of a phase, as its checks read them."""
        if phase not in self._runs:
            from pytest_mltrainer.training.run import TrainingRun

            self._runs[phase] = TrainingRun(self.project, self.config_of(phase), phase)
        return self._runs[phase]

    def repair(self) -> Overlay | None:
        """The overlay that planning and baseline start again with; None where nothing repairs.

        Once: a baseline that is broken with an overlay needs a person.
        """
        decision = self.decision("diagnostics")
        if self.frozen or self.overlay is not None or self.target not in BEHIND_DIAGNOSIS:
            return None
        summary = self.summaries.get("diagnostics")
        if summary is None or summary.outcome != "PASS" or not decision:
            return None
        if decision["next"] != "planning":
            return None
        folder = RunFolder(self.project.run_folder).phase("diagnostics")
        advice = read_json(folder.artifact("recommendations.json"))
        patch: dict[str, Any] = next((entry["patch"] for entry in advice if entry["patch"]), {})
        issue = read_json(folder.artifact("diagnosis.json"))["issue"] or "the baseline"
        return make_overlay(self.config, patch, issue) if patch else None

    def restart(self, overlay: Overlay) -> None:
        """Begin again with the overlay; what was judged before is kept in `before_repair`."""
        store_overlay(self.project.run_folder, overlay)
        run = RunFolder(self.project.run_folder)
        ledger.record(run, ledger.REPAIRED, patch=dict(overlay.patch))
        self.overlay = overlay
        self.config = overlaid(self.config, overlay)
        self.before_repair = {
            phase: summary
            for phase, summary in self.summaries.items()
            if phase not in BEHIND_DIAGNOSIS
        }
        for kept in (self.plan, self.summaries, self.results, self.phase_errors, self._runs):
            kept.clear()
        self.make_plan()

    def record(self, phase: str, result: CheckResult) -> None:
        """Add a result of a check; of several of one id the worst will count."""
        self.results.setdefault(phase, {}).setdefault(result.id, []).append(result)

    def conclude(self, phase: str) -> None:
        """Give the gate its verdict, and store it unless only a part was judged."""
        if phase in self.summaries:
            return
        if error := self.phase_errors.get(phase):
            self.summaries[phase] = GateSummary(phase=phase, outcome="FAIL", note=error)
            return
        folder = RunFolder(self.project.run_folder).phase(phase)
        manifest = folder.manifest()
        if manifest is None:
            self.summaries[phase] = GateSummary(phase=phase, outcome="INCOMPLETE", note="not done")
            return
        results = {name: worst(every) for name, every in self.results.get(phase, {}).items()}
        basis = gate_basis(self.config, manifest, self.user_checks.get(phase, {}))
        stored = self.state(phase).verdict
        required = set(basis.required)
        if self.is_partial and stored is not None:
            required |= set(stored.basis.required)
        outcome = outcome_of(results, sorted(required))
        verdict = Verdict(
            phase=phase,
            outcome=outcome,
            basis=basis,
            checks={name: result.outcome for name, result in results.items()},
            previous=last_identity(folder),
            witnessed=witnessed_by(stored, results),
            upstream={
                earlier: summary.identity
                for earlier, summary in self.summaries.items()
                if summary.identity
            },
        )
        if outcome != "INCOMPLETE":
            when = datetime.now(UTC).isoformat(timespec="seconds")
            store_witnessed(folder, results)
            store_verdict(folder, verdict, results, when)
            write_gate_xml(folder, verdict, list(results.values()))
            write_report(folder, verdict, list(results.values()), manifest.decision)
        self.summaries[phase] = GateSummary(
            phase=phase,
            outcome=outcome,
            note="",
            results=list(results.values()),
            missing=sorted(required.difference(results)),
            identity=verdict.identity if outcome != "INCOMPLETE" else "",
        )

    def block(self, phase: str, reason: str) -> None:
        """Note that a phase could not start."""
        self.summaries[phase] = GateSummary(phase=phase, outcome="BLOCKED", note=reason)

    @property
    def is_passed(self) -> bool:
        """Whether every gate up to the target that is needed is PASS."""
        return all(
            phase in self.summaries and self.summaries[phase].outcome in ("PASS", "NOT NEEDED")
            for phase in self.phases
        )

    def decision(self, phase: str = "baseline") -> Mapping[str, Any] | None:
        """The decision of a phase, where the pipeline came that far."""
        if phase not in self.phases:
            return None
        state = self.state(phase)
        return state.manifest.decision if state.manifest and state.is_done else None


def required_checks(phase: str) -> dict[str, str]:
    """Pytest ids of the built-in checks of a gate with their check ids."""
    return {check.nodeid: check.id for check in catalogue(phase)}
