"""Small projects with one planted illness each, trained for real: what do their gates say?"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from junitparser import Error, Failure, JUnitXml
from support import TrainedProject

Trained = Callable[..., TrainedProject]


@dataclass(frozen=True, slots=True, kw_only=True)
class Illness:
    """A project that its gate must stop: where, by which checks, and with which diagnosis."""

    project: str
    diagnosis: str
    phase: str
    failing: frozenset[str]


BROKEN = [
    Illness(
        project="nan_loss",
        diagnosis="nan_loss",
        phase="baseline",
        failing=frozenset({"run_completed", "losses_finite", "loss_decreased"}),
    ),
    Illness(
        project="stall",
        diagnosis="lr_too_low",
        phase="baseline",
        failing=frozenset({"loss_decreased", "beats_trivial"}),
    ),
    Illness(
        project="unnormalized",
        diagnosis="unnormalized_data",
        phase="baseline",
        failing=frozenset({"loss_decreased", "beats_trivial"}),
    ),
    Illness(
        project="leak",
        diagnosis="data_leakage",
        phase="planning",
        failing=frozenset({"splits_disjoint"}),
    ),
]
SOUND = {"overfit": "overfitting", "underfit": "underfitting"}
HEALTHY = ("healthy", "healthy_regression")

broken = pytest.mark.parametrize("illness", BROKEN, ids=[entry.project for entry in BROKEN])
sound = pytest.mark.parametrize(("name", "diagnosis"), SOUND.items(), ids=SOUND)
healthy = pytest.mark.parametrize("name", HEALTHY)


@broken
def test_a_broken_run_fails_by_the_checks_that_concern_it(
    illness: Illness, trained: Trained
) -> None:
    project = trained(illness.project)
    assert project.returncode == 1
    assert gate_of(project, illness.phase)["outcome"] == "FAIL"
    outcomes = gate_of(project, illness.phase)["checks"]
    failing = {name.partition("/")[2] for name, outcome in outcomes.items() if outcome == "fail"}
    assert failing == illness.failing


@broken
def test_its_first_diagnosis_is_the_illness(illness: Illness, trained: Trained) -> None:
    assert diagnoses(trained(illness.project), illness.phase)[0]["id"] == illness.diagnosis


@broken
def test_the_terminal_names_check_and_diagnosis(illness: Illness, trained: Trained) -> None:
    failures, _, summary = trained(illness.project).stdout.partition("= pipeline =")
    for name in illness.failing:
        assert f" test_{name} " in failures
        assert re.search(rf"^ +fail +{illness.phase}/{name}: ", summary, re.M)
    assert f"diagnosis: {illness.diagnosis} (confidence" in failures
    assert f"diagnosis: {illness.diagnosis} (confidence" in summary
    assert f"pytest-mltrainer explain {illness.diagnosis}" in summary


@broken
def test_junit_carries_the_diagnosis_in_each_failure(illness: Illness, trained: Trained) -> None:
    report = JUnitXml.fromfile(str(trained(illness.project).report))
    suites = {suite.name: suite for suite in report}
    failed = {
        case.name: entry
        for case in suites[f"gate:{illness.phase}"]
        for entry in case.result
        if isinstance(entry, Failure | Error)
    }
    assert set(failed) == {f"test_{name}" for name in illness.failing}
    for failure in failed.values():
        assert isinstance(failure, Failure)
        assert f"diagnosis: {illness.diagnosis} (confidence" in (failure.text or "")


def test_nothing_trains_behind_a_leak(trained: Trained) -> None:
    project = trained("leak")
    assert not (project.path / ".mltrainer" / "baseline").exists()
    assert re.search(r"^baseline +BLOCKED +the gate of planning is FAIL", project.stdout, re.M)


def test_a_loss_that_is_nan_is_named_by_step_and_module(trained: Trained) -> None:
    project = trained("nan_loss")
    fault = json.loads((project.path / ".mltrainer/baseline/fault.json").read_text())
    assert (fault["what"], fault["module_type"]) == ("loss", "Probabilities")
    assert f"loss at step {fault['step']} (epoch {fault['epoch']}): nan" in project.stdout


@sound
def test_a_sound_run_short_of_its_target_passes(
    name: str, diagnosis: str, trained: Trained
) -> None:
    project = trained(name)
    assert project.returncode == 0
    assert gate_of(project, "baseline")["outcome"] == "PASS"


@sound
def test_it_is_insufficient_with_its_diagnosis_beside_it(
    name: str, diagnosis: str, trained: Trained
) -> None:
    project = trained(name)
    assert decision(project)["status"] == "insufficient"
    assert diagnoses(project, "baseline")[0]["id"] == diagnosis
    summary = project.stdout.partition("= pipeline =")[2]
    assert "decision: the baseline is insufficient" in summary
    assert f"diagnosis: {diagnosis} (confidence" in summary


@healthy
def test_a_healthy_run_passes_without_a_diagnosis(name: str, trained: Trained) -> None:
    project = trained(name)
    assert project.returncode == 0
    assert decision(project)["status"] == "sufficient"
    assert diagnoses(project, "planning") == []
    assert diagnoses(project, "baseline") == []
    assert "diagnosis:" not in project.stdout


@healthy
def test_a_healthy_run_is_finalized(name: str, trained: Trained) -> None:
    project = trained(name, "finalization")
    assert project.returncode == 0
    assert gate_of(project, "finalization")["outcome"] == "PASS"
    assert diagnoses(project, "finalization") == []


def gate_of(project: TrainedProject, phase: str) -> dict[str, Any]:
    """What the stored verdict says about a phase."""
    verdict = json.loads((project.path / ".mltrainer" / phase / "verdict.json").read_text())
    stored: dict[str, Any] = verdict["predicate"]
    return stored


def decision(project: TrainedProject) -> dict[str, str]:
    stored: dict[str, str] = json.loads(
        (project.path / ".mltrainer/baseline/decision.json").read_text()
    )
    return stored


def diagnoses(project: TrainedProject, phase: str) -> list[dict[str, Any]]:
    """The stored diagnoses of a phase, most likely cause first; no detector may have failed."""
    stored = json.loads((project.path / ".mltrainer" / phase / "diagnoses.json").read_text())
    assert stored["failed"] == {}
    found: list[dict[str, Any]] = stored["diagnoses"]
    return found
