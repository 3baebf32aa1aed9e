"""Measured facts of a model, its loss and its optimizer, gathered before anything trains.

`probe` answers one mapping a part, each with `judged` and, where that is False, with a `reason`:

- `loss` (`loss.py`): the range of the outputs, what the loss makes of the best of them;
- `updates` (`reach.py`): which parameters the rehearsed updates did not reach, and why;
- `gradients` (`updates.py`): whether gradients survived from one update to the next;
- `masking` (`masking.py`): whether the model answers rows with a value that is missing;
- `inputs`, `mixing`, `modes`: whether outputs follow their own inputs, and only them, the same way
  each time;
- `recurrence` (`recurrence.py`): how far back gradients reach in recurrent layers, which units of
  the fresh model are dead or saturated;
- `initial` (`initial.py`): the loss, the activations and the weights before the first update.
"""

import warnings
from collections.abc import Callable
from typing import Any

from pytest_mltrainer.core.config import Config
from pytest_mltrainer.training.probes.bench import Bench
from pytest_mltrainer.training.probes.initial import initial_facts
from pytest_mltrainer.training.probes.inputs import input_facts
from pytest_mltrainer.training.probes.loss import loss_facts
from pytest_mltrainer.training.probes.masking import masking_facts
from pytest_mltrainer.training.probes.mixing import mixing_facts
from pytest_mltrainer.training.probes.modes import mode_facts
from pytest_mltrainer.training.probes.reach import update_facts
from pytest_mltrainer.training.probes.recurrence import reach_facts
from pytest_mltrainer.training.probes.updates import UpdateWatcher
from pytest_mltrainer.training.reproducibility import RngState
from pytest_mltrainer.training.session import TrainingSession
from pytest_mltrainer.training.task import Task

__all__ = ["UpdateWatcher", "probe"]

Facts = dict[str, Any]


def probe(task: Task, config: Config, session: TrainingSession) -> dict[str, Facts]:
    """The facts of every probe, JSON-able, on fresh models with fixed seeds and real samples.

    The session's model, optimizer and generators are as before. `session` has run its rehearsal;
    an `UpdateWatcher` among its observer's watchers saw the updates. What raises in the user's code
    is that probe's `reason`; the others answer all the same.
    """
    rng = RngState.capture()
    watcher = next((w for w in session.observer.watchers if isinstance(w, UpdateWatcher)), None)
    try:
        with warnings.catch_warnings():
            # A probe asks for what models and losses warn of, such as shapes that broadcast.
            warnings.simplefilter("ignore")
            try:
                bench = Bench.of(task, config, session)
            except Exception as error:  # the user's data may raise anything
                parts = ("loss", "updates", "gradients", "inputs", "masking", "mixing", "modes",
                         "initial", "recurrence")  # fmt: skip
                return dict.fromkeys(parts, _not_judged(error))
            return {
                "loss": _judged(lambda: loss_facts(bench)),
                "updates": _judged(lambda: update_facts(bench, watcher, session.optimizer)),
                "gradients": _judged(lambda: watcher.survival() if watcher else _not_watched()),
                "inputs": _judged(lambda: input_facts(bench)),
                "masking": _judged(lambda: masking_facts(bench)),
                "mixing": _judged(lambda: mixing_facts(bench)),
                "modes": _judged(lambda: mode_facts(bench)),
                "initial": _judged(lambda: initial_facts(bench)),
                "recurrence": _judged(lambda: reach_facts(bench)),
            }
    finally:
        if watcher is not None:
            watcher.detach()
        rng.restore()


def _judged(measure: Callable[[], Facts]) -> Facts:
    try:
        return {"judged": True, **measure()}
    except Exception as error:  # the user's code may raise anything
        return _not_judged(error)


def _not_watched() -> Facts:
    return {"judged": False, "reason": "no update was watched"}


def _not_judged(error: Exception) -> Facts:
    first = (str(error).splitlines() or [""])[0]
    return {"judged": False, "reason": f"{type(error).__name__}: {first}"[:200]}
