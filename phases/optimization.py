"""Optimization: try what the diagnosis recommends, search around it, prove what was found."""

from collections.abc import Iterable
from typing import Any

from pytest_mltrainer.phases.common import PhaseWork
from pytest_mltrainer.phases.rounds import Optimization
from pytest_mltrainer.phases.training import run_so_far

from pytest_mltrainer.core import files
from pytest_mltrainer.core.overlay import repairs
from pytest_mltrainer.core.proposal import propose
from pytest_mltrainer.core.work import WorkRequest
from pytest_mltrainer.training.optimization.optimization_report import (
    CONFIG,
    IMPROVEMENT,
    RESULTS,
    optimization_plots,
    optimization_report,
)
from pytest_mltrainer.training.optimization.optimized import Optimized, examine_optimization
from pytest_mltrainer.training.optimization.search import STUDY_FILE
from pytest_mltrainer.training.optimization.trials import BASELINE, ROUNDS_FILE
from pytest_mltrainer.training.reproducibility import choose_device, numerics_fingerprint

SEARCHED = ["trials/**/*", ROUNDS_FILE, STUDY_FILE, "winner.json", "decision.json"]


def work(request: WorkRequest) -> dict[str, Any]:
    """Do the requested steps of the optimization and write its artifacts."""
    phase = PhaseWork(request)
    device = choose_device(phase.config.for_phase(phase.phase).device)
    phase.numerics = numerics_fingerprint(device)
    phase.do("search", lambda: _search(phase))
    phase.do("documents", lambda: _documents(phase))
    phase.record["upstream"] = phase.upstream_identity("diagnostics")
    return phase.finish()


def _search(phase: PhaseWork) -> Iterable[str]:
    """All rounds; the decision holds the patch that the final training takes over."""
    outcome = Optimization(phase).run()
    phase.write_json("winner.json", {"id": outcome.best.id, "patch": dict(outcome.best.patch)})
    phase.decision = outcome.decision
    phase.write_json("decision.json", outcome.decision)
    return SEARCHED


def _documents(phase: PhaseWork) -> Iterable[str]:
    """The report with its plots, the comparisons, and the configuration that was found."""
    found = examine_optimization(run_so_far(phase))
    phase.write_json(IMPROVEMENT, found.gains)
    for name, picture in optimization_plots(found).items():
        files.write_bytes(phase.output / name, picture)
    files.write_text(phase.output / RESULTS, optimization_report(found))
    patch = {**repairs(phase.project), **found.patch}
    proposed = propose(phase.project.config_path, patch, _heading(found))
    files.write_text(phase.output / CONFIG, proposed)
    return [CONFIG, RESULTS, IMPROVEMENT, "plots/*.svg"]


def _heading(found: Optimized) -> str:
    said = f"Found by pytest --phase=optimization: {found.decision['status']}.\n"
    if found.best == BASELINE:
        return f"{said}No change was accepted, so this is your configuration as it is."
    return f"{said}From trial {found.best}. The final training uses it; your file stays as it is."
