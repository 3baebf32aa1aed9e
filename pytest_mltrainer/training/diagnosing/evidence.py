"""Gathers what a run left behind into the `Evidence` that detectors read."""

from typing import Any

import numpy as np
import torch

from pytest_mltrainer.core import files
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.evidence import Evidence
from pytest_mltrainer.evaluation.metrics import METRICS
from pytest_mltrainer.evaluation.references import code_score, linear_reference
from pytest_mltrainer.training.batches import to_device
from pytest_mltrainer.training.data.attainable import attainable_score
from pytest_mltrainer.training.diagnosing.recall import recall_by_class
from pytest_mltrainer.training.observation.activation_facts import activation_facts
from pytest_mltrainer.training.probes.trained import mode_scores
from pytest_mltrainer.training.run import TrainingRun

LIMIT_REFERENCE_ROWS = 5_000
PROBE_ROWS = 256
COPY_ROUNDING = 1e-6
"""How far rounding to single precision may take a correlation from 1."""


def gather_evidence(run: TrainingRun, *, evaluated: bool) -> Evidence:
    """The evidence of a training run; `evaluated` says that its best checkpoint can be judged."""
    fault = run.json("fault.json") if run.has("fault.json") else None
    telemetry = run.telemetry
    planning = run.run_folder.phase("planning")
    profile = files.read_json(planning.artifact("data_profile.json"))
    first = files.read_json(planning.artifact("rehearsal/first.json"))
    profile = {**profile, "model": first.get("model")}
    return Evidence(
        kind=run.task.kind,
        metric=run.metric.name,
        maximize=run.maximize,
        target=run.config.objective.target,
        config=run.config.to_json(),
        config_reads=tuple(first["config_reads"]),
        epochs=telemetry.epochs,
        planned_epochs=run.config.training.epochs,
        steps=telemetry.steps,
        layers=telemetry.layers if telemetry.layers.size else None,
        layer_names=tuple(entry.name for entry in telemetry.layer_names),
        layer_types=tuple(entry.type for entry in telemetry.layer_names),
        profile=profile,
        probes=first.get("probes"),
        fault=fault,
        references=_references(run) if evaluated else {},
        trained=_trained(run) if evaluated else None,
    )


def _trained(run: TrainingRun) -> dict[str, Any]:
    """Facts of the model as training left it.

    `dead_units`, `saturated_units`: what `activation_facts` says by place on 256 training rows;
    `dead_units_rows` says how many there were. `modes`: scores in training and evaluation mode.
    `class_recall`: recall and n on validation by class, of the best checkpoint.
    """
    model = run.model(run.checkpoint("last"))
    count = min(len(run.splits.train), PROBE_ROWS)  # type: ignore[arg-type]
    rows = np.linspace(0, len(run.splits.train) - 1, count).astype(int)  # type: ignore[arg-type]
    samples = [run.splits.train[int(row)] for row in rows]
    inputs, _ = to_device(run.task.collate(samples), next(model.parameters()).device)
    facts = activation_facts(model, lambda: run.task.predict(model, inputs))
    return {
        "dead_units": facts.dead,
        "saturated_units": facts.saturated,
        "dead_units_rows": count,
        "modes": mode_scores(run),
        "class_recall": recall_by_class(run.task.kind, run.evaluation.validation.predictions),
    }


def _references(run: TrainingRun) -> dict[str, float]:
    """Scores of a trivial model, a linear one and one of trees on the same data.

    `attainable` is the validation score of the trees. Where targets are the inputs, both know the
    answer beforehand: then it is that of the two principal components, which every code contains.
    """
    validation = run.evaluation.validation
    references = {
        "trivial": run.metric.score(validation.trivial.outputs, validation.trivial.targets)
    }
    try:
        train_inputs, train_targets = _table(run.splits.train)
        inputs, targets = _table(run.splits.validation)
    except (UserError, TypeError, ValueError, RuntimeError):
        return references
    if _is_copy(train_inputs, train_targets):
        reached = code_score(train_targets, targets, run.metric)
        return references | ({} if reached is None else {"attainable": reached})
    if run.task.kind in ("classification", "regression") and run.metric.name in METRICS:
        references |= (
            linear_reference(
                run.task.kind, train_inputs, train_targets, inputs, targets, run.metric
            )
            or {}
        )
    if run.metric.name in METRICS:
        reached = attainable_score(
            run.task.kind, run.metric, (train_inputs, train_targets), (inputs, targets)
        )
        references |= {} if reached is None else {"attainable": reached}
    return references


def _is_copy(inputs: "np.ndarray[Any, Any]", targets: "np.ndarray[Any, Any]") -> bool:
    """Whether each target is its own input, but for scale and level: an autoencoder's task.

    A linear map without a bottleneck is then the identity, which no code can compete with.
    """
    if inputs.size != targets.size or inputs[0].size < 2:
        return False
    given, wanted = (part.reshape(len(part), -1).astype(np.float64) for part in (inputs, targets))
    given, wanted = given - given.mean(axis=0), wanted - wanted.mean(axis=0)
    sizes = np.linalg.norm(given, axis=0) * np.linalg.norm(wanted, axis=0)
    alike = np.abs((given * wanted).sum(axis=0)) >= (1 - COPY_ROUNDING) * sizes
    return bool(alike.all()) and bool(sizes.any())


def _table(dataset: Any) -> "tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]":
    """Inputs as one array, and targets. Raises UserError when inputs are no equal arrays."""
    rows = np.linspace(0, len(dataset) - 1, min(len(dataset), LIMIT_REFERENCE_ROWS)).astype(int)
    samples = [dataset[int(row)] for row in rows]
    if not all(isinstance(value, torch.Tensor | np.ndarray) for value, _ in samples):
        raise UserError("inputs are no arrays")
    inputs = np.stack([np.asarray(value) for value, _ in samples])
    return inputs, np.stack([np.asarray(target) for _, target in samples])
