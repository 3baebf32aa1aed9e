"""Diagnostics: explain a baseline, say what to try next, and propose the configuration for it."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from pytest_mltrainer.diagnostics import detectors, short_guidance
from pytest_mltrainer.diagnostics.readings import can_patch
from pytest_mltrainer.phases.common import PhaseWork
from pytest_mltrainer.phases.training import run_so_far

from pytest_mltrainer.core import files
from pytest_mltrainer.core.digests import digest_value, sha256_file
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.hooks import offered, plugin_manager
from pytest_mltrainer.core.overlay import repairs
from pytest_mltrainer.core.proposal import propose
from pytest_mltrainer.core.steps import EVIDENCE, STEPS
from pytest_mltrainer.core.work import WorkRequest
from pytest_mltrainer.training.diagnosing.bottleneck import TIMED_STEPS, breakdown, time_steps
from pytest_mltrainer.training.diagnosing.diagnosis import (
    Examination,
    baseline_of,
    examine,
    why_broken,
)
from pytest_mltrainer.training.diagnosing.diagnostic_report import diagnostic_report, report_plots
from pytest_mltrainer.training.diagnosing.learning_curve import (
    CurvePlan,
    file_of,
    plan_curve,
    train_part,
)
from pytest_mltrainer.training.reproducibility import choose_device, numerics_fingerprint
from pytest_mltrainer.training.run import TrainingRun


def work(request: WorkRequest) -> dict[str, Any]:
    """Do the requested steps of diagnostics and write its artifacts."""
    phase = PhaseWork(request)
    run = run_so_far(phase)
    phase.numerics = numerics_fingerprint(choose_device(run.config.device))
    phase.do("bottleneck", lambda: _bottleneck(phase, run))
    phase.do("capacity", lambda: _capacity(phase, run))
    found = _once(lambda: _examine(phase, run))
    phase.do("diagnose", lambda: _diagnose(phase, found()))
    phase.do("documents", lambda: _documents(phase, run, found()))
    phase.record["upstream"] = phase.upstream_identity("baseline")
    return phase.finish()


def _bottleneck(phase: PhaseWork, run: TrainingRun) -> Iterable[str]:
    """Time the parts of some steps, with loading and with one batch again and again."""
    baseline = baseline_of(run)
    steps = TIMED_STEPS
    if baseline.is_broken:
        # Behind that step there is nothing to time, and validation might not stand NaN.
        steps = min(steps, int(baseline.json("fault.json")["step"]))
    timed = {
        name: time_steps(
            phase.project, phase.config, _scratch(phase, name), steps=steps, repeat=repeat
        )
        for name, repeat in (("loaded", False), ("repeated", True))
    }
    phase.write_json("bottleneck.json", {"asked": steps, **timed})
    split = breakdown(timed["loaded"], timed["repeated"])
    if split is not None:
        phase.report({"kind": "note", "text": split.text()})
        phase.write_json("breakdown.json", split.to_json())
    return ["bottleneck.json", "breakdown.json"]


def _capacity(phase: PhaseWork, run: TrainingRun) -> Iterable[str]:
    """The learning curve's trainings, their cost said first; a failure among them ends them."""
    baseline = baseline_of(run)
    broken = why_broken(baseline)
    plan = plan_curve(
        baseline, run.config.budgets.diagnosis_minutes, broken.reason if broken else ""
    )
    phase.report({"kind": "note", "text": plan.text()})
    _keep_or_drop_parts(phase)
    failed = ""
    try:
        for share in plan.shares:
            _train_part(phase, baseline, plan, share)
    except UserError as error:
        failed = str(error)
    phase.write_json(
        "capacity.json",
        {
            "plan": {name: getattr(plan, name) for name in plan.__slots__},
            "failed": failed,
        },
    )
    return ["capacity.json", "predictions/*.npz"]


