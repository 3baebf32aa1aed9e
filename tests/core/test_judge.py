"""A check speaks through `judge`: each limit, each bound, and what cannot be judged."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mltrainer.core.judge import (
    CannotJudge,
    CheckFailed,
    Judge,
    NotApplicable,
    guided_by,
)
from pytest_mltrainer.core.measurement import Measurement

FINITE = st.floats(-1e9, 1e9)
LIMITS = ["at_least", "at_most", "above", "below"]
HOLDS = {
    "at_least": lambda value, limit: value >= limit,
    "at_most": lambda value, limit: value <= limit,
    "above": lambda value, limit: value > limit,
    "below": lambda value, limit: value < limit,
}


def outcome(measured: Any, **options: Any) -> str:
    judge = Judge()
    try:
        judge(measured, what="value", **options)
    except CheckFailed:
        return judge.judgements[-1].outcome
    except CannotJudge:
        assert judge.judgements == []
        return "cannot judge"
    assert [judgement.outcome for judgement in judge.judgements] == ["pass"]
    return "pass"


@given(value=FINITE, limit=FINITE, name=st.sampled_from(LIMITS))
def test_each_limit_compares_as_it_says(value: float, limit: float, name: str) -> None:
    wanted = "pass" if HOLDS[name](value, limit) else "fail"
    assert outcome(value, **{name: limit}) == wanted


@given(value=FINITE)
def test_value_on_its_limit_passes_unless_it_must_be_beyond(value: float) -> None:
    assert outcome(value, at_least=value) == outcome(value, at_most=value) == "pass"
    assert outcome(value, above=value) == outcome(value, below=value) == "fail"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", LIMITS)
def test_what_is_not_finite_cannot_be_judged(value: float, name: str) -> None:
    assert outcome(value, **{name: 0.0}) == "cannot judge"


@pytest.mark.parametrize(
    ("by", "wanted"), [("value", "fail"), ("lower bound", "fail"), ("upper bound", "pass")]
)
def test_the_named_end_of_the_interval_decides(by: Any, wanted: str) -> None:
    measured = Measurement(value=0.5, n=10, low=0.3, high=0.7)
    assert outcome(measured, at_least=0.6, by=by) == wanted


@pytest.mark.parametrize("by", ["lower bound", "upper bound"])
@pytest.mark.parametrize("end", [None, math.nan, math.inf])
def test_missing_or_infinite_bound_cannot_be_judged(by: Any, end: float | None) -> None:
    assert outcome(Measurement(value=0.5, low=end, high=end), at_most=1.0, by=by) == "cannot judge"


@pytest.mark.parametrize(
    "limits", [{}, {"at_least": 0.0, "at_most": 1.0}, {"above": 0, "below": 1}]
)
def test_exactly_one_limit_is_wanted(limits: dict[str, float]) -> None:
    with pytest.raises(TypeError, match="exactly one"):
        Judge()(0.5, what="value", **limits)  # type: ignore[arg-type]


def test_limit_of_zero_is_a_limit() -> None:
    assert outcome(-1, at_least=0) == "fail"
    assert outcome(0, at_most=0) == "pass"


@pytest.mark.parametrize("limit", [math.nan, math.inf])
def test_limit_that_is_no_number_is_our_own_mistake(limit: float) -> None:
    with pytest.raises((ValueError, TypeError, CannotJudge)):
        Judge()(0.5, what="value", at_most=limit)


def test_judgement_says_measured_limit_sample_and_artifact() -> None:
    judge = Judge()
    measured = Measurement(value=0.9361, n=360, low=0.906, high=0.957)
    judge(measured, what="accuracy", at_least=0.9, by="lower bound", artifact="best.pt sha256 1a")
    (judgement,) = judge.judgements
    assert judgement.text() == (
        "accuracy: 0.9361 (n = 360, 95 % interval 0.9060 to 0.9570), "
        "wanted at least 0.9 by its lower bound [best.pt sha256 1a]"
    )
    assert (judgement.n, judgement.interval) == (360, (0.906, 0.957))


def test_first_failure_ends_the_check_and_stays_recorded() -> None:
    judge = Judge()
    judge(1, what="first", at_least=0)
    with pytest.raises(CheckFailed, match="second"):
        judge(1, what="second", at_least=2)
    assert [judgement.outcome for judgement in judge.judgements] == ["pass", "fail"]


def test_equal_and_that() -> None:
    judge = Judge()
    judge.equal("a", "a", what="digest")
    judge.that(True, what="fact", measured="yes", wanted="yes")
    with pytest.raises(CheckFailed, match="digest: a, wanted b"):
        judge.equal("a", "b", what="digest")
    assert len(judge.judgements) == 3


def test_long_values_are_cut() -> None:
    judge = Judge()
    judge.equal("x" * 10_000, "x" * 10_000, what="text")
    assert len(judge.judgements[0].text()) < 500


def test_cannot_and_not_applicable_end_the_check() -> None:
    judge = Judge()
    with pytest.raises(CannotJudge, match="no epoch"):
        judge.cannot("no epoch")
    with pytest.raises(NotApplicable, match="own loop"):
        judge.not_applicable("own loop")
    assert judge.judgements == []


def test_notes_decide_nothing() -> None:
    judge = Judge()
    judge.note("read this")
    assert judge.notes == ["read this"]
    assert judge.judgements == []


def test_guided_by_names_diagnostics() -> None:
    @guided_by("overfitting", "data_leakage")
    def check() -> None: ...

    assert check.guided_by == ("overfitting", "data_leakage")  # type: ignore[attr-defined]
