"""`observe(model)`: the telemetry of any loop that trains the model, without task or pipeline."""

import shutil
import tempfile
import time
import weakref
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import nn

from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.evidence import EpochRecord, Evidence
from pytest_mltrainer.core.settings import Training
from pytest_mltrainer.evaluation.metrics import METRICS, default_metric
from pytest_mltrainer.training.observation.calls import KeptCalls, locate
from pytest_mltrainer.training.observation.digests import StepDigests, UnknownDraws
from pytest_mltrainer.training.observation.given import GivenData, Loss, Predict
from pytest_mltrainer.training.observation.layers import LayerRecorder
from pytest_mltrainer.training.observation.memory import memory_mb
from pytest_mltrainer.training.observation.observed import (
    begin_folder,
    observed_evidence,
    plain,
    write_facts,
)
from pytest_mltrainer.training.observation.observer import NonFiniteTraining, Observer
from pytest_mltrainer.training.observation.scaling import ScalersSeen
from pytest_mltrainer.training.observation.telemetry import (
    STEPS_FILE,
    Telemetry,
    TelemetryWriter,
    read_steps,
)
from pytest_mltrainer.training.reproducibility import numerics_fingerprint
from pytest_mltrainer.training.task import Kind


def observe(
    model: nn.Module,
    *,
    folder: Path | str | None = None,
    kind: Kind = "classification",
    metric: str | None = None,
    maximize: bool | None = None,
    target: float | None = None,
    train: Any = None,
    validation: Any = None,
    loss: Loss | None = None,
    predict: Predict | None = None,
    config: Config | Mapping[str, Any] | None = None,
    stop: bool = False,
) -> "ObservedRun":
    """A run that records, as a context manager, whatever trains `model` inside it.

    `with observe(model) as run: train()`. Several models that train together are one, for example
    `nn.ModuleList([generator, discriminator])`. `trainer.fit(...)` of Lightning, `Trainer.train()`
    of Hugging Face and loops with Accelerate are loops like any other. The trained numbers are
    those of the loop alone.

    `folder` keeps the telemetry (a folder used before starts anew); without one it lives as long
    as the run. `metric` and `maximize` name the metric of `run.epoch` that matters (by default that
    of the kind). `train` and `validation` are data sets of (input, target), or DataLoaders of such:
    scored at each `run.epoch()` by `predict(model, inputs)` and `loss(outputs, targets)` (both by
    default those of the kind), and profiled for the diagnosis. `config` is the configuration that
    recommendations may patch. A value that is not finite is recorded as `run.fault` and the
    training goes on, unless `stop`, which raises NonFiniteTraining before the update.

    Raises UserError for what cannot be observed.
    """
    return ObservedRun(
        model,
        folder=folder,
        objective=_objective(kind, metric, maximize) | {"target": target},
        data=GivenData(kind=kind, train=train, validation=validation, loss=loss, predict=predict),
        config=config,
        stop=stop,
    )


