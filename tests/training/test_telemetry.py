"""Telemetry: what was written is read, a torn end costs only itself, truncation is exact."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.core.evidence import EpochRecord
from pytest_mltrainer.training.observation.telemetry import (
    EPOCHS_FILE,
    STEP,
    STEPS_FILE,
    Telemetry,
    TelemetryWriter,
    read_steps,
)

VALUES = st.floats() | st.just(math.nan) | st.just(-math.inf)
SCORES = st.dictionaries(st.sampled_from(["loss", "accuracy", "f1"]), VALUES)
QUIET = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None
)


def rows(count: int, first: int = 0) -> "np.ndarray[tuple[int], np.dtype[np.void]]":
    made = np.zeros(count, STEP)
    made["step"] = np.arange(first, first + count)
    made["loss"] = np.linspace(1, 0, count)
    return made


def epoch(number: int, **train: float) -> EpochRecord:
    return EpochRecord(
        epoch=number, steps=10, learning_rate=0.1, duration_s=1.5, train=train, validation={}
    )


@given(train=SCORES, validation=SCORES)
@QUIET
def test_epochs_come_back_with_every_float(
    tmp_path_factory: pytest.TempPathFactory,
    train: dict[str, float],
    validation: dict[str, float],
) -> None:
    folder = tmp_path_factory.mktemp("run")
    writer = TelemetryWriter(folder)
    writer.append_epoch(
        EpochRecord(
            epoch=3, steps=7, learning_rate=0.1, duration_s=2.0, train=train, validation=validation
        )
    )
    (found,) = Telemetry.read(folder).epochs
    for wanted, part in ((train, found.train), (validation, found.validation)):
        assert wanted.keys() == part.keys()
        assert all(
            value == part[name] or (math.isnan(value) and math.isnan(part[name]))
            for name, value in wanted.items()
        )


@given(count=st.integers(0, 5), cut=st.integers(0, 200))
@QUIET
def test_torn_last_record_is_dropped(
    tmp_path_factory: pytest.TempPathFactory, count: int, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("run")
    writer = TelemetryWriter(folder)
    writer.append_steps(rows(count))
    path = folder / STEPS_FILE
    path.write_bytes(path.read_bytes()[:cut])
    found = Telemetry.read(folder).steps
    kept = min(count, cut // STEP.itemsize)
    assert found.tobytes() == rows(count)[:kept].tobytes()


def test_numpy_reads_the_records_in_one_line(tmp_path: Path) -> None:
    TelemetryWriter(tmp_path).append_steps(rows(4))
    assert np.fromfile(tmp_path / STEPS_FILE, STEP)["step"].tolist() == [0, 1, 2, 3]
    assert STEP.itemsize == 40


@given(
    steps=st.integers(0, 6),
    epochs=st.integers(0, 4),
    keep=st.tuples(st.integers(0, 6), st.integers(0, 4)),
)
@QUIET
def test_truncation_keeps_the_beginning_and_goes_on_behind_it(
    tmp_path_factory: pytest.TempPathFactory, steps: int, epochs: int, keep: tuple[int, int]
) -> None:
    folder = tmp_path_factory.mktemp("run")
    writer = TelemetryWriter(folder)
    writer.append_steps(rows(steps))
    for number in range(epochs):
        writer.append_epoch(epoch(number, loss=math.nan))
    with (folder / STEPS_FILE).open("ab") as stream:
        stream.write(b"torn")
    writer.truncate(steps=keep[0], epochs=keep[1])
    writer.append_steps(rows(2, first=100))
    writer.append_epoch(epoch(100))
    found = Telemetry.read(folder)
    assert found.steps["step"].tolist() == [*range(min(steps, keep[0])), 100, 101]
    assert [entry.epoch for entry in found.epochs] == [*range(min(epochs, keep[1])), 100]


def test_nothing_recorded_is_empty(tmp_path: Path) -> None:
    found = Telemetry.read(tmp_path)
    assert len(found.steps) == len(found.epochs) == 0
    assert len(read_steps(tmp_path / "absent")) == 0


@pytest.mark.parametrize(
    "line", ["{}", "[]", "3", '{"epoch": 1}', '{"train": 3}', '{"train": {"loss": "high"}}']
)
def test_damaged_epochs_name_the_file(tmp_path: Path, line: str) -> None:
    TelemetryWriter(tmp_path).append_epoch(epoch(0))
    path = tmp_path / EPOCHS_FILE
    path.write_text(f"{line}\n{path.read_text()}")
    with pytest.raises(StorageError, match=r"epochs\.jsonl: a line is not an epoch record"):
        Telemetry.read(tmp_path)
