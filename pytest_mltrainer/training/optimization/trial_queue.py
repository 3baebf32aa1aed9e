"""Runs trials side by side within a budget of minutes, and says how each has ended."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from pytest_mltrainer.training.optimization.trial_runner import OnEpoch, TrialPlan, TrialRunner
from pytest_mltrainer.training.optimization.trials import Trial


class TrialQueue:
    """Runs trials, `jobs` at a time, until `minutes` are used up.

    A trial that was done before counts as the time that it took, so that a killed optimization has
    no more time than one that was not. `told` is called with each trial that ended.
    """

    def __init__(
        self, runner: TrialRunner, *, jobs: int, minutes: float, told: Callable[[Trial], None]
    ) -> None:
        """Nothing is used up yet."""
        self._runner = runner
        self._jobs = jobs
        self._minutes = minutes
        self._told = told
        self._lock = threading.Lock()
        self._took_s: list[float] = []

    @property
    def left_s(self) -> float:
        """The seconds of the budget that are left, at `jobs` trials a time."""
        return self._minutes * 60 - sum(self._took_s) / self._jobs

    @property
    def is_used_up(self) -> bool:
        """Whether not even the shortest trial so far would end in time."""
        return self.left_s <= min(self._took_s, default=0.0)

    def run_all(self, plans: Sequence[TrialPlan]) -> list[Trial]:
        """The trials of those plans that the budget has room for, in their order."""
        with ThreadPoolExecutor(self._jobs) as pool:
            trials = list(pool.map(self.run, plans))
        return [trial for trial in trials if trial is not None]

    def run(self, plan: TrialPlan, on_epoch: OnEpoch = lambda epoch, value: "") -> Trial | None:
        """One trial; None where the budget is used up. Raises StorageError."""
        trial = self._runner.done(plan)
        if trial is None:
            if self.is_used_up:
                return None
            trial = self._runner.run(plan, left_s=self.left_s, on_epoch=on_epoch)
        with self._lock:
            self._took_s.append(trial.worker_s)
            self._told(trial)
        return trial
