"""What the tests of the plugin say about a project: its configuration, its checks, its verdicts."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import junitparser
import pytest
from support import phase_folder

from pytest_mltrainer.core.catalogue import catalogue

PLANNING_FAILS = {"limits": {"min_train_rows_per_class": 100_000}}
"""A limit that no project here meets: `planning/data_valid` fails, and nothing is stale."""

BASELINE_FAILS = {"budgets": {"baseline_minutes": 1e-9}}
"""A budget that no training meets: `baseline/time_budget` fails, and nothing is stale."""

PLANNING = len(catalogue("planning"))
BASELINE = len(catalogue("baseline"))
"""How many checks of ours the gates have."""

BEATS_TRIVIAL = "pytest_mltrainer/gates/baseline/test_training.py::test_beats_trivial"
DATA_VALID = "pytest_mltrainer/gates/planning/test_data.py::test_data_valid"

PASSING_CHECK = """
import pytest

@pytest.mark.gate("{phase}")
def test_own():
    pass
"""


class Run(Protocol):
    """`run(project, *args)`: pytest in this process, in the project's folder or one below it."""

    def __call__(self, folder: Path, *args: str) -> pytest.RunResult: ...


Copied = Callable[..., Path]


def configure(project: Path, sections: dict[str, dict[str, Any]]) -> None:
    """Append sections to the configuration; it must not have them yet."""
    lines = []
    for section, values in sections.items():
        lines += [f"{section}:", *(f"  {key}: {value}" for key, value in values.items())]
    path = project / "training_config.yaml"
    path.write_text(path.read_text() + "\n".join([*lines, ""]))


def unconfigure(project: Path, sections: dict[str, dict[str, Any]]) -> None:
    """Take away what `configure` appended last."""
    path = project / "training_config.yaml"
    path.write_text(path.read_text().rpartition(f"{next(iter(sections))}:")[0])


def write(project: Path, name: str, text: str) -> Path:
    """Write a file of the user's."""
    path = project / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def verdict(project: Path, phase: str) -> dict[str, Any]:
    """The predicate of the stored verdict."""
    stored = json.loads((phase_folder(project, phase) / "verdict.json").read_text())
    predicate: dict[str, Any] = stored["predicate"]
    return predicate


def trained_bytes(project: Path, phase: str) -> dict[str, bytes]:
    """The manifest and the files that training wrote, to see that they were left alone."""
    folder = phase_folder(project, phase)
    names = ["manifest.json", "telemetry/steps.rec", "checkpoints/best.pt"]
    return {name: (folder / name).read_bytes() for name in names if (folder / name).exists()}


def everything(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, byte by byte; what Python caches left out."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }


def ids_of(*phases: str) -> list[str]:
    """The ids that a run up to the last of `phases` collects: work, then checks, phase by phase."""
    ids = []
    for phase in phases:
        ids.append(f"pytest_mltrainer/phases/{phase}.py::run")
        ids += [check.nodeid for check in catalogue(phase)]
    return ids


def collected(result: pytest.RunResult) -> list[str]:
    """The ids that `--collect-only -q` printed."""
    return [line for line in result.outlines if "::" in line and " " not in line]


def suites(path: Path) -> dict[str, junitparser.TestSuite]:
    """The suites of a JUnit file by name, as other tools read them."""
    return {str(suite.name): suite for suite in junitparser.JUnitXml.fromfile(str(path))}


def case(path: Path, suite: str, name: str) -> junitparser.TestCase:
    """One test case of a JUnit file."""
    (found,) = [entry for entry in suites(path)[suite] if entry.name == name]
    return found


def recorded(path: Path, name: str) -> dict[str, str]:
    """The properties of the first test case of that name."""
    found = ET.parse(path).getroot().find(f".//testcase[@name='{name}']")
    assert found is not None
    return {entry.attrib["name"]: entry.attrib["value"] for entry in found.iter("property")}


def properties(suite: junitparser.TestSuite) -> dict[str, str]:
    """The properties of a suite."""
    return {entry.name: entry.value for entry in suite.properties()}
