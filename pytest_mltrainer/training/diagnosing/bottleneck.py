"""Where the time of a training step goes, and whether loading the data is what it waits for."""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.training.batches import TrainingLoader
from pytest_mltrainer.training.observation.observer import AfterUpdate, NonFiniteTraining, StepsDone
from pytest_mltrainer.training.observation.telemetry import STEPS_FILE, read_steps
from pytest_mltrainer.training.session import TrainingSession
from pytest_mltrainer.training.task import load_task

TIMED_STEPS = 30
WARM_UP = 5
PARTS = ("waiting", "forward", "backward", "update")
LOADING_LIMIT = 0.30
"""From here on loading is called the bottleneck: torch's own tuning guide starts at a third."""

Row = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """Where the time of a step goes: mean seconds and share of each part, `rest` among them.

    `step_s` and `repeated_s` are the median steps with loading and with the same batch again and
    again; `loading` is the share of a step that goes away without loading, 0 at least.
    """

    steps: int
    seconds: Mapping[str, float]
    shares: Mapping[str, float]
    step_s: float
    repeated_s: float
    loading: float

    @property
    def is_bound_by_data(self) -> bool:
        """Whether both agree: the steps wait for data, and without loading they are quicker."""
        return min(self.loading, self.shares["waiting"]) > LOADING_LIMIT

    def text(self) -> str:
        """Which part takes most, and whether loading is the bottleneck."""
        part = max(self.shares, key=self.shares.__getitem__)
        said = (
            "loading the data is the bottleneck"
            if self.is_bound_by_data
            else ("loading the data is no bottleneck")
        )
        return f"{said}; the largest part of a step is {part}, {self.shares[part]:.0%}"

    def to_json(self) -> dict[str, Any]:
        """The breakdown as it is stored."""
        return asdict(self)


def breakdown(loaded: Sequence[Row], repeated: Sequence[Row]) -> Breakdown | None:
    """The breakdown of timed steps; the first five, at most half, are warm-up and left out.

    None where either side has fewer than two steps.
    """
    if min(len(loaded), len(repeated)) < 2:
        return None
    rows, others = loaded[_warm_up(loaded) :], repeated[_warm_up(repeated) :]
    total = fmean(row["step"] for row in rows)
    seconds = {part: fmean(row[part] for row in rows) for part in PARTS}
    seconds["rest"] = total - sum(seconds.values())
    step_s, repeated_s = (median(row["step"] for row in part) for part in (rows, others))
    return Breakdown(
        steps=len(rows),
        seconds=seconds,
        shares={part: value / total for part, value in seconds.items()},
        step_s=step_s,
        repeated_s=repeated_s,
        loading=max(0.0, 1 - repeated_s / step_s),
    )


def _warm_up(rows: Sequence[Row]) -> int:
    return min(WARM_UP, len(rows) // 2)


def time_steps(
    project: Project, config: Config, scratch: Path, *, steps: int, repeat: bool
) -> list[dict[str, float]]:
    """Train `steps` updates of the phase `diagnostics` and time the parts of each, in seconds.

    `repeat`: the first batch again and again, so that nothing is loaded. Ends earlier with the
    training, or where a value is not finite.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    with StepTimer() as timer:
        session = TrainingSession.open(
            project, config, "diagnostics", load_task(project.task), scratch
        )
        timer.watch(session.model, session.device)
        if repeat:
            session.loader = RepeatedBatch(session.loader)
        session.observer.limit_steps = steps
        session.observer.on_non_finite = _end
        session.observer.watchers.append(AfterUpdate(lambda *_: timer.finish_step()))
        # On an accelerator values are looked at in blocks, the last of them on the way out.
        with suppress(StepsDone):
            session.run()
    recorded = read_steps(scratch / STEPS_FILE)
    return [
        {"step": float(row["step_s"]), "waiting": float(row["wait_s"]), **parts}
        for row, parts in zip(recorded, timer.rows, strict=True)
    ]


def _end(error: NonFiniteTraining) -> None:
    raise StepsDone from error


class RepeatedBatch(TrainingLoader):
    """A loader whose first batch stands for all: nothing is read or collated after it."""

    def __init__(self, loader: TrainingLoader) -> None:
        """Its order and length are those of `loader`."""
        self.order = loader.order
        self._source = loader
        self._batch: Any = None

    def epoch(self, epoch: int, start: int = 0) -> Iterator[Any]:
        """As many times the one batch as the epoch has batches from `start` on."""
        if self._batch is None:
            self._batch = next(self._source.epoch(epoch))
        for _ in range(start, len(self)):
            yield self._batch


class StepTimer:
    """Times forward, backward and update through torch's own hooks, whoever wrote the loop.

    To be entered before the session is made: the observer then calls the backward that is timed
    here. On an accelerator each part waits for the device, or it would time the queueing alone.
    """

    def __init__(self) -> None:
        """Nothing is timed yet."""
        self.rows: list[dict[str, float]] = []
        self._spent = dict.fromkeys(PARTS[1:], 0.0)
        self._since: dict[str, float] = {}
        self._device = torch.device("cpu")
        self._handles: list[Any] = []
        self._backward = torch.autograd.backward

    def __enter__(self) -> Self:
        """Attach to torch."""
        torch.autograd.backward = self._timed_backward
        self._handles = [
            register_optimizer_step_pre_hook(lambda *_: self._start("update")),
            register_optimizer_step_post_hook(lambda *_: self._stop("update")),
        ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Detach."""
        torch.autograd.backward = self._backward
        for handle in self._handles:
            handle.remove()

    def watch(self, model: nn.Module, device: torch.device) -> None:
        """Time the forward passes of `model` in training mode."""
        self._device = device
        self._handles += [
            model.register_forward_pre_hook(
                lambda module, _: self._start("forward") if module.training else None
            ),
            model.register_forward_hook(
                lambda module, *_: self._stop("forward") if module.training else None
            ),
        ]

    def finish_step(self) -> None:
        """The observer recorded an update: what was spent since the last one is its."""
        self.rows.append(dict(self._spent))
        self._spent = dict.fromkeys(PARTS[1:], 0.0)

    def _timed_backward(self, *args: Any, **options: Any) -> None:
        self._start("backward")
        self._backward(*args, **options)
        self._stop("backward")

    def _start(self, part: str) -> None:
        self._since[part] = self._now()

    def _stop(self, part: str) -> None:
        self._spent[part] += self._now() - self._since.pop(part, self._now())

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
