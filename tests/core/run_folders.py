"""A project whose phases are written as a worker would write them, without training."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pytest_mltrainer.core import files
from pytest_mltrainer.core.artifacts import MANIFEST, Manifest, PhaseFolder, RunFolder, StepRecord
from pytest_mltrainer.core.catalogue import catalogue
from pytest_mltrainer.core.config import Config, load_config
from pytest_mltrainer.core.digests import sha256_file
from pytest_mltrainer.core.inputs import CurrentInputs, Sources, current_numerics
from pytest_mltrainer.core.pipeline import PhaseState, Planned, gate_basis, inspect, make_plan
from pytest_mltrainer.core.project import PHASES, Project
from pytest_mltrainer.core.steps import STEPS
from pytest_mltrainer.core.verdict import (
    CheckOutcome,
    CheckResult,
    GateOutcome,
    Verdict,
    store_verdict,
)

CONFIG = """\
seed: 7
training: {epochs: 3, learning_rate: 0.001}
objective: {metric: accuracy, target: 0.9}
model: {width: 16, mode: wide}
data: {path: data/a.csv}
"""
SUFFICIENT = {"status": "sufficient", "next": "finalization", "reason": "accuracy 0.95"}
INSUFFICIENT = {"status": "insufficient", "next": "diagnostics", "reason": "accuracy 0.80"}
OUTPUTS = {("planning", "data"): "splits.json", ("baseline", "train"): "checkpoints/best.pt"}


@dataclass
class World:
    """A project in a folder, with a task, a helper, a data file and a declared input."""

    root: Path
    user_checks: dict[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.write("pyproject.toml", '[tool.mltrainer]\ntask = "task:T"\ninputs = ["sql/*.sql"]\n')
        self.write("training_config.yaml", CONFIG)
        self.write("task.py", "import helper\n\n\nclass T:\n    width = helper.WIDTH\n")
        self.write("helper.py", "WIDTH = 16\n")
        self.write("data/a.csv", "1,2\n")
        self.write("sql/features.sql", "select 1;\n")

    def write(self, name: str, text: str) -> None:
        files.write_text(self.root / name, text)

    @property
    def project(self) -> Project:
        return Project.load(self.root)

    @property
    def config(self) -> Config:
        return load_config(self.project.config_path)

    def folder(self, phase: str) -> PhaseFolder:
        return RunFolder(self.project.run_folder).phase(phase)

    def do(
        self,
        phase: str,
        decision: Mapping[str, str] | None = None,
        *,
        content: str = "trained",
        **times: float,
    ) -> None:
        """Write the phase as a worker would that has imported both modules and read the data."""
        folder = self.folder(phase)
        numerics = {name: current_numerics(name, self.config) for name in ("python", "numpy")}
        sources = Sources(code=("task.py", "helper.py"), data=("data/a.csv",), numerics=numerics)
        steps = {}
        for step in STEPS[phase]:
            name = OUTPUTS.get((phase, step.name), f"{step.name}.json")
            files.write_text(folder.path / name, f"{phase} {step.name} {content}")
            inputs = CurrentInputs(self.project, self.config, RunFolder(self.project.run_folder))
            steps[step.name] = StepRecord(
                inputs=inputs.of(step, phase, sources),
                outputs={name: sha256_file(folder.path / name)},
                duration_s=times.get(step.name, 1.0),
            )
        manifest = Manifest(phase=phase, steps=steps, decision=decision)
        files.write_json(folder.path / MANIFEST, manifest.to_json())

    def judge(self, phase: str, outcome: GateOutcome = "PASS") -> Verdict:
        """Store the verdict that the gate would give."""
        manifest = self.folder(phase).manifest()
        assert manifest is not None
        ended: CheckOutcome = "pass" if outcome == "PASS" else "fail"
        names = [check.id for check in catalogue(phase)] + sorted(self.user_checks)
        verdict = Verdict(
            phase=phase,
            outcome=outcome,
            basis=gate_basis(self.config, manifest, self.user_checks),
            checks=dict.fromkeys(names, ended),
        )
        results = {name: CheckResult(id=name, outcome=ended) for name in names}
        store_verdict(self.folder(phase), verdict, results, "now")
        return verdict

    def bring(self, *phases: str, decision: Mapping[str, str] = SUFFICIENT) -> None:
        """Do and pass these phases."""
        for phase in phases:
            self.do(phase, decision if phase == "baseline" else None)
            self.judge(phase)

    def state(self, phase: str) -> PhaseState:
        return inspect(self.project, self.config, phase, self.user_checks)

    def plan(self, target: str) -> dict[str, Planned]:
        phases = [phase for phase in PHASES[: PHASES.index(target) + 1] if phase in STEPS]
        planned = make_plan(target, {phase: self.state(phase) for phase in phases})
        return {entry.phase: entry for entry in planned}

    def actions(self, target: str) -> list[str]:
        return [entry.action for entry in self.plan(target).values()]

    def edit_manifest(self, phase: str, step: str, name: str, value: str) -> None:
        """Let the record say that a step was made from another input."""
        manifest = self.folder(phase).manifest()
        assert manifest is not None
        record = manifest.steps[step]
        steps = {**manifest.steps, step: replace(record, inputs={**record.inputs, name: value})}
        changed: dict[str, Any] = replace(manifest, steps=steps).to_json()
        files.write_json(self.folder(phase).path / MANIFEST, changed)
