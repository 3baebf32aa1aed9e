"""Puts what must not matter to a training under control: clock, entropy, listings, memory.

Each source has worlds: in one world it repeats exactly, and two worlds differ in all that it says.
A training whose digests differ between two worlds depends on that source. Only calls by the user's
project are answered so; libraries go on as ever.
"""

import hashlib
import itertools
import os
import random
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial, wraps
from typing import Any

import numpy as np
import torch

from pytest_mltrainer.training.repetition.clock import Clock, Replacement, TakenForItsBase
from pytest_mltrainer.training.repetition.sightings import Watch, watch_files


@contextmanager
def controlled(worlds: Mapping[str, int], watch: Watch) -> Iterator[Callable[[], None]]:
    """Hold each named source in its world, and note who in the user's project calls it.

    Call what this yields as soon as the user's modules are imported: they may hold `datetime`
    under names of their own.
    """
    clock = Clock(worlds.get("clock", 0), watch)
    with ExitStack() as stack:

        def replace(replacements: list[Replacement]) -> None:
            for owner, name, value in replacements:
                stack.callback(setattr, owner, name, getattr(owner, name))
                setattr(owner, name, value)

        for source, world in worlds.items():
            replace(clock.functions() if source == "clock" else _SOURCES[source](world, watch))
        replace([(torch, "set_num_threads", _noted(torch.set_num_threads, "threads", watch))])
        watch_files(watch)
        stack.callback(watch_files, None)
        yield lambda: replace(clock.dates() if "clock" in worlds else [])


def _entropy(world: int, watch: Watch) -> list[Replacement]:
    """The operating system's random numbers, and with them every generator without a seed."""
    numbers = itertools.count()
    system, seeded = os.urandom, random.Random.seed

    def drawn(size: int) -> bytes:
        return hashlib.shake_256(f"{world}/{next(numbers)}".encode()).digest(size)

    def urandom(size: int) -> bytes:
        return drawn(size) if watch.sees("entropy") else system(size)

    def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
        if a is None and watch.sees("entropy"):
            a = int.from_bytes(drawn(16), "big")
        seeded(self, a, version)

    def seed_torch(real: Callable[[], int], into: Callable[[int], Any]) -> int:
        if not watch.sees("entropy"):
            return real()
        value = int.from_bytes(drawn(7), "big")
        into(value)
        return value

    # torch has a metaclass of its own here.
    generators = type("_Taken", (TakenForItsBase, type(torch.Generator)), {})

    class Generator(torch.Generator, metaclass=generators):  # type: ignore[metaclass]
        def seed(self) -> int:
            return seed_torch(super().seed, self.manual_seed)

    def uuid1(*arguments: Any, **options: Any) -> uuid.UUID:
        if watch.sees("entropy"):
            return uuid.UUID(bytes=drawn(16), version=1)
        return real_uuid1(*arguments, **options)

    real_uuid1 = uuid.uuid1
    # NumPy's generators take their entropy from `secrets`, which takes it from here as well.
    return [
        (os, "urandom", urandom),
        (random, "_urandom", urandom),
        (random.Random, "seed", seed),
        (random, "seed", partial(seed, random._inst)),
        (torch, "seed", partial(seed_torch, torch.seed, torch.manual_seed)),
        (torch, "Generator", Generator),
        (uuid, "uuid1", uuid1),
    ]


class _Reversed:
    """What `os.scandir` gives, the last entry first."""

    def __init__(self, entries: Any) -> None:
        with entries:
            self._entries = iter(list(entries)[::-1])

    def __iter__(self) -> Iterator[Any]:
        return self._entries

    def __next__(self) -> Any:
        return next(self._entries)

    def __enter__(self) -> "_Reversed":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is open any more."""


def _listing(world: int, watch: Watch) -> list[Replacement]:
    """Names of files in the order of the directory, or in the reverse of it."""
    real_listdir, real_scandir = os.listdir, os.scandir

    def listdir(path: Any = None) -> Any:
        names = real_listdir(path)
        return names[::-1] if watch.sees("listing") and world else names

    def scandir(path: Any = None) -> Any:
        entries = real_scandir(path)
        return _Reversed(entries) if watch.sees("listing") and world else entries

    return [(os, "listdir", listdir), (os, "scandir", scandir)]


def _memory(world: int, watch: Watch) -> list[Replacement]:
    """Arrays and tensors that are made without values, full of the number of the world."""

    def filled(real: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(real)
        def made(*arguments: Any, **options: Any) -> Any:
            found = real(*arguments, **options)
            if watch.sees("memory"):
                if isinstance(found, torch.Tensor):
                    found.detach().fill_(world)
                elif found.dtype.kind in "biufc":
                    found.fill(world)
            return found

        return made

    owners = ((np, "empty"), (np, "empty_like"), (torch, "empty"), (torch, "empty_like"))
    replaced = [(owner, name, filled(getattr(owner, name))) for owner, name in owners]
    new_empty = filled(torch.Tensor.new_empty)
    # What is made by `torch.Tensor(3)`: NaN where torch fills it, whatever lies there elsewhere.
    fill = (torch.utils.deterministic, "fill_uninitialized_memory", not world)
    return [*replaced, (torch.Tensor, "new_empty", new_empty), fill]


def _processors(world: int, watch: Watch) -> list[Replacement]:
    """How many processors there are: as many as there are, or another number."""
    count, affinity = os.cpu_count, getattr(os, "sched_getaffinity", None)

    def other(number: int) -> int:
        return number if not world else number - 1 or 2

    def cpu_count() -> int:
        number = count() or 1
        return other(number) if watch.sees("processors") else number

    def sched_getaffinity(process: int, /) -> set[int]:
        found: set[int] = affinity(process) if affinity else set()
        return set(range(other(len(found)))) if watch.sees("processors") else found

    replaced: list[Replacement] = [(os, "cpu_count", cpu_count)]
    return [*replaced, (os, "sched_getaffinity", sched_getaffinity)] if affinity else replaced


def _noted(real: Callable[..., Any], kind: str, watch: Watch) -> Callable[..., Any]:
    @wraps(real)
    def call(*arguments: Any) -> Any:
        watch.sees(kind)
        return real(*arguments)

    return call


_SOURCES: dict[str, Callable[[int, Watch], list[Replacement]]] = {
    "entropy": _entropy,
    "listing": _listing,
    "memory": _memory,
    "processors": _processors,
}
SOURCES = ("clock", *_SOURCES)
"""What can be held in a world, beside the hash seed, which a process has from its start."""
SHIFTED = {source: 1 for source in SOURCES if source != "entropy"}
"""The worlds of a rehearsal in which everything is another that must not matter.

Entropy is another in every process anyway.
"""
