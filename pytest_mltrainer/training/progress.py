"""The best epoch so far, and when to stop early: one rule for the session and for its gate."""

import math
from dataclasses import dataclass
from typing import Any

from pytest_mltrainer.core.settings import EarlyStopping


@dataclass(slots=True)
class Progress:
    """Counters over the monitored metric. Of equally good epochs the first is the best."""

    best_epoch: int = -1
    best_value: float = math.nan
    epochs_since_best: int = 0
    epochs_done: int = 0
    stopped_early: bool = False

    def update(
        self, epoch: int, value: float, *, maximize: bool, stopping: EarlyStopping | None
    ) -> None:
        """Count one epoch. A gain below `stopping.min_delta` is the best, but does not wait on."""
        better = is_better(value, self.best_value, maximize=maximize)
        margin = stopping.min_delta if stopping else 0.0
        clearly = better and not abs(value - self.best_value) < margin
        if better:
            self.best_epoch, self.best_value = epoch, value
        self.epochs_since_best = 0 if clearly else self.epochs_since_best + 1
        self.epochs_done += 1
        self.stopped_early = bool(stopping and self.epochs_since_best >= stopping.patience)

    def to_json(self) -> dict[str, Any]:
        """The counters as they stand in a checkpoint."""
        return {name: getattr(self, name) for name in self.__slots__}


def is_better(value: float, best: float, *, maximize: bool) -> bool:
    """Whether a finite value beats the best so far; the first finite one does, a tie does not."""
    if not math.isfinite(value):
        return False
    if not math.isfinite(best):
        return True
    return value > best if maximize else value < best
