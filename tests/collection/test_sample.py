"""A few quick programs of the collection: the cause is named first, healthy ones stay silent."""

import pytest

from .cases import HEALTHY, LABELS, collected
from .runs import CaseRun, run_cases

SAMPLE = (
    "wine_missing_measurements",
    "digits_softmax_twice",
    "diabetes_tiny_steps",
    "digits_narrow",
    "digits_sorted",
    "discharge_code",
    "ok_easy_table",
    "ok_one_in_ten",
)


@pytest.fixture(scope="module")
def runs() -> dict[str, CaseRun]:
    cases = collected("develop")
    return {run.case: run for run in run_cases([(cases[name], 1) for name in SAMPLE])}


@pytest.mark.parametrize("name", SAMPLE)
def test_the_cause_is_named_first(runs: dict[str, CaseRun], name: str) -> None:
    run = runs[name]

    assert not run.errors
    assert run.first == ("" if run.label == HEALTHY else run.label)


def test_every_cause_has_three_programs_in_both_parts() -> None:
    develop, held_out = collected("develop"), collected("held_out")

    for label in LABELS:
        own = [case for case in (develop | held_out).values() if case.label == label]
        assert len(own) >= 3, label
        assert {case.part for case in own} == {"develop", "held_out"}, label
    healthy = [case for case in (develop | held_out).values() if case.label == HEALTHY]
    assert len(healthy) >= 25
    assert all(case.has_twin for case in (develop | held_out).values() if case.label != HEALTHY)
