"""The run folder: what a manifest binds, which names and links are refused, what is damage."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import ANY_JSON, MANIFESTS, places, replaced

from pytest_mltrainer.core import files
from pytest_mltrainer.core.artifacts import (
    MANIFEST,
    Manifest,
    PhaseFolder,
    RunFolder,
    StepRecord,
    check_name,
    file_names,
)
from pytest_mltrainer.core.digests import sha256_file
from pytest_mltrainer.core.errors import StorageError

CONTENT = {"checkpoints/best.pt": b"weights", "decision.json": b"{}", "empty": b""}


@pytest.fixture
def folder(tmp_path: Path) -> PhaseFolder:
    """A finished baseline with three artifacts."""
    path = tmp_path / ".mltrainer" / "baseline"
    for name, data in CONTENT.items():
        files.write_bytes(path / name, data)
    outputs = {name: sha256_file(path / name) for name in CONTENT}
    record = StepRecord(inputs={}, outputs=outputs, duration_s=1.0)
    manifest = Manifest(phase="baseline", steps={"train": record})
    files.write_json(path / MANIFEST, manifest.to_json())
    return RunFolder(tmp_path / ".mltrainer").phase("baseline")


def damaged(folder: PhaseFolder) -> dict[str, str]:
    manifest = folder.manifest()
    assert manifest is not None
    return folder.damaged(manifest)


@given(manifest=MANIFESTS)
def test_manifest_comes_back_as_it_was(manifest: Manifest) -> None:
    stored = json.loads(json.dumps(manifest.to_json()))
    assert Manifest.from_json(stored, Path("manifest.json")) == manifest


@given(manifest=MANIFESTS, new=ANY_JSON, data=st.data())
@settings(max_examples=300)
def test_damaged_manifest_is_a_storage_error_or_still_a_manifest(
    manifest: Manifest, new: Any, data: st.DataObject
) -> None:
    stored = manifest.to_json()
    place = data.draw(st.sampled_from(places(stored)))
    try:
        found = Manifest.from_json(replaced(stored, place, new), Path("manifest.json"))
    except StorageError:
        return
    assert all(isinstance(digest, str) for digest in found.artifacts.values())
    assert json.dumps(found.to_json())


@pytest.mark.parametrize(
    ("schema", "reason"), [(2, "upgrade"), (99, "upgrade"), (0, "wanted 1"), (None, "wanted 1")]
)
def test_other_schemas_are_refused(folder: PhaseFolder, schema: int | None, reason: str) -> None:
    path = folder.path / MANIFEST
    stored = files.read_json(path) | {"schema": schema}
    files.write_json(path, stored)
    with pytest.raises(StorageError, match=reason) as raised:
        folder.manifest()
    assert str(path) in str(raised.value)


def test_phase_exists_if_and_only_if_its_manifest_does(folder: PhaseFolder) -> None:
    assert folder.manifest() is not None
    (folder.path / MANIFEST).unlink()
    assert folder.manifest() is None


def test_manifest_of_another_phase_is_refused(folder: PhaseFolder) -> None:
    elsewhere = folder.path.rename(folder.path.with_name("finalization"))
    with pytest.raises(StorageError, match="of baseline"):
        PhaseFolder(elsewhere).manifest()


def test_untouched_artifacts_are_not_damaged(folder: PhaseFolder) -> None:
    assert damaged(folder) == {}


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_every_flipped_bit_is_found(folder: PhaseFolder, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["checkpoints/best.pt", "decision.json"]))
    path = folder.path / name
    before = path.read_bytes()
    spoiled = bytearray(before)
    spoiled[data.draw(st.integers(0, len(before) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(spoiled)
    assert damaged(folder) == {name: "was changed"}
    path.write_bytes(before)


def test_missing_added_and_swapped_artifacts_are_named(folder: PhaseFolder) -> None:
    best, decision = folder.path / "checkpoints/best.pt", folder.path / "decision.json"
    (folder.path / "empty").unlink()
    (folder.path / "checkpoints" / "best2.pt").write_bytes(b"weights")
    one, other = best.read_bytes(), decision.read_bytes()
    best.write_bytes(other)
    decision.write_bytes(one)
    assert damaged(folder) == {
        "checkpoints/best.pt": "was changed",
        "decision.json": "was changed",
        "empty": "is missing",
        "checkpoints/best2.pt": "was added",
    }


def test_verdict_reports_and_temporary_files_are_no_strangers(folder: PhaseFolder) -> None:
    for name in ("verdict.json", "judgements.jsonl", "gate.xml", "report.html", ".tmp-1-x"):
        (folder.path / name).write_text("")
    assert damaged(folder) == {}


@pytest.mark.parametrize("linked", ["checkpoints/best.pt", "checkpoints"])
def test_artifact_that_links_out_of_the_run_folder_is_refused(
    folder: PhaseFolder, tmp_path: Path, linked: str
) -> None:
    path, outside = folder.path / linked, tmp_path / "outside"
    path.rename(outside)
    path.symlink_to(outside)
    with pytest.raises(StorageError, match="links out of the run folder"):
        folder.artifact("checkpoints/best.pt")
    assert damaged(folder)["checkpoints/best.pt"] == "is a link out of the run folder"


def test_added_link_to_a_folder_is_found(folder: PhaseFolder, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (folder.path / "plots").symlink_to(tmp_path / "outside")
    assert damaged(folder) == {"plots": "was added"}


def test_phase_folder_that_is_a_link_is_refused(folder: PhaseFolder, tmp_path: Path) -> None:
    outside = folder.path.rename(tmp_path / "outside")
    folder.path.symlink_to(outside)
    with pytest.raises(StorageError, match="is a link"):
        RunFolder(tmp_path / ".mltrainer").phase("baseline")


@pytest.mark.parametrize(
    "name",
    ["../secret", "a/../../b", "/etc/passwd", "a\0b", "a\nb", "a\x1b[31mb", "x" * 300, "", ".."],
    ids=["up", "up inside", "absolute", "NUL", "newline", "escape", "300", "empty", "dots"],
)
def test_names_that_leave_the_folder_or_no_system_holds_are_refused(
    folder: PhaseFolder, name: str
) -> None:
    with pytest.raises(StorageError, match="artifact name") as raised:
        folder.artifact(name)
    assert "\0" not in str(raised.value)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 300


@given(name=st.text(max_size=250))
def test_accepted_names_stay_inside(name: str) -> None:
    try:
        check_name(name)
    except StorageError:
        return
    root = Path("/run/baseline")
    assert (root / name).is_relative_to(root)
    assert ".." not in (root / name).parts
    assert name.isprintable()


def test_manifest_with_a_name_outside_is_refused(folder: PhaseFolder) -> None:
    path = folder.path / MANIFEST
    text = path.read_text().replace('"decision.json"', '"../planning/splits.json"')
    path.write_text(text)
    with pytest.raises(StorageError, match="artifact name"):
        folder.manifest()


def test_interrupted_swap_is_finished_when_the_phase_is_looked_at(
    folder: PhaseFolder, tmp_path: Path
) -> None:
    staged = files.staged_path(folder.path)
    folder.path.rename(staged)
    assert RunFolder(tmp_path / ".mltrainer").phase("baseline").manifest() is not None
    assert not staged.exists()


def test_file_names_are_relative_and_sorted(tmp_path: Path) -> None:
    for name in ("b/c", "a", "b/a", ".tmp-9-a"):
        files.write_text(tmp_path / name, "")
    assert file_names(tmp_path) == ["a", "b/a", "b/c"]
