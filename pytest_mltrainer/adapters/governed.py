"""What the session governs: the update, and the settings of a framework that must not differ."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.training.session import TrainingSession


class Governed(NamedTuple):
    """A setting of a framework: the value the adapter gives it, and what to do instead."""

    value: Any
    instead: str


def in_config(key: str) -> str:
    """The advice to write a key of the configuration."""
    return f"write training.{key} in training_config.yaml"


def missing(framework: str, extra: str) -> UserError:
    """The error of an adapter whose framework is not installed."""
    return UserError(
        f"pytest_mltrainer.adapters: found no {framework} here, wanted it for this adapter: "
        f"pip install 'pytest-mltrainer[{extra}]'"
    )


def refuse(where: str, problems: Iterable[str]) -> None:
    """Raise UserError with all problems, one a line, where there are any."""
    lines = [f"{where}: {problem}" for problem in problems]
    if lines:
        raise UserError("\n".join(lines))


def contradictions(given: Mapping[str, Any], governed: Mapping[str, Governed]) -> list[str]:
    """What is given otherwise than the session has it, with what to do instead."""
    return [
        f"found {name}={given[name]!r}, but the session governs that: {setting.instead}, and leave "
        f"{name} out"
        for name, setting in governed.items()
        if name in given and given[name] is not setting.value and given[name] != setting.value
    ]


def nothing_to_train(session: TrainingSession) -> bool:
    """Whether the session's training was over before it was opened again."""
    return session.progress.stopped_early or session.start[0] >= session.config.training.epochs


class SessionSteps:
    """The session's optimizer for a loop that calls `step` and `zero_grad` itself.

    `step` clips, steps, clears the gradients and advances the schedule, where the present batch
    ends an update; every other attribute is the optimizer's own.
    """

    def __init__(self, session: TrainingSession) -> None:
        """Nothing is changed yet."""
        self._session = session

    def step(self) -> None:
        """The session's update, where the present batch ends one."""
        if self._session.is_update():
            self._session.update()

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Nothing: the update clears the gradients, and before it they are still summed up."""

    def __getattr__(self, name: str) -> Any:
        """An attribute of the session's optimizer."""
        return getattr(self._session.optimizer, name)


@contextmanager
def quiet(*loggers: str) -> Iterator[None]:
    """Warnings and worse only from these loggers; their levels are as before afterwards."""
    levels = {name: logging.getLogger(name).level for name in loggers}
    for name in loggers:
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
