"""The ledger of a project: openings of the test set, trainings, rounds. Append-only."""

from typing import Any

from pytest_mltrainer.core import files
from pytest_mltrainer.core.artifacts import RunFolder

OPENING = "test set opened"
FINAL_TRAINING = "final training started"
PLANNED = "planned"
REPAIRED = "restarted with an overlay"
ROUND = "round of optimization started"


def record(run: RunFolder, event: str, **facts: Any) -> None:
    """Append one event."""
    files.append_json(run.ledger, {"event": event, **facts})


def record_opening(run: RunFolder, *, phase: str, model: str) -> None:
    """Append an opening: a prediction on the test set by a model digest that is new to it.

    The same model again adds nothing that could be chosen by, so it is not counted.
    """
    known = {entry["model"] for entry in events(run) if entry["event"] == OPENING}
    if model not in known:
        record(run, OPENING, phase=phase, model=model)


def events(run: RunFolder) -> list[dict[str, Any]]:
    """All events, oldest first."""
    return files.read_ledger(run.ledger)


def since_planning(run: RunFolder) -> list[dict[str, Any]]:
    """The events behind the last planning."""
    every = events(run)
    starts = [index for index, entry in enumerate(every) if entry["event"] == PLANNED]
    return every[starts[-1] + 1 :] if starts else every
