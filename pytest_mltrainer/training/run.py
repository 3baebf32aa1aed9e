"""A finished training as its gate reads it, and the evaluation that the gate makes anew."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pytest_mltrainer.core import files
from pytest_mltrainer.core.artifacts import Manifest, PhaseFolder, RunFolder
from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.decision import Decision, decide
from pytest_mltrainer.core.digests import sha256_file
from pytest_mltrainer.core.errors import StaleError, StorageError
from pytest_mltrainer.core.measurement import Measurement
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.evaluation.intervals import measure, paired_difference
from pytest_mltrainer.evaluation.metrics import Metric
from pytest_mltrainer.evaluation.predictions import Predictions
from pytest_mltrainer.evaluation.trivial import trivial_predictions
from pytest_mltrainer.training.batches import to_device
from pytest_mltrainer.training.checkpoints import Checkpoint
from pytest_mltrainer.training.data.profile import profile_data
from pytest_mltrainer.training.evaluate import predict_split
from pytest_mltrainer.training.objective import maximizes, objective_metric
from pytest_mltrainer.training.observation.telemetry import Telemetry
from pytest_mltrainer.training.progress import is_better
from pytest_mltrainer.training.reproducibility import (
    available_device,
    fix_seeds,
    make_deterministic,
)
from pytest_mltrainer.training.task import Splits, Task, load_task
from pytest_mltrainer.training.tracking import load_data


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitEvaluation:
    """One split predicted anew, with its scores and what a trivial model scores on it."""

    name: str
    predictions: Predictions
    loss: float
    scores: Mapping[str, float]
    metric: Metric
    trivial: Predictions

    @property
    def objective(self) -> Measurement:
        """The objective's metric with its interval."""
        return measure(self.metric, self.predictions)

    @property
    def above_trivial(self) -> Measurement:
        """The advantage over the trivial model on the same samples, higher is better."""
        pair = (self.predictions, self.trivial)
        return paired_difference(self.metric, *(pair if self.metric.maximize else pair[::-1]))


