"""What the work of every phase shares: its steps, what they were made from, and the manifest."""

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from pytest_mltrainer.diagnostics import detectors

from pytest_mltrainer.core import files
from pytest_mltrainer.core.artifacts import (
    MANIFEST,
    Manifest,
    RunFolder,
    StepRecord,
    file_names,
)
from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.digests import sha256_file
from pytest_mltrainer.core.evidence import Evidence
from pytest_mltrainer.core.hooks import offered, plugin_manager
from pytest_mltrainer.core.inputs import CurrentInputs, Sources
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.core.ranking import Findings, diagnose
from pytest_mltrainer.core.steps import STEPS, Step
from pytest_mltrainer.core.verdict import load_verdict
from pytest_mltrainer.core.work import EVENTS, KEPT, WorkRequest
from pytest_mltrainer.training.task import Task, load_task
from pytest_mltrainer.training.tracking import project_code


class PhaseWork:
    """One attempt at a phase: does the requested steps, keeps the others, writes the manifest."""

    def __init__(self, request: WorkRequest) -> None:
        """Load the project, the configuration, the task, and the records of the kept steps."""
        self.request = request
        self.phase = request.phase
        self.project = Project.load(Path(request.project_root))
        self.config = Config.from_json(request.config)
        self.run = RunFolder(self.project.run_folder)
        self.output = request.output
        self.task: Task = load_task(self.project.task)
        self.data_files: tuple[str, ...] = self._planned("data")
        self.code_files: tuple[str, ...] = self._planned("code")
        self.numerics: Mapping[str, str] = {}
        self.decision: dict[str, Any] | None = None
        self.record: dict[str, Any] = {}
        self._steps: dict[str, StepRecord] = {}
        self._take_kept()

    def do(self, name: str, work: Callable[[], Iterable[str]]) -> None:
        """Do one step if it was requested. `work` returns the patterns of what it wrote."""
        if name not in self.request.steps:
            return
        self.report({"kind": "step", "step": name})
        start = time.perf_counter()
        patterns = work()
        step = self._step(name)
        self._steps[name] = StepRecord(
            inputs=self.inputs_of(step),
            outputs={
                path.relative_to(self.output).as_posix(): sha256_file(path)
                for pattern in patterns
                for path in sorted(self.output.glob(pattern))
                if path.is_file() and not path.name.startswith(files.TEMPORARY)
            },
            duration_s=time.perf_counter() - start,
        )

    def inputs_of(self, step: Step) -> dict[str, str]:
        """What a step is made from, as it is now."""
        sources = Sources(
            code=tuple(sorted({*self.code_files, *project_code(self.project)})),
            data=self.data_files,
            numerics=self.numerics,
        )
        return CurrentInputs(self.project, self.config, self.run).of(step, self.phase, sources)

    def finish(self) -> dict[str, Any]:
        """Drop what no step wrote, then write the manifest: now the phase exists.

        Of several processes only the first has done the phase's steps, and writes it.
        """
        if self.request.rank:
            return {}
        steps = {step.name: self._steps[step.name] for step in STEPS[self.phase]}
        manifest = Manifest(
            phase=self.phase, steps=steps, decision=self.decision, record=self.record
        )
        for name in file_names(self.output):
            if name not in manifest.artifacts:
                (self.output / name).unlink()
        files.write_json(self.output / MANIFEST, manifest.to_json())
        return {}

    def report(self, values: Mapping[str, Any]) -> None:
        """Send an event to whoever follows this work."""
        with (self.request.folder / EVENTS).open("ab") as stream:
            stream.write((files.json_line(dict(values))).encode())
        sys.stdout.flush()

    def write_json(self, name: str, value: object) -> None:
        """Write a JSON artifact."""
        files.write_json(self.output / name, value)

    def diagnose(self, evidence: Evidence) -> Findings:
        """Run every diagnostic over the evidence and write `diagnoses.json`."""
        manager = plugin_manager(self.project)
        found = diagnose(evidence, detectors() | offered(manager, "mltrainer_detectors"))
        self.write_json("diagnoses.json", found.to_json())
        return found

    def upstream_identity(self, phase: str) -> dict[str, str]:
        """The identity of the verdict upstream, for the record."""
        verdict = load_verdict(self.run.phase(phase))
        return {phase: verdict.identity} if verdict else {}

    def _step(self, name: str) -> Step:
        return next(step for step in STEPS[self.phase] if step.name == name)

    def _planned(self, kind: str) -> tuple[str, ...]:
        """Files that planning recorded, so that a phase which does not read them lists them too."""
        folder = self.run.phase("planning")
        manifest = folder.manifest()
        if manifest is None:
            return ()
        inputs = manifest.steps["rehearse"].inputs
        return tuple(name.partition("/")[2] for name in inputs if name.startswith(f"{kind}/"))

    def _take_kept(self) -> None:
        path = self.output / KEPT
        if not path.exists():
            return
        kept = Manifest.from_json(files.read_json(path), path)
        self.decision = dict(kept.decision) if kept.decision else None
        self.record = dict(kept.record)
        for name, record in kept.steps.items():
            if name not in self.request.steps:
                self._steps[name] = record
