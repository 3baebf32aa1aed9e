"""The search of one round: an Optuna study that the trials are drawn from and told to.

Every draw seeds the sampler anew from the number of the trial, so a search that was killed draws
what it would have drawn.
"""

import math
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.training.optimization.search_space import Dimension
from pytest_mltrainer.training.optimization.storage import open_storage, storage_error
from pytest_mltrainer.training.optimization.trials import Trial
from pytest_mltrainer.training.reproducibility import derive_seed

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

STUDY_FILE = "study.log"
STARTUP_TRIALS = 4
"""Draws at random, and trials that run to their end, before TPE and the pruner judge by them."""
OWNER, TRIAL, KNOWN = "owner", "trial", "known"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """What makes a study: its name, space, direction, and how hopeless trials are ended.

    `storage` is the URL of an Optuna storage that machines share, or None: then the study is kept
    in the file `journal`. `owner` tells this machine's trials from those of others.
    """

    name: str
    space: tuple[Dimension, ...]
    maximize: bool
    pruner: str
    epochs: int
    seed: int
    jobs: int
    storage: str | None
    journal: Path
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """A point of the space that is to be tried as `trial`. `handle` is Optuna's."""

    trial: str
    patch: Mapping[str, Any]
    handle: Any


class Search:
    """A study. Its methods may be called from several threads."""

    def __init__(self, plan: StudyPlan) -> None:
        """Open the study, or make it. Raises UserError where the storage cannot be used."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.plan = plan
        self._lock = threading.RLock()
        self._distributions = {part.key: _distribution(part) for part in plan.space}
        with self._using():
            self._study = optuna.create_study(
                study_name=plan.name,
                storage=open_storage(plan.storage, plan.journal),
                sampler=self._sampler(0),
                pruner=_pruner(plan),
                direction="maximize" if plan.maximize else "minimize",
                load_if_exists=True,
            )

    def learn(self, name: str, values: Mapping[str, Any], trial: Trial) -> None:
        """Add a trial that no draw made; `values` are its settings of the searched keys.

        Of those the ones outside the space are left out. Nothing happens where the trial is not
        finished, or is known already.
        """
        from optuna.trial import create_trial

        if trial.value is None:
            return
        known = {
            part.key: values[part.key]
            for part in self.plan.space
            if part.key in values and part.holds(values[part.key])
        }
        progress = {epoch: value for epoch, value in enumerate(trial.progress) if value is not None}
        with self._using():
            if any(entry.user_attrs.get(KNOWN) == name for entry in self._entries()):
                return
            self._study.add_trial(
                create_trial(
                    value=trial.value,
                    params=known,
                    distributions={key: self._distributions[key] for key in known},
                    user_attrs={KNOWN: name},
                    intermediate_values=progress,
                )
            )

    def interrupted(self) -> list[Draw]:
        """Draws of this machine that were never told how they ended, oldest first."""
        import optuna

        with self._using():
            return [
                self._draw(optuna.Trial(self._study, entry._trial_id))
                for entry in self._entries()
                if not entry.state.is_finished()
                and entry.user_attrs.get(OWNER) == self.plan.owner
                and TRIAL in entry.user_attrs
            ]

    def draw(self, trial: str) -> Draw:
        """A new point of the space, for the trial of that id."""
        with self._using():
            self._study.sampler = self._sampler(len(self._entries()))
            drawn = self._study.ask(self._distributions)
            drawn.set_user_attr(OWNER, self.plan.owner)
            drawn.set_user_attr(TRIAL, trial)
            return self._draw(drawn)

    def drawn(self) -> int:
        """How many draws the study has had, those of other machines included."""
        with self._using():
            return sum(TRIAL in entry.user_attrs for entry in self._entries())

    def is_hopeless(self, draw: Draw, epoch: int, value: float) -> bool:
        """Note the metric behind an epoch (from 1 on); whether the pruner would end the trial."""
        if self.plan.pruner == "none" or not math.isfinite(value):
            return False
        with self._using():
            draw.handle.report(value, epoch - 1)
            return bool(draw.handle.should_prune())

    def tell(self, draw: Draw, trial: Trial) -> None:
        """Say how the trial of a draw has ended."""
        from optuna.trial import TrialState

        states = {"finished": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
        state = states.get(trial.status, TrialState.FAIL)
        value = trial.value if state == TrialState.COMPLETE else None
        with self._using():
            self._study.tell(draw.handle, value, state=state, skip_if_finished=True)

    def skip(self, draw: Draw) -> None:
        """Say that a draw is not worth a training: it repeats another one."""
        from optuna.trial import TrialState

        with self._using():
            self._study.tell(draw.handle, state=TrialState.FAIL, skip_if_finished=True)

    def best_of_others(self) -> Mapping[str, Any] | None:
        """The settings of the best trial of the study if another machine has trained it."""
        from optuna.trial import TrialState

        with self._using():
            done = [entry for entry in self._entries() if entry.state == TrialState.COMPLETE]
        if not done:
            return None
        sign = 1.0 if self.plan.maximize else -1.0
        best = max(done, key=lambda entry: sign * float(entry.value or 0.0))
        is_strange = best.user_attrs.get(OWNER, self.plan.owner) != self.plan.owner
        return self._settings(best.params) if is_strange else None

    def _entries(self) -> "list[FrozenTrial]":
        return self._study.get_trials(deepcopy=False)

    def _draw(self, handle: Any) -> Draw:
        settings = self._settings(handle.params)
        return Draw(trial=handle.user_attrs[TRIAL], patch=settings, handle=handle)

    def _settings(self, params: Mapping[str, Any]) -> dict[str, Any]:
        return {part.key: part.setting(params[part.key]) for part in self.plan.space}

    def _sampler(self, number: int) -> "BaseSampler":
        from optuna.samplers import TPESampler

        # Machines that draw at the same moment see the same number of trials.
        machine = () if self.plan.storage is None else (self.plan.owner,)
        seed = derive_seed(self.plan.seed, "search", self.plan.name, number, *machine) % 2**32
        is_shared = self.plan.jobs > 1 or self.plan.storage is not None
        return TPESampler(
            seed=seed, n_startup_trials=STARTUP_TRIALS, constant_liar=is_shared, multivariate=False
        )

    @contextmanager
    def _using(self) -> Iterator[None]:
        """One thread at a time; whatever the storage raises becomes one line for people."""
        with self._lock, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                yield
            except UserError:
                raise
            except Exception as error:
                # A storage raises whatever its driver does: dozens of types.
                raise storage_error(self.plan.storage, self.plan.journal, error) from error


def _pruner(plan: StudyPlan) -> "BasePruner":
    from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner

    makers: dict[str, Callable[[], BasePruner]] = {
        "none": NopPruner,
        "median": lambda: MedianPruner(
            n_startup_trials=STARTUP_TRIALS, n_warmup_steps=max(1, plan.epochs // 5)
        ),
        "hyperband": lambda: HyperbandPruner(min_resource=1, max_resource=plan.epochs),
    }
    return makers[plan.pruner]()


def _distribution(part: Dimension) -> "BaseDistribution":
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if part.choices:
        return CategoricalDistribution(part.choices)
    if part.whole:
        return IntDistribution(int(part.low), int(part.high), log=part.log)
    return FloatDistribution(part.low, part.high, log=part.log)
