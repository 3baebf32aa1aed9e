"""The decision behind a baseline, for every position of the interval to the target."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mltrainer.core.decision import decide, decide_diagnosis
from pytest_mltrainer.core.measurement import Measurement

ORDERED = st.lists(st.floats(-100, 100), min_size=3, max_size=3).map(sorted)


def measured(low: float, value: float, high: float) -> Measurement:
    return Measurement(value=value, n=100, low=low, high=high)


@pytest.mark.parametrize(
    ("low", "value", "high", "maximize", "status", "following"),
    [
        (0.8, 0.9, 1.0, True, "sufficient", "finalization"),
        (0.7, 0.8, 0.9, True, "undecided", "finalization"),
        (0.6, 0.7, 0.8, True, "undecided", "diagnostics"),
        (0.5, 0.6, 0.7, True, "insufficient", "diagnostics"),
        (0.6, 0.7, 0.8, False, "sufficient", "finalization"),
        (0.7, 0.8, 0.9, False, "undecided", "finalization"),
        (0.8, 0.9, 1.0, False, "undecided", "diagnostics"),
        (0.9, 1.0, 1.1, False, "insufficient", "diagnostics"),
    ],
)
def test_interval_against_a_target_of_0_8(
    low: float, value: float, high: float, maximize: bool, status: str, following: str
) -> None:
    decision = decide(measured(low, value, high), metric="score", target=0.8, maximize=maximize)
    assert (decision.status, decision.next) == (status, following)
    assert decision.reason.endswith("target 0.8000")


@given(bounds=ORDERED, target=st.floats(-100, 100), maximize=st.booleans())
def test_decision_follows_from_which_of_the_three_values_meet_the_target(
    bounds: list[float], target: float, maximize: bool
) -> None:
    met = [value >= target if maximize else value <= target for value in bounds]
    decision = decide(measured(*bounds), metric="score", target=target, maximize=maximize)
    if all(met):
        assert decision.status == "sufficient"
    elif any(met):
        assert decision.status == "undecided"
    else:
        assert decision.status == "insufficient"
    assert decision.next == ("finalization" if met[1] else "diagnostics")


@given(bounds=ORDERED, target=st.floats(-100, 100))
def test_minimising_mirrors_maximising(bounds: list[float], target: float) -> None:
    low, value, high = bounds
    mirrored = measured(-high, -value, -low)
    one = decide(measured(*bounds), metric="m", target=target, maximize=True)
    other = decide(mirrored, metric="m", target=-target, maximize=False)
    assert (one.status, one.next) == (other.status, other.next)


@given(value=st.floats(-100, 100), maximize=st.booleans())
def test_value_on_the_target_without_an_interval_is_sufficient(
    value: float, maximize: bool
) -> None:
    decision = decide(Measurement(value=value), metric="m", target=value, maximize=maximize)
    assert (decision.status, decision.next) == ("sufficient", "finalization")


@pytest.mark.parametrize(
    "nothing", [None, Measurement(value=math.nan), Measurement(value=math.inf)]
)
@pytest.mark.parametrize("target", [None, 0.5])
def test_nothing_finite_is_broken(nothing: Measurement | None, target: float | None) -> None:
    decision = decide(nothing, metric="accuracy", target=target, maximize=True)
    assert (decision.status, decision.next) == ("broken", "diagnostics")
    assert "no finite accuracy" in decision.reason


def test_without_a_target_every_sound_run_goes_on_and_says_so() -> None:
    decision = decide(measured(0.1, 0.2, 0.3), metric="accuracy", target=None, maximize=True)
    assert (decision.status, decision.next) == ("sufficient", "finalization")
    assert "objective.target is not set" in decision.reason


def test_decision_is_stored_with_its_reason() -> None:
    decision = decide(measured(0.8, 0.9, 1.0), metric="accuracy", target=0.7, maximize=True)
    assert decision.to_json() == {
        "status": "sufficient",
        "next": "finalization",
        "reason": "accuracy 0.9000 (n = 100, 95 % interval 0.8000 to 1.0000), target 0.7000",
        "value": 0.9,
        "target": 0.7,
    }


@pytest.mark.parametrize(
    ("broken", "near_optimal", "status", "following"),
    [
        ("nan", "", "repair", "planning"),
        ("nan", "flat", "repair", "planning"),
        ("", "flat", "near optimal", "finalization"),
        ("", "", "optimize", "optimization"),
    ],
)
def test_a_diagnosis_repairs_before_it_praises(
    broken: str, near_optimal: str, status: str, following: str
) -> None:
    decision = decide_diagnosis(broken=broken, near_optimal=near_optimal, issue="underfitting")
    assert (decision.status, decision.next) == (status, following)
    assert decision.reason == (broken or near_optimal or "underfitting")
