"""Planning: document the data, rehearse the training three times, record what will train."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pytest_mltrainer.phases.common import PhaseWork

from pytest_mltrainer.core import files, ledger
from pytest_mltrainer.core.digests import digest_value
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.evidence import Evidence
from pytest_mltrainer.core.work import Work, WorkRequest
from pytest_mltrainer.launchers.local import LocalLauncher
from pytest_mltrainer.training.data.profile import profile_data
from pytest_mltrainer.training.environment import LOCK_FILE, capture_environment, lock_of
from pytest_mltrainer.training.objective import describe_objective, maximizes, objective_metric
from pytest_mltrainer.training.repetition.rehearsal import told
from pytest_mltrainer.training.repetition.suspects import differences, explain
from pytest_mltrainer.training.repetition.trial import SHIFTED_TRIAL, outcome, run_trials
from pytest_mltrainer.training.repetition.window import explain_rehearsals
from pytest_mltrainer.training.reproducibility import (
    choose_device,
    fix_seeds,
    make_deterministic,
)
from pytest_mltrainer.training.source import capture_source
from pytest_mltrainer.training.tracking import load_data, project_data, written_since

ROLES = ("first", "second")
SUSPECTS = "rehearsal/suspects.json"


def work(request: WorkRequest) -> dict[str, Any]:
    """Do the requested steps of planning and write its artifacts."""
    planning = PhaseWork(request)
    config = planning.config.for_phase("planning")
    make_deterministic(threads=config.threads, exceptions=config.training.deterministic_exceptions)
    # The processes start before the data is read here, so that both cores have something to do.
    rehearsals = _start_rehearsals(planning) if "rehearse" in request.steps else {}
    started = time.time()
    try:
        planning.do("data", lambda: _data(planning))
        planning.do("rehearse", lambda: _rehearse(planning, rehearsals, started))
    finally:
        for rehearsal in rehearsals.values():
            rehearsal.cancel()
    planning.do("record", lambda: _record(planning))
    done = planning.finish()
    objective = files.read_json(planning.output / "objective.json")
    ledger.record(planning.run, ledger.PLANNED, objective=digest_value(objective))
    return done


def _data(planning: PhaseWork) -> Iterable[str]:
    """Read the data once: split digests, overlaps, value statistics."""
    config = planning.config.for_phase("planning")
    fix_seeds(config.seed)
    with told():
        splits, opened = load_data(planning.task, config)
    planning.data_files = project_data(planning.project, opened)
    documented, profile = profile_data(planning.task, splits)
    planning.write_json("splits.json", documented)
    planning.write_json("data_profile.json", profile)
    return ["splits.json", "data_profile.json"]


def _start_rehearsals(planning: PhaseWork) -> dict[str, Work]:
    return {role: _start(planning, _request(planning, role)) for role in ROLES}


def _request(planning: PhaseWork, role: str) -> WorkRequest:
    return WorkRequest(
        entry="pytest_mltrainer.training.repetition.rehearsal:rehearse",
        phase="planning",
        project_root=planning.request.project_root,
        attempt=str(_rehearsal_folder(planning, role)),
        config=planning.request.config,
        seed=planning.request.seed,
        threads=planning.request.threads,
        arguments={"role": role},
    )


def _start(planning: PhaseWork, request: WorkRequest) -> Work:
    request.folder.mkdir(exist_ok=True)
    for name in ("result.json", "rehearsal.json", "seen.jsonl"):
        (request.folder / name).unlink(missing_ok=True)
    request.save()
    timeout_s = planning.config.budgets.worker_timeout_minutes * 60
    return LocalLauncher().start(request, timeout_s=timeout_s)


def _rehearsal_folder(planning: PhaseWork, role: str) -> Path:
    return planning.request.folder / f"rehearsal-{role}"


def _rehearse(planning: PhaseWork, rehearsals: dict[str, Work], started: float) -> Iterable[str]:
    """Take in what the fresh processes drew, trained and probed."""
    found: dict[str, dict[str, Any]] = {}
    for name in ("rehearsal/divergence.json", SUSPECTS):
        (planning.output / name).unlink(missing_ok=True)
    shifted = SHIFTED_TRIAL.request(
        _request(planning, "first"), _rehearsal_folder(planning, SHIFTED_TRIAL.name)
    )
    # The second is done before the first, which probes the model as well. What it leaves behind
    # is there when the third begins.
    for role in reversed(ROLES):
        result = rehearsals[role].result()
        if result.status != "done":
            raise UserError(
                "\n    ".join([f"the {role} rehearsal: {result.message}", *result.traceback])
            )
        found[role] = files.read_json(_rehearsal_folder(planning, role) / "rehearsal.json")
        planning.write_json(f"rehearsal/{role}.json", found[role])
        if SHIFTED_TRIAL.name not in rehearsals:
            rehearsals[SHIFTED_TRIAL.name] = _start(planning, shifted)
    result = rehearsals[SHIFTED_TRIAL.name].result()
    if result.status not in ("done", "error"):
        raise UserError(f"the {SHIFTED_TRIAL.name} rehearsal: {result.message}")
    found["shifted"] = outcome(result, shifted.folder)
    planning.write_json("rehearsal/shifted.json", found["shifted"])
    _explain(planning, found, started)
    requests = [WorkRequest.load(_rehearsal_folder(planning, role)) for role in ROLES]
    if explained := explain_rehearsals(requests, found["first"], found["second"]):
        planning.write_json("rehearsal/divergence.json", explained)
    planning.numerics = found["first"]["numerics"]
    planning.code_files = tuple(found["first"]["code"])
    files_of_rehearsal = project_data(planning.project, tuple(found["first"]["data"]))
    planning.data_files = tuple(dict.fromkeys([*planning.data_files, *files_of_rehearsal]))
    return ["rehearsal/*.json"]


def _explain(planning: PhaseWork, found: dict[str, dict[str, Any]], started: float) -> None:
    """Where the rehearsals differ: try one source of nondeterminism after the other."""
    threads = planning.config.for_phase("planning").threads
    what = differences(found["first"], found["second"], found["shifted"], threads=threads)
    if what:
        like = _request(planning, "first")
        explained = explain(
            found["first"],
            found["shifted"],
            what,
            lambda trials: run_trials(like, trials),
            threads=threads,
            written=written_since(planning.project, started),
        )
        planning.write_json(SUSPECTS, explained)


def _record(planning: PhaseWork) -> Iterable[str]:
    """The resolved configuration, the environment, the source, and what the data looks ill with."""
    config = planning.config
    task = planning.task
    metric = objective_metric(config, task)
    profile = files.read_json(planning.output / "data_profile.json")
    first = files.read_json(planning.output / "rehearsal/first.json")
    planning.write_json("config_resolved.json", config.to_json())
    environment = capture_environment(choose_device(config.device))
    planning.write_json("environment.json", environment)
    files.write_text(planning.output / LOCK_FILE, lock_of(environment))
    planning.write_json("objective.json", describe_objective(config, task, profile))
    written = _source(planning)
    planning.diagnose(
        Evidence(
            kind=task.kind,
            metric=metric.name,
            maximize=maximizes(config, metric),
            target=config.objective.target,
            config=config.for_phase("planning").to_json(),
            config_reads=tuple(first["config_reads"]),
            profile={**profile, "model": first["model"]},
            probes=first["probes"],
            fault=first["fault"],
        )
    )
    return [
        "config_resolved.json",
        "environment.json",
        LOCK_FILE,
        "objective.json",
        "diagnoses.json",
        *written,
    ]


def _source(planning: PhaseWork) -> list[str]:
    """The commit and a patch to what trains; without git, the sources themselves."""
    source = capture_source(planning.project)
    planning.write_json("source.json", source.facts)
    if source.facts["git"]:
        files.write_bytes(planning.output / "source.patch", source.patch)
    else:
        for name in planning.code_files:
            content = (planning.project.root / name).read_bytes()
            files.write_bytes(planning.output / "sources" / name, content)
    return ["source.json", "source.patch", "sources/**/*"]