class TrainingRun:
    """The artifacts of a phase that trained, read lazily. Nothing in here trusts a result file."""

    def __init__(
        self, project: Project, config: Config, phase: str, folder: Path | None = None
    ) -> None:
        """`config` is the whole configuration; the phase's own is `self.config`.

        `folder` is where the artifacts are, while a worker still makes them.
        """
        self.project = project
        self.phase = phase
        self.whole_config = config
        self.config = config.for_phase(phase)
        self.run_folder = RunFolder(project.run_folder)
        self.folder = PhaseFolder(folder) if folder else self.run_folder.phase(phase)

    @cached_property
    def manifest(self) -> Manifest:
        """The phase's manifest. Raises StaleError when the phase is not done."""
        manifest = self.folder.manifest()
        if manifest is None:
            raise StaleError(f"{self.folder.path}: the phase is not done; run it first")
        return manifest

    def json(self, name: str) -> Any:
        """A JSON artifact."""
        return files.read_json(self.folder.artifact(name))

    def planned(self, name: str) -> Any:
        """A JSON artifact of planning."""
        return files.read_json(self.run_folder.phase("planning").artifact(name))

    def text(self, name: str) -> str:
        """A text artifact. Raises StorageError when it is missing."""
        path = self.folder.artifact(name)
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise StorageError(f"{path}: not readable ({error})") from error

    def described(self, name: str) -> str:
        """`baseline/checkpoints/best.pt sha256 1a2b...`: an artifact as a judgement names it."""
        return f"{self.phase}/{name} sha256 {sha256_file(self.folder.artifact(name))[:12]}"

    def has(self, name: str) -> bool:
        """Whether the artifact exists."""
        return self.folder.artifact(name).is_file()

    @cached_property
    def telemetry(self) -> Telemetry:
        """What was recorded while the model trained."""
        return Telemetry.read(self.folder.path)

    @cached_property
    def task(self) -> Task:
        """The user's task."""
        return load_task(self.project.task)

    @cached_property
    def splits(self) -> Splits:
        """The user's data, read anew under the fixed seed."""
        make_deterministic(
            threads=self.config.threads, exceptions=self.config.training.deterministic_exceptions
        )
        fix_seeds(self.config.seed)
        return load_data(self.task, self.config)[0]

    @cached_property
    def profiled(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What `splits.json` and `data_profile.json` would hold for the data as it is now.

        Without what compares samples with one another: no check reads it.
        """
        return profile_data(self.task, self.splits, relations=False)

    @cached_property
    def metric(self) -> Metric:
        """The objective's metric."""
        return objective_metric(self.config, self.task)

    @property
    def maximize(self) -> bool:
        """Whether more of the objective's metric is better."""
        return maximizes(self.config, self.metric)

    def checkpoint(self, name: str) -> Checkpoint:
        """`best`, `last` or `epoch_0005`."""
        return Checkpoint.load(self.folder.artifact(f"checkpoints/{name}.pt"))

    def model(self, checkpoint: Checkpoint) -> nn.Module:
        """The user's model with the weights of a checkpoint, strict keys, in evaluation mode."""
        model = self.task.model(self.config)
        try:
            model.load_state_dict(checkpoint.model)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise StorageError(f"the checkpoint does not fit the model: {reason[:300]}") from error
        return model.to(available_device(self.config.device)).eval()

    def predictor(self) -> "Callable[[Any], np.ndarray[Any, Any]]":
        """The best checkpoint in evaluation mode, as a function from inputs to outputs."""
        model = self.model(self.checkpoint("best"))
        device = next(model.parameters()).device

        def predict(inputs: Any) -> "np.ndarray[Any, Any]":
            with torch.no_grad():
                return self.task.predict(model, to_device(inputs, device)).float().cpu().numpy()

        return predict

    def best_logged_epoch(self) -> int | None:
        """The epoch with the best logged validation metric; the first of equal ones."""
        best, value = None, float("nan")
        for record in self.telemetry.epochs:
            logged = record.validation.get(self.metric.name, float("nan"))
            if is_better(logged, value, maximize=self.maximize):
                best, value = record.epoch, logged
        return best

    @property
    def is_broken(self) -> bool:
        """Whether the run met a non-finite value and was stopped there."""
        return self.has("fault.json")

    @property
    def can_be_evaluated(self) -> bool:
        """Whether there is a best checkpoint: a run that broke in its first epoch has none."""
        return self.has("checkpoints/best.pt")

    def decide(self) -> Decision:
        """The decision on this run, from its validation split predicted anew."""
        judged = self.can_be_evaluated and not self.is_broken
        return decide(
            self.evaluation.validation.objective if judged else None,
            metric=self.metric.name,
            target=self.config.objective.target,
            maximize=self.maximize,
        )

    @cached_property
    def evaluation(self) -> "Evaluation":
        """Validation and test, predicted anew from the best checkpoint when first asked for."""
        return Evaluation(self)


class Evaluation:
    """Splits predicted anew by the best checkpoint, each once."""

    def __init__(self, run: TrainingRun) -> None:
        """Nothing is computed yet."""
        self._run = run

    @cached_property
    def validation(self) -> SplitEvaluation:
        """The validation split."""
        return evaluate_split(self._run, "validation")

    @cached_property
    def test(self) -> SplitEvaluation:
        """The test split. Raises StaleError outside finalization."""
        if self._run.phase != "finalization":
            raise StaleError("the test set is sealed until finalization")
        return evaluate_split(self._run, "test")

    @cached_property
    def train(self) -> SplitEvaluation:
        """The training split, in evaluation mode."""
        return evaluate_split(self._run, "train")


def evaluate_split(run: TrainingRun, split: str) -> SplitEvaluation:
    """Predict a split by the run's best checkpoint."""
    splits = run.splits
    model = run.model(run.checkpoint("best"))
    device = next(model.parameters()).device
    with torch.no_grad():
        predictions, loss = predict_split(
            run.task, model, getattr(splits, split), run.config, device
        )
    return SplitEvaluation(
        name=split,
        predictions=predictions,
        loss=loss,
        scores=dict(run.task.metrics(predictions.outputs, predictions.targets)),
        metric=run.metric,
        trivial=trivial_predictions(
            run.task.kind, training_targets(run.splits), predictions.targets
        ),
    )


def training_targets(splits: Splits) -> "np.ndarray[Any, Any]":
    """The targets of the training split as one array."""
    targets = [splits.train[index][1] for index in range(len(splits.train))]  # type: ignore[arg-type]
    if isinstance(targets[0], torch.Tensor):
        return torch.stack(targets).numpy()
    return np.asarray(targets)
