"""What the final model must not be worse than: the baseline's model, and the released champion."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from pytest_mltrainer.core import files
from pytest_mltrainer.core.digests import sha256_file
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.hooks import offered, plugin_manager
from pytest_mltrainer.core.ledger import record_opening
from pytest_mltrainer.core.measurement import Measurement
from pytest_mltrainer.evaluation.intervals import paired_difference
from pytest_mltrainer.evaluation.metrics import Metric, metric_named
from pytest_mltrainer.evaluation.predictions import Predictions
from pytest_mltrainer.export.format import exporter_named, exporters, load_export
from pytest_mltrainer.release.registry import MODEL_MANIFEST, Registry
from pytest_mltrainer.training.batches import evaluation_batches
from pytest_mltrainer.training.evaluate import predict_split
from pytest_mltrainer.training.run import TrainingRun

FEWEST_IN_SLICE = 20
"""Below that many samples an interval spans everything: the slice is listed, not judged."""
RISK = 0.05
"""Of one healthy model to be called worse by chance, over all comparisons together."""


class _Predict(Protocol):
    def __call__(self) -> Predictions: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """Another model: its name for people, its digest, and how it predicts the test set."""

    name: str
    model: str
    predict: _Predict


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The advantage over a rival, above 0 where the final model is better; None: too few."""

    what: str
    margin: float
    n: int
    advantage: Measurement | None


def rivals_of(run: TrainingRun) -> list[Rival]:
    """The baseline's model, where that run was sound, and the current release.

    The current release is left out where it is this very model.
    """
    found = []
    baseline = TrainingRun(run.project, run.whole_config, "baseline")
    if baseline.can_be_evaluated and not baseline.is_broken:
        digest = sha256_file(baseline.folder.artifact("checkpoints/best.pt"))
        predict = partial(_predict_by_checkpoint, baseline, run)
        found.append(Rival(name="the baseline", model=digest, predict=predict))
    registry = Registry(run.project.root / run.config.release.registry)
    champion = registry.current()
    own = sha256_file(run.folder.artifact(f"final_model/{MODEL_MANIFEST}"))
    if champion is not None and champion.model != own:
        folder = registry.model(champion)
        name = f"release {champion.name}"
        predict = partial(_predict_by_export, run, folder, name)
        found.append(Rival(name=name, model=champion.model, predict=predict))
    return found


def enter_openings(run: TrainingRun) -> None:
    """Enter in the ledger that the rivals open the test set too; each model once."""
    for rival in rivals_of(run):
        record_opening(run.run_folder, phase=run.phase, model=rival.model)


def comparisons(run: TrainingRun, rivals: list[Rival]) -> Iterator[Comparison]:
    """Compare on the same test samples: the objective on the whole and in every slice, the guards.

    Intervals share `RISK` between all of them (Bonferroni). Raises UserError where a rival has
    other samples.
    """
    own = run.evaluation.test.predictions
    slices = slices_of_test(run)
    guards = {
        metric_named(name, run.task.kind): margin
        for name, margin in run.config.objective.guards.items()
    }
    confidence = 1 - RISK / max(1, len(rivals) * (1 + len(slices) + len(guards)))
    for rival in rivals:
        other = rival.predict()
        parts = [(run.metric, run.config.objective.margin, "", np.arange(len(own)))]
        parts += [(metric, margin, "", np.arange(len(own))) for metric, margin in guards.items()]
        parts += [
            (run.metric, run.config.objective.margin, f" in slice {key}", rows)
            for key, rows in slices.items()
        ]
        for metric, margin, where, rows in parts:
            yield Comparison(
                what=f"advantage in {metric.name} over {rival.name}{where}",
                margin=margin,
                n=len(rows),
                advantage=None
                if where and len(rows) < FEWEST_IN_SLICE
                else _advantage(run, metric, rows_of(own, rows), rows_of(other, rows), confidence),
            )


def _advantage(
    run: TrainingRun, metric: Metric, own: Predictions, other: Predictions, confidence: float
) -> Measurement:
    maximize = run.maximize if metric is run.metric else metric.maximize
    pair = (own, other) if maximize else (other, own)
    return paired_difference(metric, *pair, confidence)


def slices_of_test(run: TrainingRun) -> dict[str, Any]:
    """The rows of the test set in each slice that `Task.slice_key` names."""
    samples = len(run.splits.test)  # type: ignore[arg-type]
    keys = [run.task.slice_key("test", index) for index in range(samples)]
    return {
        key: np.array([row for row, found in enumerate(keys) if found == key])
        for key in sorted({key for key in keys if key is not None})
    }


def rows_of(predictions: Predictions, rows: Any) -> Predictions:
    """The predictions of some samples."""
    return Predictions(outputs=predictions.outputs[rows], targets=predictions.targets[rows])


def _predict_by_checkpoint(rival: TrainingRun, run: TrainingRun) -> Predictions:
    """The rival's best checkpoint, on the test set as its own configuration prepares it."""
    same_data = (rival.config.data, rival.config.seed) == (run.config.data, run.config.seed)
    splits = run.splits if same_data else rival.splits
    model = rival.model(rival.checkpoint("best"))
    device = next(model.parameters()).device
    with torch.no_grad():
        return predict_split(rival.task, model, splits.test, rival.config, device)[0]


def _predict_by_export(run: TrainingRun, folder: Path, name: str) -> Predictions:
    """A released file on the test set as it is prepared now. Raises UserError when it refuses."""
    known = exporters(offered(plugin_manager(run.project), "mltrainer_exporters"))
    released = files.read_json(folder / MODEL_MANIFEST)
    exporter = exporter_named(released["formats"][0], known)
    predict = load_export(exporter, folder / exporter.file_name)
    outputs, targets = [], []
    try:
        for inputs, wanted in evaluation_batches(run.task, run.splits.test, run.config):
            outputs.append(predict(inputs))
            targets.append(wanted.numpy())
    except Exception as error:  # each runtime has exceptions of its own
        raise UserError(
            f"{name} does not take these inputs ({' '.join(str(error).split())[:200]}): a model "
            "with other inputs is another product; give it a registry of its own "
            "(release.registry)"
        ) from error
    return Predictions(outputs=np.concatenate(outputs), targets=np.concatenate(targets))
