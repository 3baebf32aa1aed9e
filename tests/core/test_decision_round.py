"""What a round of optimization leads to, for every finding and every place of the target."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mltrainer.core.decision import LEAST_RELATIVE_GAIN, RoundDecision, decide_round
from pytest_mltrainer.core.measurement import Measurement


def score(value: float) -> Measurement:
    return Measurement(value=value, n=100, low=value - 0.02, high=value + 0.02)


def decided(**other: Any) -> RoundDecision:
    """A significant gain of 0.05 to 0.85, short of the target, in the first of three rounds."""
    facts: dict[str, Any] = {
        "metric": "accuracy",
        "maximize": True,
        "target": 0.9,
        "winner": score(0.85),
        "incumbent": score(0.80),
        "gain": 0.05,
        "relative_gain": 0.0625,
        "is_significant": True,
        "rounds_started": 1,
        "rounds_allowed": 3,
        "something_left": True,
    }
    return decide_round(**{**facts, **other})


@pytest.mark.parametrize(
    ("facts", "status", "accepts"),
    [
        ({}, "next round", True),
        ({"target": 0.85}, "target met", True),
        ({"target": None}, "next round", True),
        ({"is_significant": False}, "diagnose again", False),
        ({"is_significant": None}, "diagnose again", False),
        ({"is_significant": False, "target": 0.85}, "target met", True),
        ({"is_significant": None, "target": 0.85}, "target met", True),
        ({"is_significant": False, "target": 0.8}, "target met", False),
        ({"is_significant": True, "target": 0.8}, "target met", True),
        ({"relative_gain": 0.019}, "diminishing returns", True),
        ({"relative_gain": 0.02}, "next round", True),
        ({"relative_gain": None}, "next round", True),
        ({"relative_gain": 0.019, "is_significant": False}, "diagnose again", False),
        ({"rounds_started": 3}, "accepted short of target", True),
        ({"rounds_started": 3, "is_significant": False}, "accepted short of target", False),
        ({"something_left": False}, "accepted short of target", True),
        ({"winner": None, "gain": None, "is_significant": None}, "diagnose again", False),
        ({"winner": None, "gain": None, "rounds_started": 3}, "accepted short of target", False),
        ({"broken_guards": ["macro_f1"]}, "diagnose again", False),
        ({"broken_guards": ["macro_f1"], "target": 0.85}, "diagnose again", False),
        ({"winner": score(math.nan), "gain": math.nan}, "diagnose again", False),
    ],
)
def test_one_row_of_the_table(facts: dict[str, Any], status: str, accepts: bool) -> None:
    decision = decided(**facts)
    assert (decision.status, decision.accepts) == (status, accepts)
    further = status in ("next round", "diagnose again")
    assert decision.next == ("optimization" if further else "finalization")


FINDINGS = st.fixed_dictionaries(
    {
        "target": st.none() | st.floats(0, 1),
        "values": st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)),
        "is_significant": st.sampled_from([True, False, None]),
        "rounds_started": st.integers(1, 3),
        "something_left": st.booleans(),
        "broken_guards": st.sampled_from([(), ("recall of slice 3",)]),
    }
)


def decided_on(found: dict[str, Any], *, maximize: bool = True, mirror: int = 1) -> RoundDecision:
    winner, incumbent = found["values"]
    gain = winner - incumbent
    target = found["target"]
    return decided(
        maximize=maximize,
        target=None if target is None else mirror * target,
        winner=score(mirror * winner),
        incumbent=score(mirror * incumbent),
        gain=gain,
        relative_gain=gain / incumbent,
        is_significant=found["is_significant"],
        rounds_started=found["rounds_started"],
        something_left=found["something_left"],
        broken_guards=found["broken_guards"],
    )


@given(found=FINDINGS)
def test_laws_of_a_round(found: dict[str, Any]) -> None:
    decision = decided_on(found)
    winner, incumbent = found["values"]
    target = found["target"]
    better = winner > incumbent and not found["broken_guards"]
    met = [target is not None and value >= target for value in (winner, incumbent)]
    # Never worse, never on chance alone.
    assert decision.accepts == (
        better and (found["is_significant"] is True or (met[0] and not met[1]))
    )
    assert (decision.status == "target met") == met[0 if decision.accepts else 1]
    if decision.status == "diminishing returns":
        assert decision.accepts
        assert (winner - incumbent) / incumbent < LEAST_RELATIVE_GAIN
    if decision.next == "optimization":
        assert found["rounds_started"] < 3
        assert found["something_left"]
    assert decision.reason


@given(found=FINDINGS)
def test_minimising_mirrors_maximising(found: dict[str, Any]) -> None:
    one, other = decided_on(found), decided_on(found, maximize=False, mirror=-1)
    assert (one.status, one.next, one.accepts) == (other.status, other.next, other.accepts)


def test_the_reason_keeps_significance_and_target_apart() -> None:
    reason = decided(is_significant=False, target=0.84).reason
    assert "0.0500 is not significant" in reason
    assert "the target is met, although its interval reaches beyond" in reason
    assert "breaks macro_f1" in decided(broken_guards=["macro_f1"]).reason
    assert "the incumbent 0.8000" in decided(is_significant=None).reason
    assert "no trial was compared" in decided(winner=None, gain=None).reason


def test_decision_is_stored_whole() -> None:
    stored = decided().to_json()
    assert stored["status"] == "next round"
    assert stored["accepts"] is True
    assert set(stored) == {"status", "next", "accepts", "reason"}
