"""Verdicts: what their identity depends on, what is forged, and what a gate's outcome is."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import ANY_JSON, CHECK_IDS, DIGESTS, OUTCOMES, places, replaced, verdicts

from pytest_mltrainer.core import files
from pytest_mltrainer.core.artifacts import JUDGEMENTS, VERDICT, PhaseFolder
from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.core.verdict import (
    Basis,
    CheckResult,
    Verdict,
    last_identity,
    load_verdict,
    outcome_of,
    store_verdict,
    worst,
)

PATH = Path("run/baseline/verdict.json")
RESULTS = st.lists(st.builds(CheckResult, id=CHECK_IDS, outcome=OUTCOMES), min_size=1, max_size=6)
BASIS = Basis(
    artifacts={"best.pt": "a" * 64},
    objective="b" * 64,
    limits="c" * 64,
    check_sources="d" * 64,
    required=("baseline/check_a",),
)
SOUND = Verdict(phase="baseline", outcome="PASS", basis=BASIS, checks={"baseline/check_a": "pass"})


def by_id(results: list[CheckResult]) -> dict[str, CheckResult]:
    return {result.id: result for result in results}


@given(verdict=verdicts())
def test_verdict_comes_back_as_it_was(verdict: Verdict) -> None:
    stored = json.loads(json.dumps(verdict.to_json()))
    assert Verdict.from_json(stored, "baseline", PATH) == verdict


@given(verdict=verdicts(), previous=DIGESTS, upstream=st.dictionaries(DIGESTS, DIGESTS))
def test_identity_ignores_the_chain(
    verdict: Verdict, previous: str, upstream: dict[str, str]
) -> None:
    assert replace(verdict, previous=previous, upstream=upstream).identity == verdict.identity


@given(verdict=verdicts())
def test_identity_does_not_depend_on_the_order_in_which_checks_ran(verdict: Verdict) -> None:
    turned = dict(reversed(list(verdict.checks.items())))
    artifacts = dict(reversed(list(verdict.basis.artifacts.items())))
    other = replace(verdict, checks=turned, basis=replace(verdict.basis, artifacts=artifacts))
    assert other.identity == verdict.identity


def test_identity_ignores_times_and_measured_values(tmp_path: Path) -> None:
    folder = PhaseFolder(tmp_path / "baseline")
    slow = CheckResult(
        id="baseline/check_a", outcome="pass", duration_s=9.0, judgements=[{"measured": "0.91"}]
    )
    quick = replace(slow, duration_s=0.1, judgements=[{"measured": "0.92"}], reason="other")
    assert store_verdict(folder, SOUND, {slow.id: slow}, "2024-01-01T00:00:00+00:00")
    before = (folder.path / VERDICT).read_bytes()
    # A clock that was set back changes nothing either.
    assert not store_verdict(folder, SOUND, {quick.id: quick}, "2023-01-01T00:00:00+00:00")
    assert (folder.path / VERDICT).read_bytes() == before
    assert len(files.read_ledger(folder.path / JUDGEMENTS)) == 2
    assert last_identity(folder) == SOUND.identity


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda basis: replace(basis, artifacts={"best.pt": "e" * 64}), "artifact best.pt changed"),
        (lambda basis: replace(basis, artifacts={}), "artifact best.pt changed"),
        (lambda basis: replace(basis, objective="e" * 64), "the objective changed"),
        (lambda basis: replace(basis, limits="e" * 64), "limits or budgets changed"),
        (lambda basis: replace(basis, check_sources="e" * 64), "the source of a check changed"),
        (lambda basis: replace(basis, required=()), "check baseline/check_a is gone"),
        (
            lambda basis: replace(basis, required=(*basis.required, "baseline/new")),
            "check baseline/new is new",
        ),
    ],
    ids=["digest", "artifact gone", "objective", "limits", "sources", "check gone", "check new"],
)
def test_each_part_of_the_basis_makes_another_verdict_and_is_named(
    change: Callable[[Basis], Basis], word: str
) -> None:
    other = change(BASIS)
    assert replace(SOUND, basis=other).identity != SOUND.identity
    assert BASIS.differences(other) == [word]
    assert BASIS.differences(BASIS) == []


@pytest.mark.parametrize(
    "other",
    [
        replace(SOUND, outcome="FAIL"),
        replace(SOUND, phase="planning"),
        replace(SOUND, checks={"baseline/check_a": "not applicable"}),
    ],
    ids=["outcome", "phase", "check outcome"],
)
def test_outcomes_make_another_verdict(other: Verdict) -> None:
    assert other.identity != SOUND.identity


@given(verdict=verdicts(), new=ANY_JSON, data=st.data())
@settings(max_examples=400)
def test_every_edit_is_found(verdict: Verdict, new: Any, data: st.DataObject) -> None:
    stored = json.loads(json.dumps(verdict.to_json()))
    # Who wrote a verdict and what went before it is bound by a signature, not by the identity.
    place = data.draw(
        st.sampled_from(
            [
                place
                for place in places(stored)
                if place[:2] not in (("predicate", "previous"), ("predicate", "upstream"))
            ]
        )
    )
    edited = replaced(stored, place, new)
    if json.dumps(edited) == json.dumps(stored):
        return
    with pytest.raises(StorageError, match="verdict"):
        Verdict.from_json(edited, "baseline", PATH)


def test_verdict_of_another_phase_is_refused() -> None:
    with pytest.raises(StorageError, match="edited"):
        Verdict.from_json(SOUND.to_json(), "finalization", PATH)


@pytest.mark.parametrize(
    ("checks", "required"),
    [
        ({}, ("baseline/check_a",)),
        ({"baseline/check_a": "fail"}, ("baseline/check_a",)),
        ({"baseline/check_a": "pass", "baseline/check_b": "cannot judge"}, ("baseline/check_a",)),
    ],
    ids=["never ran", "failed", "another one failed"],
)
def test_pass_that_its_own_checks_deny_is_refused(
    checks: dict[str, Any], required: tuple[str, ...]
) -> None:
    forged = replace(SOUND, checks=checks, basis=replace(BASIS, required=required))
    with pytest.raises(StorageError, match="judge the gate again"):
        Verdict.from_json(forged.to_json(), "baseline", PATH)


def test_newer_schema_says_upgrade(tmp_path: Path) -> None:
    folder = PhaseFolder(tmp_path / "baseline")
    files.write_json(folder.path / VERDICT, SOUND.to_json() | {"schema": 2})
    with pytest.raises(StorageError, match=r"newer pytest-mltrainer.*upgrade"):
        load_verdict(folder)


def test_no_verdict_is_none(tmp_path: Path) -> None:
    assert load_verdict(PhaseFolder(tmp_path)) is None
    assert last_identity(PhaseFolder(tmp_path)) == ""


@pytest.mark.parametrize("damage", [b"", b"{", b"\x00", b"[]", b"{}", b"3"])
def test_damaged_verdict_is_replaced_by_the_next(tmp_path: Path, damage: bytes) -> None:
    folder = PhaseFolder(tmp_path / "baseline")
    files.write_bytes(folder.path / VERDICT, damage)
    with pytest.raises(StorageError):
        load_verdict(folder)
    assert store_verdict(folder, SOUND, {}, "now")
    assert load_verdict(folder) == SOUND


def test_edited_verdict_is_replaced_by_the_next(tmp_path: Path) -> None:
    folder = PhaseFolder(tmp_path / "baseline")
    store_verdict(folder, SOUND, {}, "now")
    stored = files.read_json(folder.path / VERDICT)
    stored["predicate"]["checks"]["baseline/check_a"] = "not applicable"
    files.write_json(folder.path / VERDICT, stored)
    store_verdict(folder, SOUND, {}, "later")
    assert load_verdict(folder) == SOUND


@given(results=RESULTS)
def test_worst_is_no_better_than_any(results: list[CheckResult]) -> None:
    order = ["pass", "not applicable", "waived", "awaiting signature", "cannot judge", "fail"]
    found = worst(results)
    assert found in results
    assert order.index(found.outcome) == max(order.index(result.outcome) for result in results)


@given(results=RESULTS, required=st.lists(CHECK_IDS, unique=True))
def test_gate_passes_only_if_every_required_check_ran_and_none_failed(
    results: list[CheckResult], required: list[str]
) -> None:
    found = by_id(results)
    outcome = outcome_of(found, required)
    bad = any(result.outcome in ("fail", "cannot judge") for result in found.values())
    missing = set(required) - set(found)
    waits = any(result.outcome == "awaiting signature" for result in found.values())
    otherwise = "AWAITING SIGNATURE" if waits else "PASS"
    assert outcome == ("FAIL" if bad else "INCOMPLETE" if missing else otherwise)


@given(results=RESULTS, required=st.lists(CHECK_IDS, unique=True), data=st.data())
def test_taking_a_check_away_or_making_it_worse_never_helps(
    results: list[CheckResult], required: list[str], data: st.DataObject
) -> None:
    found = by_id(results)
    if outcome_of(found, required) == "PASS":
        return
    name = data.draw(st.sampled_from(sorted(found)))
    worse = found | {name: CheckResult(id=name, outcome=data.draw(OUTCOMES))}
    worse[name] = worst([worse[name], found[name]])
    assert outcome_of(worse, required) != "PASS"


def test_gate_without_any_result_is_incomplete() -> None:
    assert outcome_of({}, ["baseline/check_a"]) == "INCOMPLETE"
