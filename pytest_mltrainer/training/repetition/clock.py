"""A clock that repeats itself, in the place of `time` and `datetime`, for the user's project."""

import datetime
import itertools
import time
import types
from collections.abc import Callable
from functools import wraps
from typing import Any

from pytest_mltrainer.training.repetition.sightings import Watch

START_S = 1_700_000_000.0
SHIFT_S = 400 * 86_400 + 5 * 3_600 + 7 * 60 + 11
"""Between two worlds: another year, month, weekday, hour, minute and second."""
TICK_S = 0.001

Replacement = tuple[Any, str, Any]
"""An owner, the name of its attribute, and what takes its place."""


class Clock:
    """A clock that goes on by a tick with each reading."""

    def __init__(self, world: int, watch: Watch) -> None:
        """`watch` says who may be answered by it."""
        self._start_s, self._tick_s = START_S + world * SHIFT_S, TICK_S * (1 + world)
        self._ticks = itertools.count()
        self._watch = watch

    def read_s(self) -> float:
        """The next reading."""
        return self._start_s + next(self._ticks) * self._tick_s

    def functions(self) -> list[Replacement]:
        """What the module `time` offers."""
        seconds = ("time", "perf_counter", "monotonic", "process_time", "thread_time")
        found = [(time, name, self._counter(getattr(time, name), 1)) for name in seconds]
        found += [
            (time, f"{name}_ns", self._counter(getattr(time, f"{name}_ns"), 10**9))
            for name in seconds
        ]
        found += [
            (time, name, self._of_now(getattr(time, name), 0))
            for name in ("localtime", "gmtime", "ctime")
        ]
        strftime = self._of_now(time.strftime, 1, time.localtime)
        return [*found, (time, "strftime", strftime)]

    def dates(self) -> list[Replacement]:
        """The classes of `datetime`, where the user's modules hold them."""
        moment, day = _moment(self, self._watch), _day(self, self._watch)
        module = types.ModuleType("datetime")
        vars(module).update({**vars(datetime), "datetime": moment, "date": day})
        others = {id(datetime): module, id(datetime.datetime): moment, id(datetime.date): day}
        return [
            (owner, name, others[id(value)])
            for owner in self._watch.modules()
            for name, value in list(vars(owner).items())
            if id(value) in others
        ]

    def _counter(self, real: Callable[[], Any], scale: int) -> Callable[[], Any]:
        @wraps(real)
        def read() -> Any:
            if not self._watch.sees("clock"):
                return real()
            return self.read_s() if scale == 1 else int(self.read_s() * scale)

        return read

    def _of_now(
        self, real: Callable[..., Any], given: int, moment: Callable[[float], Any] = float
    ) -> Callable[..., Any]:
        @wraps(real)
        def read(*arguments: Any) -> Any:
            if len(arguments) > given or not self._watch.sees("clock"):
                return real(*arguments)
            return real(*arguments, moment(self.read_s()))

        return read


class TakenForItsBase(type):
    """A class whose place another takes: instances of the real one are instances of it."""

    def __instancecheck__(cls, instance: Any) -> bool:
        """As the real class would answer."""
        return isinstance(instance, cls.__base__ or object)


def _moment(clock: Clock, watch: Watch) -> type:
    class Moment(datetime.datetime, metaclass=TakenForItsBase):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls.fromtimestamp(clock.read_s(), tz) if watch.sees("clock") else super().now(tz)

        @classmethod
        def utcnow(cls) -> Any:
            return cls.now(datetime.UTC).replace(tzinfo=None)

        @classmethod
        def today(cls) -> Any:
            return cls.now()

    return Moment


def _day(clock: Clock, watch: Watch) -> type:
    class Day(datetime.date, metaclass=TakenForItsBase):
        @classmethod
        def today(cls) -> Any:
            return cls.fromtimestamp(clock.read_s()) if watch.sees("clock") else super().today()

    return Day
