"""One case through planning and baseline to its findings, by the functions of the phases.

Only two things differ from the pipeline: one process does it all, and the permit to train is made
here, because the gate of planning would refuse many a sick program.
"""

import contextlib
import importlib
import json
import math
import multiprocessing
import os
import statistics
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import yaml
from pytest_mltrainer.phases import baseline as baseline_phase
from pytest_mltrainer.phases import planning as planning_phase
from pytest_mltrainer.phases.common import PhaseWork
from pytest_mltrainer.phases.training import run_so_far, train

from pytest_mltrainer.core import files
from pytest_mltrainer.core.artifacts import RunFolder
from pytest_mltrainer.core.config import Config, load_config
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.core.ranking import Findings
from pytest_mltrainer.core.work import WorkRequest
from pytest_mltrainer.training import permit
from pytest_mltrainer.training.repetition import rehearsal
from pytest_mltrainer.training.reproducibility import derive_seed, fix_seeds
from pytest_mltrainer.training.run import TrainingRun
from pytest_mltrainer.training.task import load_task

from .cases import Case, Outcome

LIMIT_RUN_S = 300.0
NOT_REHEARSED = ("_controls", "_forward", "loader_digests", "_trainable", "_worker_draws")
"""What the rehearsal proves for the gate of planning and no diagnostic reads."""
IMPORTED_ONCE = (
    "torch._inductor",
    "scipy.stats",
    "sklearn.datasets",
    "sklearn.linear_model",
    "sklearn.model_selection",
    "sklearn.neighbors",
)
"""What every run imports sooner or later, some seconds all together."""
WORST = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseRun:
    """What a case came to under one seed.

    `alarms` are the ids of all diagnoses, the main one first: those of the baseline, then those
    that only planning had. `errors` holds phases that could not be done.
    """

    case: str
    label: str
    seed: int
    alarms: tuple[str, ...]
    planning: Findings | None
    baseline: Findings | None
    outcome: Outcome | None
    errors: tuple[str, ...]
    duration_s: float

    @property
    def first(self) -> str:
        """The diagnosis to act on, or a blank."""
        return self.alarms[0] if self.alarms else ""


def run_case(case: Case, seed: int, *, diagnosed: bool = True) -> CaseRun:
    """Plan, train and diagnose a case in this process; what cannot be done is in `errors`.

    Without diagnosis it is only trained and measured.
    """
    started = time.perf_counter()
    errors: list[str] = []
    found: dict[str, Findings] = {}
    outcome = None
    with tempfile.TemporaryDirectory() as folder, _quiet():
        project = _project(Path(folder), case, seed)
        config = load_config(project.config_path)
        try:
            if diagnosed:
                _plan(project, config, errors)
                found["planning"] = _planning_findings(project, config)
        except Exception:
            errors.append(f"planning: {traceback.format_exc(limit=-4)}")
        try:
            run = _train(project, config)
            if diagnosed:
                found["baseline"] = _baseline_findings(project, config)
            outcome = measured(run)
        except Exception:
            errors.append(f"baseline: {traceback.format_exc(limit=-4)}")
    alarms = [
        diagnosis.id
        for phase in ("baseline", "planning")
        if phase in found
        for diagnosis in found[phase].diagnoses
    ]
    return CaseRun(
        case=case.id,
        label=case.label,
        seed=seed,
        alarms=tuple(dict.fromkeys(alarms)),
        planning=found.get("planning"),
        baseline=found.get("baseline"),
        outcome=outcome,
        errors=tuple(errors),
        duration_s=time.perf_counter() - started,
    )


def run_cases(
    wanted: Sequence[tuple[Case, int]],
    jobs: int = 2,
    done: Callable[[CaseRun], None] = lambda run: None,
    **options: Any,
) -> list[CaseRun]:
    """Every case in a process of its own, `jobs` at a time; the order stays."""

    def one(entry: tuple[Case, int]) -> CaseRun:
        run = _in_process(*entry, options)
        done(run)
        return run

    os.environ["OMP_NUM_THREADS"] = "1"
    for name in IMPORTED_ONCE:
        importlib.import_module(name)
    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, wanted))


def _in_process(case: Case, seed: int, options: dict[str, Any]) -> CaseRun:
    # Forked: torch and the programs are imported once, and each run still starts clean.
    # A process that has run a parallel region cannot be forked safely, so this one never does.
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(
        target=lambda: theirs.send(run_case(case, seed, **options)), daemon=False
    )
    process.start()
    theirs.close()
    try:
        if mine.poll(LIMIT_RUN_S):
            found: CaseRun = mine.recv()
            return found
        error = f"no result within {LIMIT_RUN_S:.0f} s"
    except EOFError:
        error = "the process ended without a result"
    finally:
        process.kill()
        process.join()
    return CaseRun(
        case=case.id, label=case.label, seed=seed, alarms=(), planning=None, baseline=None,
        outcome=None, errors=(error,), duration_s=LIMIT_RUN_S,
    )  # fmt: skip


