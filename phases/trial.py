"""One trial of the optimization, in a worker of its own: train, evaluate, diagnose."""

import math
from typing import Any

from pytest_mltrainer.phases.common import PhaseWork
from pytest_mltrainer.phases.training import run_so_far, train

from pytest_mltrainer.core.work import WorkRequest
from pytest_mltrainer.training.diagnosing.evidence import gather_evidence
from pytest_mltrainer.training.run import TrainingRun


def work(request: WorkRequest) -> dict[str, Any]:
    """Train with the request's configuration; how it ended, for `trial.json`.

    A run that turned non-finite is finished work, with the status `broken`.
    """
    trial = PhaseWork(request)
    train(trial, identity=request.arguments["identity"])
    if request.rank:
        return {}
    run = run_so_far(trial)
    trial.diagnose(gather_evidence(run, evaluated=run.can_be_evaluated))
    return {**_outcome(trial, run), "memory": run.json("resources.json")}


def _outcome(trial: PhaseWork, run: TrainingRun) -> dict[str, Any]:
    """Status, reason and value; the raw predictions of the best checkpoint are kept."""
    if run.can_be_evaluated:
        validation = run.evaluation.validation
        validation.predictions.save(trial.output / "predictions/validation.npz")
        value = validation.objective.value
    if run.is_broken:
        fault = run.json("fault.json")
        reason = f"{fault['what']} not finite at step {fault['step']}"
    elif not run.can_be_evaluated or not math.isfinite(value):
        reason = f"no finite {run.metric.name} on validation"
    else:
        return {"status": "finished", "reason": "", "value": value}
    return {"status": "broken", "reason": reason, "value": None}
