"""The run folder: a folder per phase, each complete if and only if its manifest is there."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pytest_mltrainer.core import files
from pytest_mltrainer.core.digests import MISSING, sha256_file
from pytest_mltrainer.core.errors import StorageError

SCHEMA = 1
MANIFEST = "manifest.json"
VERDICT = "verdict.json"
JUDGEMENTS = "judgements.jsonl"
REPORTS = ("gate.xml", "report.html")
FAILING_INPUTS = "parity"
"""The folder of inputs that a gate found to fail, kept for replay; no artifacts, as its reports."""
WITNESSED = "witnessed"
"""The folder of what a gate repeated, for machines that cannot; the verdict holds its digests."""
LIMIT_NAME_CHARACTERS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRecord:
    """What a step was made from and what it wrote: input and artifact names with their digests."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a finished phase consists of. Written last: without it there is no phase.

    `decision` steers the pipeline, `record` (environment, identities of the verdicts upstream)
    is listed and never compared.
    """

    phase: str
    steps: Mapping[str, StepRecord]
    decision: Mapping[str, Any] | None = None
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def artifacts(self) -> dict[str, str]:
        """Every artifact of the phase with its sha256."""
        artifacts: dict[str, str] = {}
        for step in self.steps.values():
            artifacts |= step.outputs
        return artifacts

    def to_json(self) -> dict[str, Any]:
        """The manifest as it is stored."""
        steps = {
            name: {
                "inputs": dict(step.inputs),
                "outputs": dict(step.outputs),
                "duration_s": step.duration_s,
            }
            for name, step in self.steps.items()
        }
        return {
            "schema": SCHEMA,
            "phase": self.phase,
            "steps": steps,
            "decision": self.decision,
            "record": dict(self.record),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any], path: Path) -> "Manifest":
        """The manifest that `to_json` wrote. Raises StorageError for another schema."""
        check_schema(stored, path)
        try:
            steps = {
                name: StepRecord(
                    inputs=_texts(step["inputs"]),
                    outputs=_texts(step["outputs"]),
                    duration_s=float(step["duration_s"]),
                )
                for name, step in stored["steps"].items()
            }
            for name in (name for step in steps.values() for name in step.outputs):
                check_name(name)
            decision = stored["decision"]
            return cls(
                phase=stored["phase"],
                steps=steps,
                decision=None if decision is None else _decision(decision),
                record=_mapping(stored["record"]),
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise StorageError(
                f"{path}: not a manifest ({error!r}); run the phase again"
            ) from error


@dataclass(frozen=True, slots=True)
class PhaseFolder:
    """The artifacts, the manifest and the verdict of one phase."""

    path: Path

    @property
    def phase(self) -> str:
        """The name of the phase."""
        return self.path.name

    def manifest(self) -> Manifest | None:
        """The manifest, or None when the phase is not done. Raises StorageError when damaged."""
        path = self.path / MANIFEST
        if not path.exists():
            return None
        manifest = Manifest.from_json(files.read_json(path), path)
        if manifest.phase != self.phase:
            raise StorageError(
                f"{path}: it is the manifest of {manifest.phase}; run the phase again"
            )
        return manifest

    def artifact(self, name: str) -> Path:
        """The path of an artifact. Raises StorageError for a name or link out of the folder."""
        check_name(name)
        path = self.path / name
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise StorageError(f"{path}: it links out of the run folder; artifacts must be files")
        return path

    def damaged(self, manifest: Manifest) -> dict[str, str]:
        """Artifacts that are missing, changed or links, and files that were added, by name."""
        problems = {}
        for name, digest in manifest.artifacts.items():
            try:
                found = sha256_file(self.artifact(name))
            except StorageError:
                problems[name] = "is a link out of the run folder"
                continue
            if found != digest:
                problems[name] = "is missing" if found == MISSING else "was changed"
        known = {*manifest.artifacts, MANIFEST, VERDICT, JUDGEMENTS, *REPORTS}
        found_by_gate = (f"{FAILING_INPUTS}/", f"{WITNESSED}/")
        there = {name for name in file_names(self.path) if not name.startswith(found_by_gate)}
        strangers = there - known
        return problems | dict.fromkeys(sorted(strangers), "was added")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """`.mltrainer/`: phases, attempts at them, ledger and lock."""

    path: Path

    def phase(self, name: str) -> PhaseFolder:
        """The folder of a phase, whether it exists or not; an interrupted swap is finished."""
        folder = self.path / name
        if folder.is_symlink():
            raise StorageError(f"{folder}: it is a link; the run folder holds its own files only")
        files.finish_swap(folder)
        return PhaseFolder(folder)

    def attempt(self, phase: str) -> Path:
        """Where a worker works on a phase before its artifacts take their place."""
        return self.path / "attempts" / phase

    @property
    def ledger(self) -> Path:
        """Openings of the test set, final trainings and rounds, one JSON line each."""
        return self.path / "ledger.jsonl"


def check_schema(stored: Mapping[str, Any], path: Path) -> None:
    """Raise StorageError unless `stored` was written with this version's schema."""
    found = stored.get("schema") if isinstance(stored, Mapping) else None
    if isinstance(found, int) and found > SCHEMA:
        raise StorageError(
            f"{path}: written by a newer pytest-mltrainer (schema {found}, known {SCHEMA}): upgrade"
        )
    if found != SCHEMA:
        raise StorageError(f"{path}: schema {found!r}, wanted {SCHEMA}; run the phase again")


def check_name(name: str) -> None:
    """Raise StorageError unless `name` is a plain relative path that every system can hold."""
    parts = PurePosixPath(name).parts
    if (
        not parts
        or name.startswith("/")
        or ".." in parts
        or any(not character.isprintable() for character in name)
        or len(name) > LIMIT_NAME_CHARACTERS
    ):
        raise StorageError(
            f"artifact name {name[:60]!r}: wanted a relative path of at most "
            f"{LIMIT_NAME_CHARACTERS} printable characters without '..'"
        )


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise TypeError(f"{type(value).__name__} instead of a mapping")
    return dict(value)


def _decision(value: Any) -> dict[str, Any]:
    """A decision; that of optimization has the accepted `patch` and the `rounds` besides."""
    decision = _mapping(value)
    _texts({name: decision.get(name) for name in ("status", "next", "reason")})
    for name in ("value", "target"):
        if not isinstance(decision.get(name), int | float | None):
            raise TypeError(f"a decision whose {name} is no number")
    _mapping(decision.get("patch", {}))
    for entry in decision.get("rounds", []):
        if not {"round", "value"} <= _mapping(entry).keys():
            raise TypeError("a round of a decision without number or value")
    return decision


def _texts(value: Any) -> dict[str, str]:
    if not all(isinstance(text, str) for text in _mapping(value).values()):
        raise TypeError("a value that is no text")
    return dict(value)


def file_names(folder: Path) -> list[str]:
    """Files and links below `folder` as relative names, sorted; temporary files left out."""
    names: list[str] = []
    for base, folders, found in os.walk(folder):
        links = [name for name in folders if (Path(base) / name).is_symlink()]
        names += [
            (Path(base) / name).relative_to(folder).as_posix()
            for name in (*found, *links)
            if not name.startswith(files.TEMPORARY)
        ]
    return sorted(names)
