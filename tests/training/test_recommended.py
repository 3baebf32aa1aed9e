"""What is recommended: concrete, once each, in order of worth, with a range that can be argued."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.evidence import Cause, Diagnosis, Evidence, Recommendation
from pytest_mltrainer.training.diagnosing.recommended import (
    MOST,
    Advice,
    Standing,
    advise,
    search_advice,
)
from pytest_mltrainer.training.diagnosing.remedies import against

EVIDENCE = Evidence(
    kind="classification",
    metric="accuracy",
    maximize=True,
    target=0.9,
    config=Config().to_json(),
)
SOUND = Standing(now=0.7, trivial=0.5, goal=0.9, linear=0.8, training=0.75, maximize=True)


def advised(*recommendations: Recommendation, position: Standing = SOUND) -> tuple[Advice, ...]:
    issue = Diagnosis(
        id="issue",
        cause=Cause.CAPACITY,
        summary="",
        confidence=0.5,
        symptoms=(),
        recommendations=recommendations,
    )
    return advise((issue,), EVIDENCE, position, lambda _, key: key.startswith("training."))


@pytest.mark.parametrize(
    "patch",
    [
        {"training.epochs": "many"},
        {"training.epochs": 20},
        {"training.no_such_key": 1},
        {"model.width": 32},
    ],
    ids=["refused", "no change", "unknown", "not read"],
)
def test_a_patch_that_is_none_becomes_its_instruction(patch: dict[str, object]) -> None:
    (advice,) = advised(Recommendation(instruction="do this", patch=patch))
    assert advice.recommendation.patch == {}
    assert advice.recommendation.instruction == "do this"


def test_equal_changes_are_recommended_once_and_five_at_most() -> None:
    same = [Recommendation(instruction=text, patch={"training.epochs": 40}) for text in "ab"]
    assert len(advised(*same)) == 1
    many = [Recommendation(instruction=f"do {number}") for number in range(9)]
    assert [entry.recommendation.instruction for entry in advised(*many)] == [
        f"do {number}" for number in range(MOST)
    ]


def test_most_worth_stands_first() -> None:
    low, high, easy = (
        Recommendation(instruction="low", impact="low"),
        Recommendation(instruction="high", impact="high", effort="high"),
        Recommendation(instruction="easy", impact="high", effort="low"),
    )
    order = [entry.recommendation.instruction for entry in advised(low, high, easy)]
    assert order == ["easy", "high", "low"]


def test_the_range_of_the_diagnosis_counts_first() -> None:
    own = Recommendation(instruction="a", predicted=(0.8, 0.85))
    wild = Recommendation(instruction="b", predicted=(math.nan, 0.85))
    first, second = advised(own, wild)
    assert (first.predicted, first.argued) == ((0.8, 0.85), "the diagnosis issue")
    assert second.predicted == pytest.approx((0.7, 0.8))
    assert second.argued == "the present score half the way to the target"


def test_a_broken_run_is_predicted_from_the_trivial_score() -> None:
    broken = replace(SOUND, now=None, training=None, goal=None)
    (advice,) = advised(Recommendation(instruction="a"), position=broken)
    assert advice.predicted == (0.5, 0.8)
    assert advice.argued == "a trivial model to the linear model"


SCORES = st.none() | st.floats(-5, 5)


@given(SCORES, SCORES, SCORES, SCORES, SCORES, st.booleans())
def test_every_range_is_finite_and_never_predicts_a_loss(
    now: float | None,
    trivial: float | None,
    goal: float | None,
    linear: float | None,
    training: float | None,
    maximize: bool,
) -> None:
    position = Standing(
        now=now, trivial=trivial, goal=goal, linear=linear, training=training, maximize=maximize
    )
    (low, high), argued = position.expected()
    assert math.isfinite(low)
    assert low <= high
    assert argued
    if now is not None:
        assert (low if maximize else high) == now


@pytest.mark.parametrize("kind", ["bias", "variance", "data"])
def test_what_the_curve_shows_has_advice_that_holds(kind: str) -> None:
    entries = against(kind, EVIDENCE, lambda _, key: key.startswith("training."))
    kept = {entry.instruction: entry.patch for entry in entries}
    assert {
        entry.recommendation.instruction: entry.recommendation.patch for entry in advised(*entries)
    } == kept


@pytest.mark.parametrize(
    ("kind", "patches"),
    [
        ("bias", [{"training.epochs": 60}, {"model.width": 64}]),
        ("variance", [{"model.dropout": 0.3}, {"training.weight_decay": 0.1}]),
    ],
)
def test_advice_against_a_curve_changes_the_model_that_was_read(
    kind: str, patches: list[dict[str, object]]
) -> None:
    config = Config.from_json({"model": {"width": 16, "dropout": 0.0}}).to_json()
    config["training"] |= {"optimizer": "adamw", "weight_decay": 0.0}
    read = replace(EVIDENCE, config=config)
    found = [entry.patch for entry in against(kind, read, lambda *_: True) if entry.patch]
    assert found == patches


def test_dropout_is_found_by_its_measured_share_whatever_its_name() -> None:
    config = Config.from_json({"model": {"width": 16, "drop": 0.2}}).to_json()
    read = replace(EVIDENCE, config=config, probes={"initial": {"dropout": 0.2}})
    found = [entry.patch for entry in against("variance", read, lambda *_: True)]
    assert {"model.drop": 0.3} in found
    decoy = Config.from_json({"model": {"negative_slope": 0.2}}).to_json()
    found = [e.patch for e in against("variance", replace(read, config=decoy), lambda *_: True)]
    assert {"model.negative_slope": 0.3} not in found
    unlike = replace(read, probes={"initial": {"dropout": 0.4}})
    found = [entry.patch for entry in against("variance", unlike, lambda *_: True)]
    assert {"model.dropout": 0.3} in found


def test_a_search_tries_both_sides() -> None:
    patches = [entry.recommendation.patch for entry in advised(*search_advice(EVIDENCE))]
    assert [patch["training.learning_rate"] for patch in patches] == pytest.approx([1e-3 / 3, 3e-3])
