"""How a check speaks: it measures, calls `judge` with a limit, and the judgement is recorded.

A value that is not finite is never judged: `CannotJudge`. A value that equals its limit passes.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NoReturn, TypeVar

from pytest_mltrainer.core.measurement import Measurement

Bound = Literal["value", "lower bound", "upper bound"]
Outcome = Literal["pass", "fail"]
F = TypeVar("F", bound=Callable[..., Any])


class CheckFailed(AssertionError):
    """The measured value is beyond its limit."""


class CannotJudge(Exception):
    """There is nothing to judge by: nothing recorded, not finite, too few samples."""


class NotApplicable(Exception):
    """The check does not concern this run; the reason is shown."""


class AwaitingSignature(Exception):
    """Nothing is wrong but that a person has not signed yet; the reason names the role."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One comparison of a measured value with a limit."""

    what: str
    measured: str
    limit: str
    outcome: Outcome
    unit: str = ""
    n: int | None = None
    interval: tuple[float, float] | None = None
    artifact: str = ""

    def text(self) -> str:
        """One line: `validation accuracy: 0.9361 (n = 360, ...), wanted at least 0.9`."""
        source = f" [{self.artifact}]" if self.artifact else ""
        return f"{self.what}: {self.measured}, wanted {self.limit}{source}"

    def to_json(self) -> dict[str, Any]:
        """The judgement as it is stored."""
        return asdict(self)


@dataclass(slots=True)
class Judge:
    """Records judgements and raises CheckFailed at the first that fails."""

    judgements: list[Judgement] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    witnessed: dict[str, bytes] = field(default_factory=dict)

    def __call__(
        self,
        measured: Measurement | float | int,
        *,
        what: str,
        at_least: float | None = None,
        at_most: float | None = None,
        above: float | None = None,
        below: float | None = None,
        by: Bound = "value",
        unit: str = "",
        artifact: str = "",
    ) -> None:
        """Judge a number against exactly one limit; `by` says which end of the interval decides.

        Raises CannotJudge when value, bound or limit is missing or not finite, CheckFailed
        when it is beyond the limit, TypeError when not exactly one limit is given.
        """
        if not isinstance(measured, Measurement):
            measured = Measurement(value=measured, unit=unit)
        __tracebackhide__ = True
        limit, words, holds = _limit(at_least, at_most, above, below)
        decisive = _decisive(measured, by, what)
        suffix = f" by its {by}" if by != "value" else ""
        self._record(
            Judgement(
                what=what,
                measured=measured.text(),
                limit=f"{words} {limit:g}{suffix}",
                outcome="pass" if holds(decisive) else "fail",
                unit=unit or measured.unit,
                n=measured.n,
                interval=None
                if measured.low is None or measured.high is None
                else (measured.low, measured.high),
                artifact=artifact,
            )
        )

    def equal(self, found: object, wanted: object, *, what: str, artifact: str = "") -> None:
        """Judge that two values (digests, names, counts) are equal. Raises CheckFailed."""
        __tracebackhide__ = True
        self.that(
            found == wanted,
            what=what,
            measured=_shown(found),
            wanted=_shown(wanted),
            artifact=artifact,
        )

    def that(
        self, holds: bool, *, what: str, measured: object, wanted: object, artifact: str = ""
    ) -> None:
        """Judge a fact that is no number; `measured` and `wanted` say it in words."""
        __tracebackhide__ = True
        self._record(
            Judgement(
                what=what,
                measured=str(measured),
                limit=str(wanted),
                outcome="pass" if holds else "fail",
                artifact=artifact,
            )
        )

    def fail(self, *, what: str, measured: object, wanted: object, artifact: str = "") -> NoReturn:
        """Judge that a fact does not hold. Raises CheckFailed."""
        __tracebackhide__ = True
        self.that(False, what=what, measured=measured, wanted=wanted, artifact=artifact)
        raise CheckFailed(what)

    def note(self, text: str) -> None:
        """Something that the reader should know beside the judgement; decides nothing."""
        self.notes.append(text)

    def witness(self, name: str, content: bytes) -> None:
        """Keep what was repeated here, for a machine that computes otherwise and cannot.

        The gate stores it as `witnessed/NAME` beside the artifacts, bound to its verdict.
        """
        self.witnessed[name] = content

    def cannot(self, reason: str) -> NoReturn:
        """End the check: there is nothing to judge by. Never a pass."""
        __tracebackhide__ = True
        raise CannotJudge(reason)

    def not_applicable(self, reason: str) -> NoReturn:
        """End the check: it does not concern this run."""
        __tracebackhide__ = True
        raise NotApplicable(reason)

    def awaiting(self, reason: str) -> NoReturn:
        """End the check: a signature is missing. Never a pass."""
        __tracebackhide__ = True
        raise AwaitingSignature(reason)

    def _record(self, judgement: Judgement) -> None:
        __tracebackhide__ = True
        self.judgements.append(judgement)
        if judgement.outcome == "fail":
            raise CheckFailed(judgement.text())


def guided_by(*diagnostics: str) -> Callable[[F], F]:
    """Name the diagnostics whose guidance a failing check shows when no diagnosis is evidenced."""

    def mark(check: F) -> F:
        check.guided_by = diagnostics  # type: ignore[attr-defined]
        return check

    return mark


def _limit(
    at_least: float | None, at_most: float | None, above: float | None, below: float | None
) -> tuple[float, str, Callable[[float], bool]]:
    given: list[tuple[float, str, Callable[[float], bool]]] = []
    if at_least is not None:
        given.append((at_least, "at least", lambda value: value >= at_least))
    if at_most is not None:
        given.append((at_most, "at most", lambda value: value <= at_most))
    if above is not None:
        given.append((above, "above", lambda value: value > above))
    if below is not None:
        given.append((below, "below", lambda value: value < below))
    if len(given) != 1:
        raise TypeError("judge() takes exactly one of at_least, at_most, above, below")
    if not math.isfinite(given[0][0]):
        raise CannotJudge(f"the limit is {given[0][0]}, not a finite number")
    return given[0]


def _decisive(measured: Measurement, by: Bound, what: str) -> float:
    value = {"value": measured.value, "lower bound": measured.low, "upper bound": measured.high}[by]
    if value is None:
        raise CannotJudge(f"{what}: no interval, so no {by} to judge by")
    if not math.isfinite(value):
        raise CannotJudge(f"{what}: the measured value is {value}, not a finite number")
    return value


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:197]}..."
