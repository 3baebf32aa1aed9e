"""Decides which steps are looked at closely, so that looking stays cheap."""

import math
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import torch

EARLY_STEPS = (0, 1, 2, 4, 8, 16)
"""Sampled whatever the cost: what goes wrong at first shows only then."""
LARGEST_SHARE = 0.005
LEAST_GAP = 20
REMEMBERED_STEPS = 9


class Governor:
    """Places the next sample so that sampling costs at most 0.5 % of the time between samples.

    The cost of a sample is measured on the host and, with cuda, on the device by events that are
    read when the next sample is due: the larger one counts. The time of a step is the median of
    the last nine that were not sampled, so that a validation between two steps does not count.
    """

    def __init__(self, *, on_cuda: bool) -> None:
        """The first step is sampled, whichever number it has."""
        self._on_cuda = on_cuda
        self._durations: deque[float] = deque(maxlen=REMEMBERED_STEPS)
        self._since: float | None = None
        self._cost_s = 0.0
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        self._sampled = -1
        self._due = 0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Counts what happens inside as cost of the present sample."""
        start = time.perf_counter()
        if self._on_cuda:
            events = (_event(), _event())
            events[0].record()
        yield
        if self._on_cuda:
            events[1].record()
            self._events.append(events)
        self._cost_s += time.perf_counter() - start

    def finish_step(self, step: int, *, sampled: bool) -> None:
        """Note the time of a step that has just ended."""
        now = time.perf_counter()
        if sampled:
            self._sampled = step
            self._due = self._earliest(step)
        elif self._since is not None:
            self._durations.append(now - self._since)
        self._since = now

    def is_due(self, step: int) -> bool:
        """Whether to sample this step, the next one. Puts it off while that costs too much."""
        if step < self._due:
            return False
        if step > EARLY_STEPS[-1]:
            # With cuda the cost is known only now.
            self._due = self._earliest(self._sampled)
        return step >= self._due

    def start_sample(self) -> None:
        """Forget the cost of the sample before."""
        self._cost_s = 0.0
        self._events.clear()

    def _earliest(self, sampled: int) -> int:
        for step in EARLY_STEPS:
            if step > sampled:
                return step
        if not self._durations:
            return sampled + LEAST_GAP
        cost_s = max(self._cost_s, self._device_s())
        gap = math.ceil(cost_s / (LARGEST_SHARE * max(median(self._durations), 1e-9)))
        return sampled + max(LEAST_GAP, gap)

    def _device_s(self) -> float:
        done = [pair for pair in self._events if pair[1].query()]
        return math.fsum(start.elapsed_time(stop) for start, stop in done) / 1000


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)
