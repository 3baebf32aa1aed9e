"""Gathers what a run left behind into the `Evidence` that detectors read."""

from typing import Any

import numpy as np
import torch

from pytest_mltrainer.core import files
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.evidence import Evidence
from pytest_mltrainer.evaluation.metrics import METRICS
from pytest_mltrainer.evaluation.references import linear_reference
from pytest_mltrainer.training.run import TrainingRun

LIMIT_REFERENCE_ROWS = 5_000


def gather_evidence(run: TrainingRun, *, evaluated: bool) -> Evidence:
    """The evidence of a training run; `evaluated` says that its best checkpoint can be judged."""
    fault = run.json("fault.json") if run.has("fault.json") else None
    telemetry = run.telemetry
    planning = run.run_folder.phase("planning")
    profile = files.read_json(planning.artifact("data_profile.json"))
    reads = files.read_json(planning.artifact("rehearsal/first.json"))["config_reads"]
    return Evidence(
        kind=run.task.kind,
        metric=run.metric.name,
        maximize=run.maximize,
        target=run.config.objective.target,
        config=run.config.to_json(),
        config_reads=tuple(reads),
        epochs=telemetry.epochs,
        planned_epochs=run.config.training.epochs,
        steps=telemetry.steps,
        profile=profile,
        fault=fault,
        references=_references(run) if evaluated else {},
    )


def _references(run: TrainingRun) -> dict[str, float]:
    """Scores of a trivial and of a linear model on the same data."""
    validation = run.evaluation.validation
    references = {
        "trivial": run.metric.score(validation.trivial.outputs, validation.trivial.targets)
    }
    try:
        train_inputs, train_targets = _table(run.splits.train)
        inputs, targets = _table(run.splits.validation)
    except (UserError, TypeError, ValueError, RuntimeError):
        return references
    if run.task.kind in ("classification", "regression") and run.metric.name in METRICS:
        references |= (
            linear_reference(
                run.task.kind, train_inputs, train_targets, inputs, targets, run.metric
            )
            or {}
        )
    return references


def _table(dataset: Any) -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """Inputs as rows of numbers, and targets. Raises UserError when inputs are no equal arrays."""
    rows = np.linspace(0, len(dataset) - 1, min(len(dataset), LIMIT_REFERENCE_ROWS)).astype(int)
    samples = [dataset[int(row)] for row in rows]
    if not all(isinstance(value, torch.Tensor | np.ndarray) for value, _ in samples):
        raise UserError("inputs are no arrays")
    inputs = np.stack([np.asarray(value, dtype=np.float64).reshape(-1) for value, _ in samples])
    return inputs, np.stack([np.asarray(target) for _, target in samples])
