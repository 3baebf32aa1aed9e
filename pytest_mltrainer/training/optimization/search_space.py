"""The settings that a search varies: declared in the configuration, or around the best patch."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_mltrainer.core.config import FREE_SECTIONS, Config, apply_patch, flatten
from pytest_mltrainer.core.errors import ConfigError, did_you_mean
from pytest_mltrainer.core.settings import SearchRange

SEARCHED_SECTIONS = ("training", *FREE_SECTIONS)
RATE, DECAY = "training.learning_rate", "training.weight_decay"
ALWAYS = (RATE, DECAY)
"""Searched around the best patch whatever it changes: they depend on everything else."""
FACTOR = 10.0
NARROW_FACTOR = 3
"""How far from the present value is searched, up and down; counts less far, they cost time."""
DECAY_FROM_ZERO = (1e-5, 1e-2)
"""What is searched for a weight decay of 0, around which no magnitude is."""
DIGITS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Dimension:
    """One dotted key: from `low` to `high`, whole numbers or not, or one of `choices`."""

    key: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    whole: bool = False
    choices: tuple[Any, ...] = ()

    def setting(self, drawn: Any) -> Any:
        """The drawn value as the configuration takes it: whole, or of four digits, in range."""
        if self.choices:
            return drawn
        if self.whole:
            return int(drawn)
        return min(max(float(f"{drawn:.{DIGITS}g}"), self.low), self.high)

    def holds(self, value: Any) -> bool:
        """Whether the value could have been drawn."""
        if self.choices:
            return value in self.choices
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and self.low <= value <= self.high and (not self.whole or value % 1 == 0)


def declared_space(config: Config, reads: Collection[str]) -> tuple[Dimension, ...]:
    """The space of `optimization.search`. `config` is that of a trial; `reads` are the keys of
    `model` and `data` that the run has read.

    Raises ConfigError with everything that is wrong: keys that do not exist or nobody reads, ranges
    without ends, and values that the schema refuses.
    """
    ranges = config.optimization.search
    problems = [
        f"training_config.yaml optimization.search.{key}: {problem}"
        for key, wanted in ranges.items()
        for problem in _problems(config, key, wanted, reads)
    ]
    if problems:
        raise ConfigError(problems)
    return tuple(_declared(config, key, wanted) for key, wanted in ranges.items())


def space_around(
    config: Config,
    patch: Mapping[str, Any],
    can_patch: Callable[[str], bool],
    advised: Sequence[Mapping[str, Any]] = (),
) -> tuple[Dimension, ...]:
    """The numbers among the settings of `patch`, learning rate and weight decay, around their
    values in `config`, which holds the patch. Magnitudes are searched evenly.

    Numbers that only the `advised` patches change are searched from their value in `config` to
    beyond the advised one: what was right in kind may have been wrong in size. Keys that
    `can_patch` refuses are left alone: changing them would change nothing.
    """
    values = flatten(config.to_json())
    wanted: dict[str, Any] = {}
    for entry in advised:
        wanted = {**entry, **wanted}
    # In an order that does not depend on where the patch was read from: draws go by it.
    keys = [key for key in sorted({*patch, *ALWAYS, *wanted}) if can_patch(key)]
    found = []
    for key in keys:
        if key in wanted and key not in {*patch, RATE}:
            found.append(_toward(config, key, values.get(key), wanted[key]))
        elif key in values:
            found.append(_around(config, key, values[key]))
    return tuple(dimension for dimension in found if dimension is not None)


def _around(config: Config, key: str, value: Any) -> Dimension | None:
    if not _is_number(value):
        return None
    if key == DECAY and value == 0:
        low, high = DECAY_FROM_ZERO
        return Dimension(key=key, low=low, high=high, log=True)
    if value <= 0:
        return None
    if isinstance(value, int):
        low, high = max(1, value // NARROW_FACTOR), value * NARROW_FACTOR
        return Dimension(key=key, low=low, high=high, log=True, whole=True)
    if _is_share(key, value):
        low, high = value / NARROW_FACTOR, min(value * NARROW_FACTOR, (1 + value) / 2)
    else:
        low, high = value / FACTOR, value * FACTOR
    while _refusals(config, key, high):
        high = (high + value) / 2
    return Dimension(key=key, low=low, high=high, log=True)


def _toward(config: Config, key: str, present: Any, advised: Any) -> Dimension | None:
    """From the present value to beyond the advised one; not to higher counts, they cost time."""
    if not _is_number(advised) or advised <= 0:
        return None
    whole = isinstance(advised, int)
    low, high = advised / NARROW_FACTOR, float(advised * (1 if whole else NARROW_FACTOR))
    if _is_number(present) and present < advised:
        low = DECAY_FROM_ZERO[0] if key == DECAY and present == 0 else float(present)
    elif _is_number(present) and present > advised:
        high = float(present)
    if _is_share(key, advised):
        high = min(high, (1 + advised) / 2)
    if whole:
        low, high = math.ceil(low), math.floor(high)
    while not whole and _refusals(config, key, high):
        high = (high + advised) / 2
    if not low < high or _refusals(config, key, low) or _refusals(config, key, high):
        return None
    return Dimension(key=key, low=low, high=high, log=low > 0, whole=whole)


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value)


def _is_share(key: str, value: float) -> bool:
    """Very likely a share, such as a dropout: 1 is never reached."""
    return key.partition(".")[0] in FREE_SECTIONS and value < 1


def _declared(config: Config, key: str, wanted: SearchRange) -> Dimension:
    if wanted.choices:
        return Dimension(key=key, choices=wanted.choices)
    assert wanted.low is not None
    assert wanted.high is not None
    whole = _is_whole(config, key, wanted)
    return Dimension(key=key, low=wanted.low, high=wanted.high, log=wanted.log, whole=whole)


def _problems(
    config: Config, key: str, wanted: SearchRange, reads: Collection[str]
) -> Sequence[str]:
    """What is wrong with one entry of the search, each `found ..., wanted ...: remedy`."""
    section = key.partition(".")[0]
    if section not in SEARCHED_SECTIONS:
        sections = ", ".join(SEARCHED_SECTIONS)
        return [f"found a key of '{section}', wanted one of {sections}: search one of those"]
    if section in FREE_SECTIONS and key not in reads:
        there = ", ".join(sorted(reads)) or "none"
        return [
            f"found a key that the task does not read, wanted one that it does ({there}): "
            f"rename or delete it.{did_you_mean(key, reads)}"
        ]
    if problem := _shape_problem(wanted):
        return [problem]
    if wanted.choices:
        values: dict[str, Any] = {f"choices[{i}]": v for i, v in enumerate(wanted.choices)}
    else:
        values = {"low": wanted.low, "high": wanted.high}
        if _is_whole(config, key, wanted):
            values = {name: _as_whole(value) for name, value in values.items()}
    return [
        f"{name}: {problem}"
        for name, value in values.items()
        for problem in _refusals(config, key, value)
    ] or _broken_ends(config, key, wanted)


def _broken_ends(config: Config, key: str, wanted: SearchRange) -> list[str]:
    """Fractions at the ends of a range of whole numbers, which a section without schema takes."""
    if wanted.choices or not _is_whole(config, key, wanted):
        return []
    return [
        f"{name}: found {value}, wanted a whole number, as {key} is one: round it"
        for name, value in (("low", wanted.low), ("high", wanted.high))
        if value is not None and value % 1
    ]


def _shape_problem(wanted: SearchRange) -> str:
    low, high = wanted.low, wanted.high
    if wanted.choices:
        if (low, high) == (None, None):
            return ""
        return "found choices and a range, wanted one of them: delete low and high, or choices"
    if low is None or high is None:
        return "found no low or no high, wanted both, or choices: write both ends of the range"
    if not low < high:
        return f"found low {low:g} and high {high:g}, wanted low below high: exchange them"
    if wanted.log and low <= 0:
        return f"found low {low:g} with log, wanted a low above 0: raise it, or write log: false"
    return ""


def _is_whole(config: Config, key: str, wanted: SearchRange) -> bool:
    """Whether the key takes whole numbers: it holds one now, or the schema wants one."""
    present = flatten(config.to_json()).get(key)
    if isinstance(present, bool) or present is None:
        low = wanted.low or 0.0
        return bool(_refusals(config, key, low)) and not _refusals(config, key, round(low))
    return isinstance(present, int)


def _as_whole(value: Any) -> Any:
    """16 for 16.0, which is what the file's 16 became; 16.5 stays, and is refused."""
    return int(value) if value % 1 == 0 else value


def _refusals(config: Config, key: str, value: Any) -> list[str]:
    """`found -1.0 (number), wanted a number above 0: write ...` where the schema refuses it."""
    try:
        apply_patch(config, {key: value})
    except ConfigError as error:
        return [problem.partition(": ")[2] for problem in error.problems]
    return []
