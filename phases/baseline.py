"""Baseline: train a first model, evaluate it, diagnose it, decide, and write the results."""

from collections.abc import Iterable
from typing import Any

from pytest_mltrainer.phases.common import PhaseWork
from pytest_mltrainer.phases.training import run_so_far, train

from pytest_mltrainer.core import files
from pytest_mltrainer.core.work import WorkRequest
from pytest_mltrainer.training.diagnosing.evidence import gather_evidence
from pytest_mltrainer.training.results import baseline_results, curves_plot
from pytest_mltrainer.training.run import TrainingRun


def work(request: WorkRequest) -> dict[str, Any]:
    """Do the requested steps of the baseline and write its artifacts."""
    baseline = PhaseWork(request)
    baseline.do("train", lambda: train(baseline))
    run = run_so_far(baseline)
    baseline.do("evaluate", lambda: _evaluate(baseline, run))
    baseline.do("diagnose", lambda: _diagnose(baseline, run))
    baseline.do("documents", lambda: _documents(baseline, run))
    return baseline.finish()


def _evaluate(baseline: PhaseWork, run: TrainingRun) -> Iterable[str]:
    """Predict validation by the best checkpoint, keep the raw predictions, decide."""
    if run.can_be_evaluated:
        run.evaluation.validation.predictions.save(baseline.output / "predictions/validation.npz")
    decision = run.decide()
    baseline.decision = decision.to_json()
    baseline.write_json("decision.json", decision.to_json())
    return ["predictions/validation.npz", "decision.json"]


def _diagnose(baseline: PhaseWork, run: TrainingRun) -> Iterable[str]:
    """Ask every diagnostic what it sees in the evidence."""
    baseline.diagnose(gather_evidence(run, evaluated=run.can_be_evaluated))
    return ["diagnoses.json"]


def _documents(baseline: PhaseWork, run: TrainingRun) -> Iterable[str]:
    """`baseline_results.md` and the learning curves."""
    for name, picture in curves_plot(run).items():
        files.write_bytes(baseline.output / name, picture)
    files.write_text(baseline.output / "baseline_results.md", baseline_results(run))
    return ["baseline_results.md", "plots/*.svg"]
