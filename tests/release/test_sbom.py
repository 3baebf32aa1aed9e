"""The bill of materials: valid CycloneDX, as the metadata of packages say, the same every time."""

import json
from collections.abc import Callable
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from support import TrainedProject, inside, phase_folder

from pytest_mltrainer.core.config import load_config
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.release.requirements import closure, graph, licences
from pytest_mltrainer.release.sbom import (
    bill_differences,
    bill_of_materials,
    purl,
    serial_number,
)
from pytest_mltrainer.training.run import TrainingRun

BILL = "final_model/sbom.cdx.json"
LOCK = "final_model/requirements.lock.txt"


def finished(project: Path) -> TrainingRun:
    loaded = Project.load(project)
    return TrainingRun(loaded, load_config(loaded.config_path), "finalization")


def bill_in(project: Path) -> Any:
    return json.loads((phase_folder(project, "finalization") / BILL).read_text())


@pytest.mark.parametrize("name", ["healthy", "healthy_regression"])
def test_the_bill_is_valid_by_the_validator_of_its_project(
    name: str, trained: Callable[..., TrainedProject]
) -> None:
    project = trained(name, "finalization").path
    text = (phase_folder(project, "finalization") / BILL).read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text.replace("library", "shelf"))


def test_it_names_every_pinned_package_and_every_file_of_the_model(
    trained: Callable[..., TrainedProject],
) -> None:
    project = trained("healthy", "finalization").path
    bill, folder = bill_in(project), phase_folder(project, "finalization")
    pins = dict(line.split("==") for line in (folder / LOCK).read_text().splitlines())
    assert {part["purl"] for part in bill["components"]} == {purl(*pin) for pin in pins.items()}
    model = bill["metadata"]["component"]
    named = json.loads((folder / "final_model/model.json").read_text())["files"]
    assert {f["name"]: f["hashes"][0]["content"] for f in model["components"]} == named
    assert model["hashes"][0]["content"] == named["weights.safetensors"]
    needs = {entry["ref"]: entry["dependsOn"] for entry in bill["dependencies"]}
    assert set(needs) == {"model"} | {purl(*pin) for pin in pins.items()}
    runtimes = [purl(name, pins[name]) for name in ("numpy", "onnxruntime")]
    assert needs["model"] == runtimes
    assert purl("protobuf", pins["protobuf"]) in needs[runtimes[1]]


def test_it_is_the_same_every_time_and_its_number_follows_from_what_it_says(
    trained: Callable[..., TrainedProject],
) -> None:
    project = trained("healthy", "finalization").path
    with inside(project):
        again = bill_of_materials(finished(project))
    assert again == bill_in(project)
    assert again["serialNumber"] == serial_number(again)
    again["components"][0]["version"] += ".1"
    assert again["serialNumber"] != serial_number(again)


def test_a_package_twice_or_in_another_version_is_named(
    trained: Callable[..., TrainedProject],
) -> None:
    project = trained("healthy", "finalization").path
    doubled, other = bill_in(project), bill_in(project)
    doubled["components"].append(doubled["components"][0] | {"version": "0.0.1"})
    other["components"][1]["version"] = "0.0.1"
    renumbered = other | {"serialNumber": serial_number(other)}
    with inside(project):
        run = finished(project)
        assert bill_differences(run, bill_in(project)) == ([], "")
        assert any('found "0.0.1", wanted nothing' in s for s in bill_differences(run, doubled)[0])
        for edited in (other, renumbered):
            (line,) = bill_differences(run, edited)[0]
            assert line.startswith('components / numpy / version: found "0.0.1", wanted "')
        for nonsense in ([], {}, None, "text"):
            assert bill_differences(run, nonsense)[0]
        (line,) = bill_differences(run, bill_in(project) | {"serialNumber": "urn:uuid:0"})[0]
        assert line.startswith("serialNumber")


def test_where_a_version_is_not_installed_its_licence_stands_as_it_was_read(
    copied: Callable[..., Path],
) -> None:
    project = copied("healthy", "finalization")
    path, bill = phase_folder(project, "finalization") / LOCK, bill_in(project)
    (library,) = (part for part in bill["components"] if part["name"] == "protobuf")
    old = library["purl"]
    path.write_text(path.read_text().replace(f"protobuf=={library['version']}", "protobuf==1.0"))
    bill = json.loads(json.dumps(bill).replace(old, purl("protobuf", "1.0")))
    (library,) = (part for part in bill["components"] if part["name"] == "protobuf")
    library["version"] = "1.0"
    bill["serialNumber"] = serial_number(bill)
    with inside(project):
        different, unread = bill_differences(finished(project), bill)
    assert (different, unread) == (
        [], "not installed here, so their licences were not read: protobuf",
    )  # fmt: skip


def package(folder: Path, name: str, *lines: str, version: str = "1.0") -> Distribution:
    """A package that is installed in a folder, by its metadata."""
    metadata = folder / f"{name}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir(parents=True)
    head = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}"]
    metadata.write_text("\n".join([*head, *lines]) + "\n\n")
    return Distribution.at(metadata.parent)


@pytest.mark.parametrize(
    ("lines", "stated"),
    [
        (["License-Expression: MIT OR Apache-2.0"], [{"expression": "MIT OR Apache-2.0"}]),
        (["License: Apache 2.0"], [{"license": {"name": "Apache 2.0"}}]),
        (
            ["License: UNKNOWN", "Classifier: License :: OSI Approved :: BSD License"],
            [{"license": {"name": "BSD License"}}],
        ),
        (
            ["License: (c) 1999\n        All rights.", "Classifier: License :: OSI Approved"],
            [],
        ),
        (["Classifier: Topic :: Games"], []),
    ],
    ids=["expression", "a line", "classifier", "a whole text", "nothing"],
)  # fmt: skip
def test_a_licence_is_what_the_metadata_state(
    lines: list[str], stated: list[Any], tmp_path: Path
) -> None:
    assert licences(package(tmp_path, "stated", *lines)) == stated


def test_extras_bring_what_they_require(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "outer", "Requires-Dist: inner[fast]", "Requires-Dist: not-there-at-all")
    package(
        tmp_path,
        "inner",
        "Requires-Dist: leaf",
        'Requires-Dist: quick; extra == "fast"',
        'Requires-Dist: slow; extra == "slow"',
        'Requires-Dist: outer; python_version < "3"',
    )
    for name in ("leaf", "quick", "slow"):
        package(tmp_path, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    plain, found = closure(["inner"]), closure(["outer"])
    assert plain.keys() == {"inner", "leaf"}
    assert found.keys() == {"outer", "inner", "leaf", "quick"}
    assert graph(found, list(found)) == {
        "inner": ["leaf", "quick"], "leaf": [], "outer": ["inner"], "quick": [],
    }  # fmt: skip


def test_a_purl_holds_no_character_that_would_end_it() -> None:
    assert purl("numpy", "2.4.6") == "pkg:pypi/numpy@2.4.6"
    assert purl("odd", "1!2.0") == "pkg:pypi/odd@1%212.0"
