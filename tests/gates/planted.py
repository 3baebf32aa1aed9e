"""A planted fault, what its check must say about it, and the tools to plant it with."""

import contextlib
import dataclasses
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from support import inside, judge_gate, phase_folder, reseal

from pytest_mltrainer.core.catalogue import catalogue
from pytest_mltrainer.core.config import load_config
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.core.verdict import SIGNED_CHECKS, CheckOutcome, CheckResult
from pytest_mltrainer.core.work import WorkRequest
from pytest_mltrainer.launchers.local import worker_environment
from pytest_mltrainer.release.documents import final_documents
from pytest_mltrainer.release.service import RULES, write_service
from pytest_mltrainer.training.checkpoints import Checkpoint
from pytest_mltrainer.training.data.profile import profile_data
from pytest_mltrainer.training.repetition.rehearsal import rehearse
from pytest_mltrainer.training.repetition.trial import SHIFTED_TRIAL, run_trial
from pytest_mltrainer.training.results import error_plot
from pytest_mltrainer.training.run import TrainingRun
from pytest_mltrainer.training.task import load_task
from pytest_mltrainer.training.tracking import load_data

Copied = Callable[..., Path]

SLOW = (
    "baseline/last_checkpoint_resumes",
    "optimization/reproducible",
    "finalization/last_checkpoint_resumes",
    "finalization/reproduction_runs",
    "finalization/no_critical_issues",
    "finalization/clean_room_serve",
)
"""These start processes, most of which import torch: they are judged where a case names them."""

CUSTODY = "finalization/chain_of_custody"
"""Most faults leave the seals of another phase or the ledger broken: judged likewise."""

DOCUMENTS = tuple(
    f"finalization/{name}"
    for name in ("deployment_guide", "test_results", "model_card", "monitoring_guide")
)
"""These are written from everything else, so that most faults show in them: judged likewise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`plant` spoils a project; `check` must end in `outcome` with a reason that `says` matches.

    `also` are the checks that must end badly with it, each with its outcome; all others pass.
    """

    check: str
    plant: Callable[[Path], None]
    says: str
    outcome: CheckOutcome = "fail"
    also: dict[str, CheckOutcome] = dataclasses.field(default_factory=dict)
    project: str = "healthy"

    @property
    def phase(self) -> str:
        """The phase whose gate must find it."""
        return self.check.partition("/")[0]


def as_parameters(faults: list[Fault]) -> list[Any]:
    """The faults with ids that name check and fault."""
    return [
        pytest.param(fault, id=f"{fault.check.partition('/')[2]}-{fault.plant.__name__}")
        for fault in faults
    ]


def assert_found(fault: Fault, project: Path) -> CheckResult:
    """Plant, re-seal, judge the whole gate; returns the result of the fault's own check."""
    fault.plant(project)
    reseal(project, fault.phase)
    wanted = {
        fault.check: fault.outcome,
        **{f"{fault.phase}/{n}": o for n, o in fault.also.items()},
    }
    seldom = (*SLOW, *DOCUMENTS, *SIGNED_CHECKS, CUSTODY)
    left_out = tuple(check for check in seldom if check not in wanted)
    results = judge_gate(fault.phase, project, without=left_out)
    bad = {name: result for name, result in results.items() if result.outcome != "pass"}
    reasons = "\n".join(f"{name}: {result.reason[:200]}" for name, result in bad.items())
    assert {name: result.outcome for name, result in bad.items()} == wanted, reasons
    own = bad[fault.check]
    assert re.search(fault.says, own.reason), own.reason
    return own


def without_failing_case(phase: str, faults: list[Fault]) -> set[str]:
    """The checks of the catalogue for which no fault is planted that makes them fail."""
    failing = {fault.check for fault in faults if fault.outcome == "fail"}
    return {check.id for check in catalogue(phase)} - failing


def edit(path: Path, old: str, new: str) -> None:
    """Replace the first `old` in a text file; it must be there."""
    text = path.read_text()
    assert old in text, f"{path.name} has no {old!r}"
    path.write_text(text.replace(old, new, 1))


def edit_task(project: Path, old: str, new: str) -> None:
    """Replace text in the project's task."""
    edit(project / "task.py", old, new)