def _keep_or_drop_parts(phase: PhaseWork) -> None:
    """Keep what a killed attempt has trained on parts of the data, if it was of the same inputs."""
    step = next(step for step in STEPS[phase.phase] if step.name == "capacity")
    marker = phase.request.folder / "capacity_inputs.json"
    inputs = {"digest": digest_value(phase.inputs_of(step))}
    if not marker.exists() or files.read_json(marker) != inputs:
        for stale in phase.output.glob("predictions/*.npz"):
            stale.unlink()
        files.write_json(marker, inputs)


def _train_part(phase: PhaseWork, baseline: TrainingRun, plan: CurvePlan, share: float) -> None:
    # The predictions on validation are written last.
    if (phase.output / file_of(share, "validation")).exists():
        phase.report({"kind": "note", "text": f"{share:.0%} of the rows: trained before"})
        return
    scratch = _scratch(phase, f"part-{share}")
    train, validation = train_part(baseline, phase.config, plan, share, scratch)
    for split, predictions in (("train", train), ("validation", validation)):
        predictions.save(phase.output / file_of(share, split))
    score = baseline.metric.score(validation.outputs, validation.targets)
    text = f"{share:.0%} of the rows ({len(train)}): validation {baseline.metric.name} {score:.4f}"
    phase.report({"kind": "note", "text": text})


def _examine(phase: PhaseWork, run: TrainingRun) -> Examination:
    manager = plugin_manager(phase.project)
    return examine(run, detectors() | offered(manager, "mltrainer_detectors"), can_patch)


def _diagnose(phase: PhaseWork, found: Examination) -> Iterable[str]:
    """What the evidence, gathered anew, supports; the causes, what to try, the decision."""
    phase.write_json("evidence.json", _evidence_digests(phase))
    phase.write_json("diagnoses.json", found.findings.to_json())
    phase.write_json("learning_curve.json", found.curve.to_json())
    phase.write_json("diagnosis.json", found.to_json())
    phase.write_json("recommendations.json", [advice.to_json() for advice in found.advice])
    phase.decision = found.decision.to_json()
    phase.write_json("decision.json", found.decision.to_json())
    return [
        "evidence.json",
        "diagnoses.json",
        "learning_curve.json",
        "diagnosis.json",
        "recommendations.json",
        "decision.json",
    ]


def _evidence_digests(phase: PhaseWork) -> dict[str, str]:
    """The artifacts that the diagnosis reads, by name, with their digests as they are."""
    return {name: sha256_file(phase.run.path / name) for name in EVIDENCE}


def _documents(phase: PhaseWork, run: TrainingRun, found: Examination) -> Iterable[str]:
    """The report with its plots, and the proposed configuration."""
    if found.preview:
        heading = (
            f"Proposed by pytest --phase=diagnostics: {found.decision.status}.\n"
            "To try it, copy this file over your configuration, then pytest --phase=baseline."
        )
        patch = {**repairs(phase.project), **found.patch}
        proposed = propose(phase.project.config_path, patch, heading)
        files.write_text(phase.output / found.preview, proposed)
    for name, picture in report_plots(found).items():
        files.write_bytes(phase.output / name, picture)
    timed = run.json("bottleneck.json")
    report = diagnostic_report(
        found,
        breakdown(timed["loaded"], timed["repeated"]),
        guidance=short_guidance(found.guidance) if found.guidance else "",
        evidence=run.json("evidence.json"),
    )
    files.write_text(phase.output / "diagnostic_report.md", report)
    return ["diagnostic_report.md", "plots/*.svg", "*.yaml"]


def _scratch(phase: PhaseWork, name: str) -> Path:
    """Where a training that is thrown away writes; beside the artifacts, gone with the attempt."""
    return phase.request.folder / "scratch" / name


def _once(make: Callable[[], Examination]) -> Callable[[], Examination]:
    """A function that makes its value at the first call and keeps it."""
    made: list[Examination] = []

    def value() -> Examination:
        if not made:
            made.append(make())
        return made[0]

    return value