class ObservedRun:
    """What was recorded of one training. Made by `observe`."""

    def __init__(
        self,
        model: nn.Module,
        *,
        folder: Path | str | None,
        objective: Mapping[str, Any],
        data: GivenData,
        config: Config | Mapping[str, Any] | None,
        stop: bool,
    ) -> None:
        """Nothing is attached yet. Raises UserError for a model without parameters."""
        if next(model.parameters(), None) is None:
            raise UserError(
                f"observe(): {type(model).__name__} has no parameters, wanted a model to train: "
                "call observe() behind what makes its layers"
            )
        self.fault: dict[str, Any] | None = None
        """Where a value first was not finite; None while there is none."""
        self.folder = Path(folder) if folder is not None else _temporary(self)
        self._model = model
        self._objective = objective
        self._data = data
        self._config = config
        self._stop = stop
        settings = config.training if isinstance(config, Config) else Training()
        self._digest_every = settings.digest_every
        self._attached: ExitStack | None = None
        self._epoch_started = (0.0, 0)
        self._epochs_done = 0
        self._rate = 0.0

    def __enter__(self) -> Self:
        """Attach. Raises UserError where something observes already."""
        if isinstance(getattr(torch.autograd.backward, "__self__", None), Observer):
            raise UserError(
                "observe(): a training is being observed already, and their losses would mix: "
                "leave the other `with` first, or observe both models as one: "
                "observe(nn.ModuleList([one, other]))"
            )
        begin_folder(self.folder)
        self._telemetry = TelemetryWriter(self.folder)
        self._observer = Observer(self._model, self._telemetry.append_steps)
        self._observer.on_non_finite = self._on_non_finite
        with ExitStack() as attached:
            self._calls = attached.enter_context(KeptCalls(self._model))
            layers = attached.enter_context(LayerRecorder(self._model, self.folder))
            self._digests = attached.enter_context(
                StepDigests(
                    self._model,
                    self._observer,
                    self.folder,
                    every=self._digest_every,
                    drawn=UnknownDraws(),
                )
            )
            self._observer.watchers += [self._calls, layers, self._digests]
            attached.enter_context(ScalersSeen(self._observer))
            attached.enter_context(self._observer)
            self._attached = attached.pop_all()
        self._epoch_started = time.perf_counter(), self._observer.step
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Detach and write what is left; without a call of `epoch`, given data are scored once."""
        if self._attached is not None:
            try:
                if error is None and self._epochs_done == 0 and self._data.has("validation"):
                    self.epoch()
            finally:
                attached, self._attached = self._attached, None
                attached.close()
                self._write_facts()

    def epoch(
        self,
        *,
        train: Mapping[str, float] | None = None,
        validation: Mapping[str, float] | None = None,
    ) -> EpochRecord:
        """End an epoch: record its loss and metrics by name, and return them.

        A split that is not passed is scored here when its data were given to `observe`; the
        training loss is, where nothing else says it, the mean over the steps of the epoch. Raises
        UserError outside the `with` block.
        """
        if self._attached is None:
            raise UserError("run.epoch(): called outside of `with observe(...) as run:`")
        started, first_step = self._epoch_started
        self._observer.flush()
        rows = read_steps(self.folder / STEPS_FILE)[first_step:]
        self._rate = float(rows["learning_rate"][-1]) if rows.size else self._rate
        record = EpochRecord(
            epoch=self._epochs_done,
            steps=self._observer.step,
            learning_rate=self._rate,
            duration_s=time.perf_counter() - started,
            train=_mean_loss(rows) | self._scores("train", train),
            validation=self._scores("validation", validation),
            memory_mb=memory_mb(next(self._model.parameters()).device),
        )
        self._telemetry.append_epoch(record)
        self._digests.checkpointed()
        self._epochs_done += 1
        self._observer.epoch = self._epochs_done
        self._observer.restart_clock()
        self._epoch_started = time.perf_counter(), self._observer.step
        return record

    @property
    def telemetry(self) -> Telemetry:
        """The records so far. Raises UserError before the `with` block."""
        if self._attached is not None:
            self._observer.flush()
        return Telemetry.read(self.folder)

    def evidence(self) -> Evidence:
        """Everything that was recorded, for detectors; given data are profiled the first time.

        Raises UserError for a run that was never entered.
        """
        if self._attached is not None:
            self._observer.flush()
        self._write_facts(with_data=True)
        return observed_evidence(self.folder)

    def _on_non_finite(self, error: NonFiniteTraining) -> None:
        if self.fault is None:
            is_at_hand = error.step == self._observer.step
            place = locate(self._model, self._calls, error.what) if is_at_hand else {}
            self.fault = {
                "step": error.step,
                "epoch": self._observer.epoch,
                "what": error.what,
                "loss": str(error.loss),
                "gradient_norm": str(error.gradient_norm),
                **place,
            }
        if self._stop:
            raise error

    def _scores(self, split: str, given: Mapping[str, float] | None) -> dict[str, float]:
        if given is not None:
            return {name: float(value) for name, value in given.items()}
        self._calls.paused = True
        try:
            return self._data.scores(self._model, split)
        finally:
            self._calls.paused = False

    def _write_facts(self, *, with_data: bool = False) -> None:
        config = self._config
        device = next(self._model.parameters()).device
        facts = {
            **self._objective,
            "numerics": numerics_fingerprint(device),
            "config": config.to_json() if isinstance(config, Config) else plain(config or {}),
            "config_reads": sorted(config.reads) if isinstance(config, Config) else [],
            "fault": self.fault,
        }
        if with_data:
            facts["profile"] = self._data.profile()
            facts["trained"] = self._data.trained(self._model)
            facts["references"] = self._data.references(str(self._objective["metric"]))
        write_facts(self.folder, facts)


def _objective(kind: Kind, metric: str | None, maximize: bool | None) -> dict[str, Any]:
    """The metric that matters and its direction. Raises UserError when nobody knows the latter."""
    if metric is None:
        known = default_metric(kind) if kind != "custom" else None
        name = known.name if known else "loss"
    else:
        known, name = METRICS.get(metric), metric
    if maximize is None and known is None and name != "loss":
        raise UserError(
            f"observe(metric={name!r}): not a metric of ours, so say whether more is better: "
            "maximize=True or False"
        )
    direction = maximize if maximize is not None else known is not None and known.maximize
    return {"kind": kind, "metric": name, "maximize": direction}


def _mean_loss(rows: "np.ndarray[Any, Any]") -> dict[str, float]:
    known = rows["loss"][~np.isnan(rows["loss"])]
    return {"loss": float(known.mean())} if known.size else {}


def _temporary(run: ObservedRun) -> Path:
    """A folder that goes when the run goes."""
    folder = tempfile.mkdtemp(prefix="mltrainer-")
    weakref.finalize(run, shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