def _project(folder: Path, case: Case, seed: int) -> Project:
    task = f"{case.build.__module__}:{case.build.__name__}"
    (folder / "pyproject.toml").write_text(f'[tool.mltrainer]\ntask = "{task}"\n')
    # Through JSON: YAML would write tuples and NumPy numbers in a way of its own.
    settings = json.loads(json.dumps({**case.config, "seed": seed}))
    (folder / "training_config.yaml").write_text(yaml.safe_dump(settings))
    return Project.load(folder)


def _work(project: Project, config: Config, phase: str, **arguments: Any) -> WorkRequest:
    attempt = project.run_folder / f"attempt-{phase}"
    attempt.mkdir(parents=True, exist_ok=True)
    return WorkRequest(
        entry="",
        phase=phase,
        project_root=str(project.root),
        attempt=str(attempt),
        config=config.to_json(),
        seed=config.seed,
        threads=config.threads,
        steps=(phase,),
        arguments=arguments,
    )


def _planned(project: Project) -> Path:
    folder = RunFolder(project.run_folder).phase("planning").path
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _plan(project: Project, config: Config, errors: list[str]) -> None:
    """Write what planning would: the data's profile and the rehearsal with its probes."""
    request = _work(project, config, "planning", role="first")
    work = PhaseWork(request)
    work.output.mkdir(exist_ok=True)
    planning_phase._data(work)
    first: dict[str, Any] = {"config_reads": [], "model": {}, "fault": None, "probes": None}
    try:
        with mock.patch.multiple(rehearsal, **{name: lambda *_: {} for name in NOT_REHEARSED}):
            rehearsal.rehearse(request)
        first = files.read_json(request.folder / "rehearsal.json")
    except Exception:
        errors.append(f"rehearsal: {traceback.format_exc(limit=-4)}")
    work.write_json("rehearsal/first.json", first)
    for path in [path for path in work.output.rglob("*") if path.is_file()]:
        target = _planned(project) / path.relative_to(work.output)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())


def _planning_findings(project: Project, config: Config) -> Findings:
    work = PhaseWork(_work(project, config, "planning"))
    planning_phase._record(work)
    return Findings.from_json(files.read_json(work.output / "diagnoses.json"))


def _train(project: Project, config: Config) -> TrainingRun:
    work = PhaseWork(_work(project, config, "baseline"))
    work.output.mkdir(exist_ok=True)
    granted = permit.Permit("collection", None, permit._MADE_HERE)
    with mock.patch.object(permit.Permit, "from_planning", return_value=granted):
        train(work)
    return run_so_far(work)


def _baseline_findings(project: Project, config: Config) -> Findings:
    work = PhaseWork(_work(project, config, "baseline"))
    baseline_phase._diagnose(work, run_so_far(work))
    return Findings.from_json(files.read_json(work.output / "diagnoses.json"))


def measured(run: TrainingRun) -> Outcome:
    """The outcome of a training, from its telemetry, its checkpoints and simple models."""
    from pytest_mltrainer.training.diagnosing.evidence import _references

    epochs, steps, name = run.telemetry.epochs, run.telemetry.steps, run.metric.name
    sign = 1 if run.maximize else -1
    scores = [record.validation.get(name, math.nan) for record in epochs]
    known = [value for value in scores if math.isfinite(value)]
    best = max(known, key=lambda value: sign * value) if known else -sign * WORST
    references = _references(run) if run.can_be_evaluated else {}
    unchanged, total = _unchanged(run)
    return Outcome(
        sign=sign,
        best=best,
        best_epoch=scores.index(best) if known else -1,
        last=scores[-1] if scores and math.isfinite(scores[-1]) else -sign * WORST,
        train=epochs[-1].train.get(name, math.nan) if epochs else math.nan,
        train_losses=tuple(record.train.get("loss", math.nan) for record in epochs),
        validation_losses=tuple(record.validation["loss"] for record in epochs),
        gradient_norms=tuple(float(norm) for norm in steps["gradient_norm"]),
        trivial=references.get("trivial", math.nan),
        linear=references.get("linear_validation"),
        broken=run.is_broken,
        unchanged=unchanged,
        parameters=total,
        step_s=float(statistics.median(steps["step_s"])) if len(steps) else math.nan,
        waiting=float(steps["wait_s"].sum() / max(steps["step_s"].sum(), 1e-9)),
        memory_mb=run.json("resources.json").get("host_mb", math.nan),
    )


def _unchanged(run: TrainingRun) -> tuple[tuple[str, ...], int]:
    """The trainable parameters that training left as they were, and how many there are."""
    fix_seeds(derive_seed(run.config.seed, "model"))
    task = load_task(run.project.task)
    start = {
        name: part.detach()
        for name, part in task.model(run.config).named_parameters()
        if part.requires_grad
    }
    if not run.has("checkpoints/last.pt"):
        return (), len(start)
    last = run.checkpoint("last").model
    same = [name for name, part in start.items() if torch.equal(part, last[name].to(part.device))]
    return tuple(same), len(start)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings: sick programs earn many."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
