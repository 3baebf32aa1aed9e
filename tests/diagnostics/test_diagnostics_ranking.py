"""Findings: order, failures that hide nothing, storage, and the text for the terminal."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mltrainer.core.evidence import Cause, Diagnosis, Evidence, Recommendation, Symptom
from pytest_mltrainer.core.ranking import Findings, by_worth, change_text, diagnose, text
from pytest_mltrainer.core.relations import FOLLOWS

EVIDENCE = Evidence(kind="classification", metric="accuracy", maximize=True, target=None, config={})
CONFIG = {
    "training": {"learning_rate": 0.1, "clip_norm": None},
    "objective": {"metric": "accuracy"},
}
NAN = Diagnosis(
    id="nan_loss",
    cause=Cause.NUMERICS,
    summary="The loss stopped being finite.",
    confidence=0.98,
    symptoms=(Symptom(what="gradient norm", measured=12345.678, limit=10.0),),
    where="step 7, epoch 0, module net.2 (Linear)",
    details=("last finite loss: 2.3",),
    recommendations=(
        Recommendation(
            instruction="lower it",
            patch={"training.learning_rate": 0.01},
            impact="high",
            predicted=(0.9, 0.95),
        ),
        Recommendation(instruction="clip", patch={"training.clip_norm": 1.0}),
        Recommendation(instruction="clamp before log"),
    ),
)


def named(name: str, cause: Cause, confidence: float) -> Diagnosis:
    return replace(NAN, id=name, cause=cause, confidence=confidence)


def test_root_cause_stands_before_symptom_and_confidence_decides_ties() -> None:
    said = [
        named("late", Cause.OVERFITTING, 1.0),
        named("unsure", Cause.LEAK_OR_SKEW, 0.5),
        named("sure", Cause.LEAK_OR_SKEW, 0.9),
    ]
    findings = diagnose(EVIDENCE, {entry.id: lambda _, entry=entry: entry for entry in said})
    assert [entry.id for entry in findings.diagnoses] == ["sure", "unsure", "late"]
    assert findings.primary is not None
    assert findings.primary.id == "sure"
    assert [entry.id for entry in findings.independent] == ["unsure", "late"]
    assert not findings.consequences


def test_what_follows_from_the_primary_is_said_to_follow_with_the_reason() -> None:
    said = [
        named("convergence_stall", Cause.LEARNING_RATE, 0.9),
        named("class_imbalance", Cause.LABELS, 0.6),
        named("underfitting", Cause.CAPACITY, 0.7),
        named("resource_inefficiency", Cause.RESOURCES, 0.9),
    ]
    findings = diagnose(EVIDENCE, {entry.id: lambda _, entry=entry: entry for entry in said})
    order = ["class_imbalance", "convergence_stall", "underfitting", "resource_inefficiency"]
    assert [entry.id for entry in findings.diagnoses] == order
    assert list(findings.consequences) == ["convergence_stall", "underfitting"]
    assert "largest class" in findings.consequences["convergence_stall"]
    assert [entry.id for entry in findings.independent] == ["resource_inefficiency"]
    lines = text(findings, CONFIG).splitlines()
    assert lines[-2].startswith("  follows from it: convergence_stall (confidence 0.90): guess")
    assert lines[-1].endswith("(and 1 more)")


def test_relations_never_run_in_a_circle() -> None:
    def below(name: str, path: tuple[str, ...] = ()) -> None:
        assert name not in path
        for consequence in FOLLOWS.get(name, {}):
            if name not in FOLLOWS.get(consequence, {}):
                below(consequence, (*path, name))

    for name in FOLLOWS:
        below(name)


@given(st.permutations([(cause, conf) for cause in list(Cause)[:4] for conf in (0.2, 0.8)]))
def test_order_does_not_depend_on_who_was_asked_first(order: list[tuple[Cause, float]]) -> None:
    detectors = {
        f"{cause.name}-{conf}": lambda _, cause=cause, conf=conf: named(cause.name, cause, conf)
        for cause, conf in order
    }
    found = diagnose(EVIDENCE, detectors).diagnoses
    keys = [(entry.cause, -entry.confidence) for entry in found]
    assert keys == sorted(keys)
    assert len(keys) == len(order)


def test_a_detector_that_raises_hides_nothing() -> None:
    def raising(_: Evidence) -> Diagnosis | None:
        raise TypeError("no such field")

    findings = diagnose(
        EVIDENCE,
        {"bad": raising, "nan_loss": lambda _: NAN, "quiet": lambda _: None, "odd": lambda _: "x"},
    )
    assert findings.diagnoses == (NAN,)
    assert findings.silent == ("quiet",)
    assert findings.failed == {
        "bad": "TypeError: no such field",
        "odd": "TypeError: returned str, wanted Diagnosis or None",
    }
    assert "could not look: bad: TypeError: no such field" in text(findings, CONFIG)


def test_findings_survive_storage() -> None:
    findings = Findings(diagnoses=(NAN,), silent=("overfitting",), failed={"x": "KeyError: 'a'"})
    assert Findings.from_json(json.loads(json.dumps(findings.to_json()))) == findings


def test_what_was_tried_is_not_recommended_again() -> None:
    findings = diagnose(EVIDENCE, {"nan_loss": lambda _: NAN})
    left = findings.without([{"training.learning_rate": 0.01}, {}])
    (found,) = left.diagnoses
    assert [entry.instruction for entry in found.recommendations] == ["clip", "clamp before log"]
    assert "0.01" not in text(left, CONFIG)


def test_text_of_a_diagnosis() -> None:
    late = replace(NAN, id="underfitting", cause=Cause.CAPACITY, summary="It is too small.")
    assert text(Findings(diagnoses=(NAN, late)), CONFIG).splitlines() == [
        "diagnosis: nan_loss (confidence 0.98)",
        "  The loss stopped being finite.",
        "  where: step 7, epoch 0, module net.2 (Linear)",
        "  measured: gradient norm 1.235e+04 (limit 10)",
        "  seen: last finite loss: 2.3",
        "  change: training.learning_rate: 0.1 -> 0.01 "
        "(impact high, effort low, risk low; expected accuracy 0.90 to 0.95)",
        "  change: training.clip_norm: none -> 1 (impact medium, effort low, risk low)",
        "  more: pytest-mltrainer explain nan_loss",
        "  follows from it: underfitting (confidence 0.98): the way to the overflow",
    ]


@pytest.mark.parametrize("consequences", [0, 1, 2, 9])
@pytest.mark.parametrize("failed", [{}, {"x": "KeyError: 'a'\n" * 300}])
def test_text_has_4_to_10_short_lines(consequences: int, failed: dict[str, str]) -> None:
    findings = Findings(diagnoses=(NAN,) * (1 + consequences), failed=failed)
    lines = text(findings, {}).splitlines()
    assert 4 <= len(lines) <= 10
    assert max(map(len, lines)) <= 320


def test_text_without_a_diagnosis() -> None:
    assert text(Findings(silent=("a", "b")), {}) == "diagnosis: none; 2 diagnostics saw nothing"


def test_a_change_without_a_key_is_an_instruction() -> None:
    shown = change_text(Recommendation(instruction="clamp before log"), CONFIG)
    assert shown == "clamp before log (impact medium, effort low, risk low)"


def test_worth_is_impact_then_effort_then_risk() -> None:
    best = Recommendation(instruction="a", impact="high")
    risky = Recommendation(instruction="b", impact="high", risk="high")
    dear = Recommendation(instruction="c", impact="high", effort="high")
    small = Recommendation(instruction="d", impact="low")
    assert by_worth([small, dear, risky, best]) == (best, risky, dear, small)
