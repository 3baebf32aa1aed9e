"""The ledger of a project: openings are counted by model, and a torn line costs only itself."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_mltrainer.core.artifacts import RunFolder
from pytest_mltrainer.core.ledger import (
    FINAL_TRAINING,
    OPENING,
    PLANNED,
    events,
    record,
    record_opening,
    since_planning,
)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / ".mltrainer")


def test_empty_project_has_no_events(run: RunFolder) -> None:
    assert events(run) == since_planning(run) == []


@given(models=st.lists(st.sampled_from("abcd"), max_size=10))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_each_model_opens_the_test_set_once(run: RunFolder, models: list[str]) -> None:
    run.ledger.unlink(missing_ok=True)
    for model in models:
        record_opening(run, phase="finalization", model=model)
    assert [entry["model"] for entry in events(run)] == list(dict.fromkeys(models))
    assert all(entry["event"] == OPENING for entry in events(run))


def test_events_keep_their_order_and_facts(run: RunFolder) -> None:
    record(run, FINAL_TRAINING, seed=7)
    record(run, FINAL_TRAINING, seed=8)
    assert events(run) == [
        {"event": FINAL_TRAINING, "seed": 7},
        {"event": FINAL_TRAINING, "seed": 8},
    ]


def test_only_what_came_behind_the_last_planning_counts(run: RunFolder) -> None:
    record(run, FINAL_TRAINING, seed=1)
    assert len(since_planning(run)) == 1
    record(run, PLANNED)
    assert since_planning(run) == []
    record(run, FINAL_TRAINING, seed=2)
    assert [entry["seed"] for entry in since_planning(run)] == [2]


def test_opening_behind_a_torn_line_counts(run: RunFolder) -> None:
    record_opening(run, phase="finalization", model="a")
    with run.ledger.open("ab") as stream:
        stream.write(b'{"event": "test set op')
    record_opening(run, phase="finalization", model="b")
    assert [entry["model"] for entry in events(run)] == ["a", "b"]
