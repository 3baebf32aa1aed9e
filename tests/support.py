"""Projects for the tests: brought up for real, spoiled on purpose, and judged check by check."""

import contextlib
import importlib
import inspect
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pytest_mltrainer.core import files
from pytest_mltrainer.core.artifacts import (
    FAILING_INPUTS,
    JUDGEMENTS,
    MANIFEST,
    REPORTS,
    VERDICT,
    WITNESSED,
    Manifest,
    RunFolder,
    StepRecord,
    file_names,
)
from pytest_mltrainer.core.catalogue import Check, catalogue
from pytest_mltrainer.core.config import load_config
from pytest_mltrainer.core.digests import sha256_file
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.judge import (
    AwaitingSignature,
    CannotJudge,
    CheckFailed,
    Judge,
    NotApplicable,
)
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.core.verdict import CheckOutcome, CheckResult
from pytest_mltrainer.fixtures import PROVIDERS
from pytest_mltrainer.training.run import TrainingRun

PROJECTS = Path(__file__).parent / "projects"
QUIET = ("-p", "no:randomly", "-p", "no:cacheprovider")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a pytest in a process of its own ended."""

    returncode: int
    stdout: str
    stderr: str


def run_pytest(project: Path, *args: str, timeout_s: float = 300.0) -> Finished:
    """`python -m pytest ARGS` in the project, without the variables that the outer pytest set."""
    outer = ("PYTEST_", "COV_", "COVERAGE_")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *args],
        cwd=project,
        env={key: value for key, value in os.environ.items() if not key.startswith(outer)},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
    )
    return Finished(returncode=done.returncode, stdout=done.stdout, stderr=done.stderr)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedProject:
    """A project that one real run brought up to a phase, with what that run said. Read only."""

    path: Path
    returncode: int
    stdout: str
    report: Path

    @staticmethod
    def record(folder: Path) -> Path:
        """The file that says how the run ended; the project is whole if it exists."""
        return folder.with_name(f"{folder.name}.run.json")

    @classmethod
    def load(cls, folder: Path) -> "TrainedProject":
        """The project in a folder that `bring_up` filled."""
        stored = json.loads(cls.record(folder).read_text())
        return cls(path=folder, report=folder / "report.xml", **stored)


def bring_up(source: Path, folder: Path, phase: str) -> None:
    """Copy a project and bring it up to a phase in one run of pytest."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("__pycache__"))
    done = run_pytest(folder, f"--phase={phase}", *QUIET, "--junitxml=report.xml")
    record = {"returncode": done.returncode, "stdout": done.stdout + done.stderr}
    TrainedProject.record(folder).write_text(json.dumps(record))


def phase_folder(project: Path, phase: str) -> Path:
    """Where the artifacts of a phase lie."""
    return RunFolder(Project.load(project).run_folder).phase(phase).path


def reseal(project: Path, phase: str) -> None:
    """Make the manifest of a phase true again: digests, files that are gone, and files added.

    Added files count as outputs of the last step.
    """
    folder = phase_folder(project, phase)
    manifest = Manifest.from_json(files.read_json(folder / MANIFEST), folder / MANIFEST)
    of_the_gate = (f"{FAILING_INPUTS}/", f"{WITNESSED}/")
    there = {name for name in file_names(folder) if not name.startswith(of_the_gate)}
    there -= {MANIFEST, VERDICT, JUDGEMENTS, *REPORTS}
    added = there.difference(manifest.artifacts)
    last = list(manifest.steps)[-1]
    steps: dict[str, StepRecord] = {}
    for name, step in manifest.steps.items():
        outputs = there.intersection(step.outputs) | (added if name == last else set())
        digests = {output: sha256_file(folder / output) for output in sorted(outputs)}
        steps[name] = replace(step, outputs=digests)
    files.write_json(folder / MANIFEST, replace(manifest, steps=steps).to_json())


def plant(project: Path, fault: Callable[[Path], None], phase: str) -> Path:
    """Apply a fault to the folder of a phase's artifacts and re-seal it; returns the project."""
    fault(phase_folder(project, phase))
    reseal(project, phase)
    return project


def judge_check(check_id: str, project: Path) -> CheckResult:
    """The result of one built-in check over the artifacts of its phase, in this process."""
    with inside(project):
        return _judged(_check(check_id), _training_run(project, check_id.partition("/")[0]))


def judge_gate(
    phase: str, project: Path, *, without: tuple[str, ...] = ()
) -> dict[str, CheckResult]:
    """The results of all built-in checks of a gate over one training run, by check id."""
    with inside(project):
        run = _training_run(project, phase)
        checks = [check for check in catalogue(phase) if check.id not in without]
        return {check.id: _judged(check, run) for check in checks}


@contextlib.contextmanager
def inside(project: Path) -> Iterator[None]:
    """Import the project's modules and no other's; modules, path and torch are as before after.

    Every project has a module `task`, and reading its data switches deterministic algorithms on.
    """
    strangers = {name: module for name, module in sys.modules.items() if _is_of_a_project(module)}
    path, threads = list(sys.path), torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    for name in strangers:
        del sys.modules[name]
    sys.path.insert(0, str(project))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for name in [name for name, module in sys.modules.items() if _is_of_a_project(module)]:
            del sys.modules[name]
        sys.modules.update(strangers)
        sys.path[:] = path
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)


def _is_of_a_project(module: object) -> bool:
    """Whether a module lies beside a `training_config.yaml`, in a folder of tests or of pytest."""
    file = getattr(module, "__file__", None)
    return file is not None and (Path(file).parent / "training_config.yaml").exists()


def _check(check_id: str) -> Check:
    return next(check for check in catalogue(check_id.partition("/")[0]) if check.id == check_id)


def _training_run(project: Path, phase: str) -> TrainingRun:
    loaded = Project.load(project)
    return TrainingRun(loaded, load_config(loaded.config_path), phase)


def _judged(check: Check, run: TrainingRun) -> CheckResult:
    """Call the check as its gate would: whatever else it raises is a failure there too."""
    function = getattr(importlib.import_module(check.module), check.function)
    judge = Judge()
    outcome: CheckOutcome = "pass"
    reason = ""
    try:
        function(
            **{
                name: judge if name == "judge" else PROVIDERS[name](run)
                for name in inspect.signature(function).parameters
            }
        )
        if not judge.judgements:
            outcome, reason = "cannot judge", "the check ended without a judgement"
    except CheckFailed as error:
        outcome, reason = "fail", str(error)
    except NotApplicable as error:
        outcome, reason = "not applicable", str(error)
    except AwaitingSignature as error:
        outcome, reason = "awaiting signature", str(error)
    except (CannotJudge, UserError) as error:
        outcome, reason = "cannot judge", str(error)
    except Exception as error:  # the libraries that run an export have exceptions of their own
        outcome, reason = "fail", f"{type(error).__name__}: {error}"
    return CheckResult(
        id=check.id,
        outcome=outcome,
        reason=reason,
        judgements=[entry.to_json() for entry in judge.judgements],
        notes=list(judge.notes),
    )