def add_method(project: Path, source: str) -> None:
    """Add a method to the project's task, before `data`."""
    edit_task(project, "    def data(", f"{source}\n\n    def data(")


def edit_config(project: Path, old: str, new: str) -> None:
    """Replace text in the project's configuration."""
    edit(project / "training_config.yaml", old, new)


@contextlib.contextmanager
def json_edited(path: Path) -> Iterator[Any]:
    """The value of a JSON file, written back as the block leaves it."""
    value = json.loads(path.read_text())
    yield value
    path.write_text(json.dumps(value))


@contextlib.contextmanager
def artifact_edited(project: Path, name: str) -> Iterator[Any]:
    """The value of a JSON artifact, named `planning/splits.json`."""
    phase, _, inside_folder = name.partition("/")
    with json_edited(phase_folder(project, phase) / inside_folder) as value:
        yield value


@contextlib.contextmanager
def checkpoint_edited(path: Path) -> Iterator[dict[str, Any]]:
    """The fields of a checkpoint, saved again with what the block changed in them."""
    checkpoint = Checkpoint.load(path)
    fields = {
        field.name: getattr(checkpoint, field.name) for field in dataclasses.fields(Checkpoint)
    }
    yield fields
    Checkpoint(**fields).save(path)


def flip_bit(weights: torch.Tensor, bit: int) -> None:
    """Flip one bit of the largest weight, in place."""
    flat = weights.view(-1)
    largest = int(flat.abs().argmax())
    flat.view(torch.int32)[largest] ^= 1 << bit


def document_data(project: Path) -> None:
    """Write what planning writes about the data, for the task as it is now."""
    with inside(project):
        loaded = Project.load(project)
        task = load_task(loaded.task)
        splits, _ = load_data(task, load_config(loaded.config_path).for_phase("planning"))
        documented, profile = profile_data(task, splits)
    folder = phase_folder(project, "planning")
    (folder / "splits.json").write_text(json.dumps(documented))
    (folder / "data_profile.json").write_text(json.dumps(profile))


def rehearse_again(project: Path) -> None:
    """Rehearse the task as it is now, and put what was found in the place of planning's.

    Both run in this process; what only a fresh one can say (draws, loaded modules) stays.
    """
    document_data(project)
    loaded = Project.load(project)
    config = load_config(loaded.config_path)
    for role in ("first", "second", SHIFTED_TRIAL.name):
        attempt = project / ".mltrainer" / "attempts" / role
        attempt.mkdir(parents=True)
        request = WorkRequest(
            entry="pytest_mltrainer.training.repetition.rehearsal:rehearse",
            phase="planning",
            project_root=str(project),
            attempt=str(attempt),
            config=config.to_json(),
            seed=config.seed,
            threads=config.threads,
            arguments={"role": role},
        )
        with inside(project), _as_in_a_worker(request):
            if role == SHIFTED_TRIAL.name:
                run_trial(SHIFTED_TRIAL.request(request, attempt))
            else:
                rehearse(request)
        found = json.loads((attempt / "rehearsal.json").read_text())
        with artifact_edited(project, f"planning/rehearsal/{role}.json") as stored:
            kept = ("draws", "numerics", "code", "data")
            stored.update({key: value for key, value in found.items() if key not in kept})


def evaluate_again(project: Path) -> None:
    """Write what finalization writes behind its training, for model and data as they are now.

    The exports are left as they are.
    """
    document_data(project)
    with inside(project):
        loaded = Project.load(project)
        run = TrainingRun(loaded, load_config(loaded.config_path), "finalization")
        folder = run.folder.path
        for split in (run.evaluation.validation, run.evaluation.test):
            split.predictions.save(folder / f"predictions/{split.name}.npz")
        (folder / RULES).unlink()
        write_service(run, folder)
        for name, write in final_documents(run).items():
            (folder / name).write_text(write())
        for name, picture in error_plot(run).items():
            (folder / name).write_bytes(picture)


@contextlib.contextmanager
def _as_in_a_worker(request: WorkRequest) -> Iterator[None]:
    """The variables of a worker; its warnings would go to its log."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, value in worker_environment(request).items():
            if os.environ.get(name) != value:
                patch.setenv(name, value)
        yield
