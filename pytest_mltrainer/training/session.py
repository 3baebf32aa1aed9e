"""The only thing that holds a model, an optimizer and loaders ready to train.

A session is made from fixed seeds and a permit, in this order: seeds, deterministic algorithms,
data, model, optimizer. There is no other way to get one, so there is nothing to train with before
its seeds are fixed.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import Subset

from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.errors import UnseededTrainingError, UserError
from pytest_mltrainer.core.evidence import EpochRecord
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.training.batches import (
    SealedSplits,
    TrainingLoader,
    balanced_class_weights,
    to_device,
)
from pytest_mltrainer.training.checkpoints import Checkpoint
from pytest_mltrainer.training.epoch_scores import EpochScores
from pytest_mltrainer.training.evaluate import predict_split
from pytest_mltrainer.training.objective import maximizes, objective_metric
from pytest_mltrainer.training.observation.digests import DrawnBatches, StepDigests
from pytest_mltrainer.training.observation.layers import LayerRecorder
from pytest_mltrainer.training.observation.memory import memory_mb
from pytest_mltrainer.training.observation.observer import NonFiniteTraining, Observer, StepsDone
from pytest_mltrainer.training.observation.replay import describe_fault
from pytest_mltrainer.training.observation.telemetry import STEPS_FILE, TelemetryWriter, read_steps
from pytest_mltrainer.training.optimizers import make_scheduler
from pytest_mltrainer.training.permit import Permit
from pytest_mltrainer.training.progress import Progress
from pytest_mltrainer.training.ranks import ALONE, AveragedUpdates, Ranks
from pytest_mltrainer.training.reproducibility import (
    FixedSeeds,
    RngState,
    choose_device,
    derive_seed,
    fix_seeds,
    make_deterministic,
)
from pytest_mltrainer.training.saving import Saving, Stateful
from pytest_mltrainer.training.task import Splits, Task
from pytest_mltrainer.training.tracking import load_data


class TrainingSession:
    """Model, optimizer, loaders and splits, with seeds fixed. Use `TrainingSession.open`."""

    def __init__(
        self,
        *,
        seeds: FixedSeeds,
        permit: Permit,
        task: Task,
        config: Config,
        splits: Splits,
        output: Path,
        identity: str = "",
        report: Callable[[Mapping[str, Any]], None] = lambda values: None,
        ranks: Ranks = ALONE,
    ) -> None:
        """Raises UnseededTrainingError unless `seeds` and `permit` are real."""
        if not isinstance(seeds, FixedSeeds) or not isinstance(permit, Permit):
            raise UnseededTrainingError(
                "a session is not made by hand: TrainingSession.open fixes every seed and reads "
                "the planning verdict"
            )
        self.task = task
        self.config = config
        self.seed = seeds.seed
        self.ranks = ranks
        self.device = ranks.device or choose_device(config.device)
        self.splits = SealedSplits(splits)
        self.output = output
        self.identity = identity
        self.data_files: tuple[str, ...] = ()
        self.fault: dict[str, Any] | None = None
        self.progress = Progress()
        self.metric = objective_metric(config, task)
        self.maximize = maximizes(config, self.metric)
        self.model = task.model(config).to(self.device)
        self.optimizer = task.optimizer(self.model, config)
        self.loader = TrainingLoader(
            task,
            self.splits.train,
            config,
            seed=self.seed,
            pin_memory=self.device.type == "cuda",
            ranks=ranks,
        )
        updates = -(-len(self.loader) // config.training.accumulate)
        self.updates_per_epoch = updates
        self.scheduler = make_scheduler(
            self.optimizer, config, updates_per_epoch=updates, maximize=self.maximize
        )
        self._report = report
        self._watch(permit)
        self._batch: Any = None
        self._batch_number = 0
        self._epoch_started = 0.0
        self.scores = EpochScores(task, self.metric, ranks)
        self._first_epoch = 0
        self._position: tuple[int, RngState] | None = None
        self._saving = Saving(self)

    def _watch(self, permit: Permit) -> None:
        """Make what records the training: telemetry, the observer and its watchers."""
        self._telemetry = TelemetryWriter(self.output)
        self._observer = Observer(self.model, self._record)
        self._observer.limit_steps = permit.limit_steps
        self._drawn = DrawnBatches(self.loader)
        self.digests = StepDigests(
            self.model,
            self._observer,
            self.output,
            every=self.config.training.digest_every,
            drawn=self._drawn,
        )
        self.digests.is_written = self.ranks.is_first
        self._averaged = AveragedUpdates()
        self._observer.watchers.append(self.digests)
        if self.ranks.size > 1:
            self._observer.watchers.append(self._averaged)

    @classmethod
    def open(
        cls, project: Project, config: Config, phase: str, task: Task, output: Path, **options: Any
    ) -> "TrainingSession":
        """The session of a phase. `config` is the whole configuration of the project.

        `train_rows` among the options: train on these rows alone, in number and order as given.
        Raises UnseededTrainingError unless planning passed for exactly this code, configuration
        and data.
        """
        permit = Permit.from_planning(project, config)
        return cls._make(permit, config.for_phase(phase), task, output, **options)

    @classmethod
    def rehearse(
        cls, config: Config, task: Task, output: Path, *, steps: int, **options: Any
    ) -> "TrainingSession":
        """A session that planning trains for `steps` updates to see whether they repeat."""
        return cls._make(Permit.for_rehearsal(steps), config, task, output, **options)

    @classmethod
    def _make(
        cls,
        permit: Permit,
        config: Config,
        task: Task,
        output: Path,
        *,
        train_rows: Sequence[int] | None = None,
        **options: Any,
    ) -> "TrainingSession":
        make_deterministic(
            threads=config.threads, exceptions=config.training.deterministic_exceptions
        )
        seeds = fix_seeds(config.seed)
        splits, data_files = load_data(task, config)
        if train_rows is not None:
            splits = replace(splits, train=Subset(splits.train, train_rows))
        if config.training.class_weights == "balanced" and task.kind == "classification":
            task.class_weights = balanced_class_weights(splits.train)
        # The model's weights do not depend on how many numbers reading the data has drawn.
        fix_seeds(derive_seed(config.seed, "model"))
        session = cls(
            seeds=seeds,
            permit=permit,
            task=task,
            config=config,
            splits=splits,
            output=output,
            **options,
        )
        session.data_files = data_files
        return session

    def fit(self) -> None:
        """Train with the built-in loop."""
        from pytest_mltrainer.training.loop import fit

        fit(self)

    def run(self) -> None:
        """Let the task train, observed. A run that turns non-finite ends here, with `fault` set."""
        with self._observer, self.digests, LayerRecorder(self.model, self.output) as layers:
            self._observer.watchers.append(layers)
            try:
                self.task.train(self)
            except StepsDone:
                pass
            except NonFiniteTraining as error:
                self._observer.flush()
                self.fault = describe_fault(self, error, read_steps(self.output / STEPS_FILE))
        self.fault = self.ranks.first_described(self.fault)
        self.ranks.write_digests(self.model, self.output)

    def epochs(self) -> Iterator[int]:
        """The epochs still to train. Each starts with seeds of its own, from (seed, epoch)."""
        for epoch in range(self._first_epoch, self.config.training.epochs):
            if self.progress.stopped_early:
                return
            if self._position is None:
                fix_seeds(derive_seed(self.ranks.seed(self.seed), "epoch", epoch))
            self._observer.epoch = epoch
            self._observer.restart_clock()
            self._epoch_started = time.perf_counter()
            self.model.train()
            yield epoch

    def batches(self) -> Iterator[tuple[Any, torch.Tensor]]:
        """The batches of the present epoch, on the device."""
        start = time.perf_counter()
        first = self._take_position()
        source = self.loader.epoch(self._observer.epoch, first)
        for number in range(first, len(self.loader)):
            batch = to_device(next(source), self.device)
            self._batch, self._batch_number = batch, number
            self._drawn.add(number)
            self._observer.wait_s += time.perf_counter() - start
            yield batch
            is_last = number + 1 == len(self.loader)
            if self._saving.is_due() and self.is_update() and not is_last:
                self._saving.save_step(number + 1)
            start = time.perf_counter()

    def loss(self, inputs: Any, targets: torch.Tensor) -> torch.Tensor:
        """The task's loss on a batch; its outputs are kept for the epoch's training metric."""
        outputs = self.task.predict(self.model, inputs)
        loss = self.task.loss(outputs, targets, self.config)
        if loss.ndim:
            raise UserError(
                f"{type(self.task).__name__}.loss(): found shape {tuple(loss.shape)}, wanted a "
                "scalar: take the mean"
            )
        self.scores.add_batch(outputs, targets)
        return loss

    def is_update(self) -> bool:
        """Whether the optimizer steps behind the present batch (`training.accumulate`)."""
        done = self._batch_number + 1
        return done % self.config.training.accumulate == 0 or done == len(self.loader)

    def accumulated(self) -> int:
        """How many batches the update that the present batch belongs to sums over."""
        size = self.config.training.accumulate
        start = self._batch_number - self._batch_number % size
        return min(size, len(self.loader) - start)

    def update(self) -> None:
        """Clip, step the optimizer, clear the gradients, step the schedule.

        Several processes average their gradients, and the loss that is recorded, before that.
        """
        self._average()
        limit = self.config.training.clip_norm
        if limit is not None:
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
            self._observer.clipped(norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.scheduler is not None and not isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step()

    def _average(self) -> None:
        if self.ranks.size > 1:
            self._observer.average_losses(self.ranks.mean)
            self.ranks.average_gradients(self.model)
            self._averaged.is_averaged = True

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluation mode without gradients; the generators are as before afterwards."""
        rng = RngState.capture()
        self.model.eval()
        try:
            with torch.no_grad():
                yield
        finally:
            self.model.train()
            rng.restore()

    def finish_epoch(self, epoch: int) -> None:
        """Validate, record, keep the best, save, and decide about stopping early."""
        self._observer.flush()
        train = self.scores.training()
        # One validates for all, so that early stopping and schedules agree.
        validation = self.ranks.broadcast(self._validation_scores() if self.ranks.is_first else {})
        self.progress.update(
            epoch,
            self.scores.monitored(validation),
            maximize=self.maximize,
            stopping=self.config.training.early_stopping,
        )
        if isinstance(self.scheduler, ReduceLROnPlateau):
            self.scheduler.step(self.scores.monitored(validation))
        record = EpochRecord(
            epoch=epoch,
            steps=self._observer.step,
            learning_rate=float(self.optimizer.param_groups[0]["lr"]),
            duration_s=time.perf_counter() - self._epoch_started,
            memory_mb=memory_mb(self.device),
            train=train,
            validation=validation,
        )
        self._telemetry.append_epoch(record)
        self._saving.save_epoch(is_best=self.progress.best_epoch == epoch)
        self._report_epoch(record)

    def _validation_scores(self) -> dict[str, float]:
        with self.evaluating():
            predictions, loss = predict_split(
                self.task, self.model, self.splits.validation, self.config, self.device
            )
        return self.scores.validation(predictions, loss)

    def batch_indices(self) -> list[int]:
        """Which training samples the present batch holds."""
        return self.loader.order.batches(self._observer.epoch)[self._batch_number]

    @property
    def start(self) -> tuple[int, int]:
        """The epoch, and the number of the batch in it, that training is about to begin with."""
        return self._first_epoch, self._position[0] if self._position else 0

    @property
    def batch(self) -> Any:
        """The present batch, on the device; None before the first."""
        return self._batch

    @property
    def observer(self) -> Observer:
        """What watches this session."""
        return self._observer

    def register(self, name: str, part: Stateful) -> None:
        """Save the state of `part` in every checkpoint, and restore it on resume.

        For what training changes besides the model, the optimizer and the schedule of the session:
        a GradScaler, a second optimizer, an average of the weights. Register before training.
        """
        self._saving.register(name, part)

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on behind the last batch of `checkpoint`. Raises UserError for another training."""
        checkpoint = checkpoint.of_rank(self.ranks.rank)
        self._saving.restore(checkpoint)
        self.progress = Progress(**checkpoint.progress)
        self._first_epoch = checkpoint.epoch + (checkpoint.position is None)
        self._observer.step = checkpoint.step
        self._telemetry.truncate(steps=checkpoint.step, epochs=self.progress.epochs_done)
        self.digests.truncate(checkpoint.step)
        if checkpoint.position is not None:
            self._position = checkpoint.position, checkpoint.rng
            rows = read_steps(self.output / STEPS_FILE)
            self.scores.add_losses(rows["loss"][rows["epoch"] == checkpoint.epoch])
            if checkpoint.kept:
                self.scores.add_batch(*to_device(checkpoint.kept, self.device))

    def _take_position(self) -> int:
        """The number of the epoch's first batch; behind a resumed one its generators go on."""
        if self._position is None:
            return 0
        (position, rng), self._position = self._position, None
        rng.restore()
        return position

    def _record(self, rows: "np.ndarray[Any, Any]") -> None:
        self._telemetry.append_steps(rows)
        self.scores.add_losses(rows["loss"])

    def _report_epoch(self, record: EpochRecord) -> None:
        name = self.metric.name
        self._report(
            {
                "kind": "epoch",
                "epoch": record.epoch + 1,
                "epochs": self.config.training.epochs,
                "metric": name,
                "train_loss": str(record.train.get("loss", math.nan)),
                "validation_loss": str(record.validation["loss"]),
                "value": str(record.validation[name]),
                "is_best": self.progress.best_epoch == record.epoch,
                "duration_s": record.duration_s,
            }
        )
