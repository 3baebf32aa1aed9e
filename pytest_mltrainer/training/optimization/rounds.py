"""The trials of one round: what was recommended, the useful changes together, a search."""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pytest_mltrainer.core.config import flatten
from pytest_mltrainer.training.optimization.search import Draw, Search
from pytest_mltrainer.training.optimization.trial_queue import TrialQueue
from pytest_mltrainer.training.optimization.trial_runner import TrialPlan, TrialRunner
from pytest_mltrainer.training.optimization.trials import (
    BY_HAND,
    PHASE,
    Kind,
    Trial,
    Tried,
    read_trial,
    trial_config,
)
from pytest_mltrainer.training.progress import is_better

MOST_REPEATS = 10
"""Draws in a row that repeat a known training, after which the space counts as exhausted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """What is best so far: the baseline, or a trial; `value` is its score on validation."""

    id: str
    patch: Mapping[str, Any]
    value: float


class RoundWork:
    """Runs the trials of one round, in this order: recommended, joint, search.

    All of them have the seed of the project, so that they differ from what is best so far by their
    patch alone. `trials` are those that ended, `remarks` what was cut short.
    """

    def __init__(
        self,
        *,
        number: int,
        runner: TrialRunner,
        queue: TrialQueue,
        best: Best,
        maximize: bool,
        known: Mapping[str, str],
    ) -> None:
        """`best` is what the round begins with; `known` the trials before, by their identity."""
        self.number = number
        self.trials: dict[str, Trial] = {}
        self.remarks: list[str] = []
        self.known = dict(known)
        self.seed = runner.config.for_phase(PHASE).seed
        self._runner = runner
        self._queue = queue
        self._incumbent = best
        self._maximize = maximize
        self._settings = runner.config.optimization
        self._minutes = runner.config.budgets.optimization_minutes
        self._numbered = 0
        self._lock = threading.RLock()

    @property
    def best(self) -> Best:
        """The best on validation so far, of equal ones the earlier; at first the incumbent."""
        best = self._incumbent
        for name in sorted(self.trials):
            trial = self.trials[name]
            if trial.value is not None and is_better(
                trial.value, best.value, maximize=self._maximize
            ):
                best = Best(id=trial.id, patch=trial.patch, value=trial.value)
        return best

    def recommended(self, advice: Sequence[Mapping[str, Any]]) -> tuple[Tried, ...]:
        """Try each recommended patch alone, on top of the incumbent; say what became of each."""
        plans: dict[int, TrialPlan] = {}
        skipped: dict[int, str] = {}
        for place, entry in enumerate(advice):
            patch = {**self._incumbent.patch, **entry["patch"]}
            reason = self._why_skipped(entry, patch, len(plans))
            if reason:
                skipped[place] = reason
            else:
                plans[place] = self._plan("recommended", entry["issue"], patch)
                self.known[self._runner.identity(patch, self.seed)] = plans[place].id
        for trial in self._queue.run_all(list(plans.values())):
            self.trials[trial.id] = trial
        for place, plan in plans.items():
            if plan.id not in self.trials:
                skipped[place] = self._minutes_text()
        return tuple(
            Tried(
                issue=entry["issue"],
                instruction=entry["instruction"],
                patch=entry["patch"],
                predicted=tuple(entry["predicted"]) if entry["predicted"] else None,
                status="skipped" if place in skipped else "tried",
                reason=skipped.get(place, ""),
                trial=None if place in skipped else plans[place].id,
            )
            for place, entry in enumerate(advice)
        )

    def joint(self, tried: Sequence[Tried], is_met: Callable[[Trial], bool]) -> None:
        """Try together what was better than the incumbent alone, the best first.

        A patch that sets a key of a better one otherwise is left out. Nothing is tried where fewer
        than two remain, or where one of them is surely on target alone.
        """
        useful = [
            (entry, self.trials[entry.trial])
            for entry in tried
            if entry.trial is not None and self._is_useful(self.trials[entry.trial])
        ]
        sign = -1.0 if self._maximize else 1.0
        useful.sort(key=lambda pair: sign * (pair[1].value or 0.0))
        union: dict[str, Any] = {}
        origins = []
        for entry, trial in useful:
            if all(union.get(key, value) == value for key, value in entry.patch.items()):
                union |= entry.patch
                origins.append(trial.id)
        patch = {**self._incumbent.patch, **union}
        if len(origins) < 2 or self._runner.identity(patch, self.seed) in self.known:
            return
        best = self.best.id
        if is_met(self.trials[best]):
            self.remarks.append(f"joint trial left out: {best} is surely on target alone")
            return
        if self._numbered >= self._settings.trials:
            self.remarks.append(f"joint trial left out: {self._trials_text()}")
            return
        plan = self._plan("joint", " + ".join(origins), patch)
        trial_done = self._queue.run(plan)
        if trial_done is None:
            self.remarks.append(f"joint trial left out: {self._minutes_text()}")
        else:
            self._add(trial_done)

    def search(self, study: Search, is_met: Callable[[Trial], bool]) -> None:
        """Draw trials around the best, until the budgets are used up or one is surely on target.

        What a killed search has drawn is finished first.
        """
        around = self.best
        waiting = study.interrupted()
        for trial in self.trials.values():
            study.learn(trial.id, self.settings_of(trial.patch), trial)
        self._take_done({draw.trial for draw in waiting})
        limit = self._settings.trials - self._numbered_before_search()

        def follow() -> None:
            while (draw := self._next(study, waiting, around, limit, is_met)) is not None:
                plan = self._plan(
                    "search", f"around {around.id}", {**around.patch, **draw.patch}, draw.trial
                )
                trial = self._queue.run(plan, lambda epoch, value: _why(study, draw, epoch, value))
                if trial is None:
                    return
                self._add(trial)
                study.tell(draw, trial)

        with ThreadPoolExecutor(self._settings.jobs) as pool:
            followers = [pool.submit(follow) for _ in range(self._settings.jobs)]
        for follower in followers:
            follower.result()
        self._adopt(study, around)

    def _next(
        self,
        study: Search,
        waiting: list[Draw],
        around: Best,
        limit: int,
        is_met: Callable[[Trial], bool],
    ) -> Draw | None:
        """The next draw that is worth a training; None, with a remark, where the search ends."""
        with self._lock:
            if waiting:
                return waiting.pop(0)
            best = self.trials.get(self.best.id)
            if best is not None and is_met(best):
                self._remark(f"the search ended early: {best.id} is surely on target")
                return None
            if self._queue.is_used_up:
                self._remark(f"the search was cut short: {self._minutes_text()}")
                return None
            for _ in range(MOST_REPEATS):
                if study.drawn() >= limit:
                    return None
                draw = study.draw(self._name())
                identity = self._runner.identity({**around.patch, **draw.patch}, self.seed)
                if identity not in self.known:
                    self.known[identity] = draw.trial
                    return draw
                study.skip(draw)
                self._numbered -= 1
            self._remark("the search ended early: it only repeats what was tried")
            return None

    def _remark(self, remark: str) -> None:
        if remark not in self.remarks:
            self.remarks.append(remark)

    def _adopt(self, study: Search, around: Best) -> None:
        """Train here what another machine found, where that is better than everything here."""
        settings = study.best_of_others()
        if settings is None:
            return
        patch = {**around.patch, **settings}
        if self._runner.identity(patch, self.seed) not in self.known:
            trial = self._queue.run(self._plan("search", "found by another machine", patch))
            if trial is not None:
                self._add(trial)

    def _take_done(self, waiting: set[str]) -> None:
        """Trials that a killed search has finished and told."""
        folder = self._runner.folder("")
        for path in sorted(folder.glob(f"r{self.number}-*")):
            trial = read_trial(path)
            if trial.kind == "search" and trial.id not in waiting:
                same = {name: getattr(trial, name) for name in TrialPlan.__slots__}
                done = self._queue.run(TrialPlan(**same))
                if done is not None:
                    self._add(done)
        numbers = [int(name.rpartition("-")[2]) for name in {*self.trials, *waiting}]
        self._numbered = max([self._numbered, *numbers])

    def _numbered_before_search(self) -> int:
        return sum(trial.kind != "search" for trial in self.trials.values())

    def settings_of(self, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Every setting of a trial with that patch, by its dotted key."""
        config = trial_config(self._runner.config, patch, self.seed)
        return flatten(config.for_phase(PHASE).to_json())

    def _is_useful(self, trial: Trial) -> bool:
        return trial.value is not None and is_better(
            trial.value, self._incumbent.value, maximize=self._maximize
        )

    def _why_skipped(self, entry: Mapping[str, Any], patch: Mapping[str, Any], planned: int) -> str:
        if not entry["patch"]:
            return f"{BY_HAND}: {entry['instruction']}"
        before = self.known.get(self._runner.identity(patch, self.seed))
        if before is not None:
            return f"the same training as {before}"
        return self._trials_text() if planned >= self._settings.trials else ""

    def _add(self, trial: Trial) -> None:
        with self._lock:
            self.trials[trial.id] = trial
            self.known[trial.identity] = trial.id

    def _plan(
        self, kind: Kind, origin: str, patch: Mapping[str, Any], name: str | None = None
    ) -> TrialPlan:
        return TrialPlan(
            id=name or self._name(),
            round=self.number,
            kind=kind,
            origin=origin,
            patch=patch,
            seed=self.seed,
        )

    def _name(self) -> str:
        self._numbered += 1
        return f"r{self.number}-{self._numbered:02d}"

    def _trials_text(self) -> str:
        return f"optimization.trials ({self._settings.trials}) are used up"

    def _minutes_text(self) -> str:
        return f"budgets.optimization_minutes ({self._minutes:g}) is used up"


def _why(study: Search, draw: Draw, epoch: int, value: float) -> str:
    if not study.is_hopeless(draw, epoch, value):
        return ""
    return f"ended by the {study.plan.pruner} pruner behind epoch {epoch}"
