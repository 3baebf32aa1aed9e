"""Writes are whole or not at all, whatever fails and whenever the process ends."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from file_faults import FAULTS, at_every_call, killed_at_every_call
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pytest_mltrainer.core import files
from pytest_mltrainer.core.errors import StorageError

OLD, NEW = {"value": "old" * 50}, {"value": "new" * 50}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def write_old(path: Path) -> None:
    shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir()
    path.write_text(json.dumps(OLD))


@pytest.mark.parametrize(("number", "stays_broken"), FAULTS)
def test_failed_write_keeps_the_old_file(tmp_path: Path, number: int, stays_broken: bool) -> None:
    path = tmp_path / "folder" / "artifact.json"

    def check(error: Exception | None) -> None:
        if error is None:
            assert files.read_json(path) == NEW
        else:
            assert isinstance(error, StorageError)
            assert str(path) in str(error)
            assert "free" in str(error)
        assert files.read_json(path) in (OLD, NEW)
        files.write_json(path, NEW)
        assert files.read_json(path) == NEW

    met = at_every_call(
        lambda: write_old(path),
        lambda: files.write_json(path, NEW),
        check,
        number=number,
        stays_broken=stays_broken,
    )
    assert met >= 5


def test_write_survives_the_end_of_the_process_at_any_call(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "artifact.json"

    def check() -> None:
        assert files.read_json(path) in (OLD, NEW)
        files.write_json(path, NEW)
        assert files.read_json(path) == NEW

    met = killed_at_every_call(lambda: write_old(path), lambda: files.write_json(path, NEW), check)
    assert met >= 5


def start_ledger(path: Path) -> None:
    shutil.rmtree(path.parent, ignore_errors=True)
    files.append_json(path, {"line": 1})


@pytest.mark.parametrize(("number", "stays_broken"), FAULTS)
def test_failed_append_loses_no_line_and_the_next_one_counts(
    tmp_path: Path, number: int, stays_broken: bool
) -> None:
    path = tmp_path / "folder" / "ledger.jsonl"

    def check(error: Exception | None) -> None:
        assert error is None or (isinstance(error, StorageError) and str(path) in str(error))
        before = files.read_ledger(path)
        assert before in ([{"line": 1}], [{"line": 1}, {"line": 2}])
        files.append_json(path, {"line": 3})
        assert files.read_ledger(path) == [*before, {"line": 3}]

    at_every_call(
        lambda: start_ledger(path),
        lambda: files.append_json(path, {"line": 2}),
        check,
        number=number,
        stays_broken=stays_broken,
    )


def test_ledger_survives_the_end_of_the_process_at_any_call(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "ledger.jsonl"

    def check() -> None:
        before = files.read_ledger(path)
        assert before in ([{"line": 1}], [{"line": 1}, {"line": 2}])
        files.append_json(path, {"line": 3})
        assert files.read_ledger(path) == [*before, {"line": 3}]

    killed_at_every_call(
        lambda: start_ledger(path), lambda: files.append_json(path, {"line": 2}), check
    )


@given(lines=st.lists(st.dictionaries(st.text(), JSON, max_size=3), max_size=5), data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_ledger_cut_anywhere_keeps_its_whole_lines(
    tmp_path: Path, lines: list[dict[str, Any]], data: st.DataObject
) -> None:
    path = tmp_path / "ledger.jsonl"
    path.unlink(missing_ok=True)
    for line in lines:
        files.append_json(path, line)
    assert files.read_ledger(path) == lines
    whole = path.read_bytes() if lines else b""
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    kept = lines[: whole[:cut].count(b"\n")]
    assert files.read_ledger(path) == kept
    files.append_json(path, {"next": 1})
    assert files.read_ledger(path) == [*kept, {"next": 1}]


def test_ledger_damaged_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text('{"a": 1}\n{"b"\n{"c": 3}\n')
    with pytest.raises(StorageError, match=r"ledger\.jsonl: a line in the middle is not JSON"):
        files.read_ledger(path)


def make_swap(root: Path) -> tuple[Path, Path]:
    shutil.rmtree(root, ignore_errors=True)
    target, complete = root / "baseline", root / "attempts" / "artifacts"
    for folder, text in ((target, "old"), (complete, "new")):
        for name in ("one", "deep/two"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    return complete, target


def assert_whole(target: Path) -> None:
    texts = {(target / name).read_text() for name in ("one", "deep/two")}
    assert texts in ({"old"}, {"new"})


@pytest.mark.parametrize(("number", "stays_broken"), FAULTS)
def test_failed_swap_is_old_or_new_and_can_be_done_again(
    tmp_path: Path, number: int, stays_broken: bool
) -> None:
    root = tmp_path / "run"

    def check(error: Exception | None) -> None:
        complete, target = root / "attempts" / "artifacts", root / "baseline"
        assert error is None or (isinstance(error, StorageError) and str(target) in str(error))
        files.finish_swap(target)
        assert_whole(target)
        if complete.exists():
            files.swap_folder(complete, target)
        assert {(target / name).read_text() for name in ("one", "deep/two")} == {"new"}

    at_every_call(
        lambda: make_swap(root) and None,
        lambda: files.swap_folder(root / "attempts" / "artifacts", root / "baseline"),
        check,
        number=number,
        stays_broken=stays_broken,
    )


def test_swap_rolls_forward_after_the_end_of_the_process_at_any_call(tmp_path: Path) -> None:
    root = tmp_path / "run"

    def check() -> None:
        complete, target = root / "attempts" / "artifacts", root / "baseline"
        started = not complete.exists()
        files.finish_swap(target)
        assert_whole(target)
        assert ((target / "one").read_text() == "new") == started
        assert [entry.name for entry in root.iterdir() if files.TEMPORARY in entry.name] in (
            [],
            [f"{files.TEMPORARY}old-baseline"],
        )

    met = killed_at_every_call(
        lambda: make_swap(root) and None,
        lambda: files.swap_folder(root / "attempts" / "artifacts", root / "baseline"),
        check,
    )
    assert met >= 5


def test_writing_below_a_file_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write it"):
        files.write_text(tmp_path / "file" / "inside" / "artifact", "text")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "not readable as JSON"),
        ('{"a": 1, "a": 2}', "a key stands twice"),
        ("[" * 100_000, "not readable as JSON"),
        ("\x00", "not readable as JSON"),
    ],
    ids=["empty", "duplicate key", "deep", "NUL"],
)
def test_unreadable_json_names_the_file(tmp_path: Path, content: str, reason: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(content)
    with pytest.raises(StorageError, match=reason) as raised:
        files.read_json(path)
    assert str(path) in str(raised.value)


def test_missing_json_says_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="missing; run the phase again"):
        files.read_json(tmp_path / "manifest.json")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_json_cannot_hold_are_not_written(tmp_path: Path, value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        files.write_json(tmp_path / "artifact.json", {"value": value})
    assert list(tmp_path.iterdir()) == []


@given(value=JSON)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_json_comes_back_as_it_was(tmp_path: Path, value: Any) -> None:
    files.write_json(tmp_path / "value.json", value)
    assert files.read_json(tmp_path / "value.json") == value
