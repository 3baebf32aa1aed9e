"""Planning: document the data, rehearse the training twice, record what will train."""

from collections.abc import Iterable
from typing import Any

from pytest_mltrainer.phases.common import PhaseWork

from pytest_mltrainer.core import files, ledger
from pytest_mltrainer.core.digests import digest_value
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.evidence import Evidence
from pytest_mltrainer.core.work import Work, WorkRequest
from pytest_mltrainer.launchers.local import LocalLauncher
from pytest_mltrainer.training.environment import capture_environment
from pytest_mltrainer.training.objective import describe_objective, maximizes, objective_metric
from pytest_mltrainer.training.profile import profile_data
from pytest_mltrainer.training.reproducibility import (
    choose_device,
    fix_seeds,
    make_deterministic,
)
from pytest_mltrainer.training.source import capture_source
from pytest_mltrainer.training.tracking import load_data, project_data

ROLES = ("first", "second")


def work(request: WorkRequest) -> dict[str, Any]:
    """Do the requested steps of planning and write its artifacts."""
    planning = PhaseWork(request)
    config = planning.config.for_phase("planning")
    make_deterministic(threads=config.threads, exceptions=config.training.deterministic_exceptions)
    # The processes start before the data is read here, so that both cores have something to do.
    rehearsals = _start_rehearsals(planning) if "rehearse" in request.steps else []
    try:
        planning.do("data", lambda: _data(planning))
        planning.do("rehearse", lambda: _rehearse(planning, rehearsals))
    finally:
        for rehearsal in rehearsals:
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
    splits, opened = load_data(planning.task, config)
    planning.data_files = project_data(planning.project, opened)
    documented, profile = profile_data(planning.task, splits)
    planning.write_json("splits.json", documented)
    planning.write_json("data_profile.json", profile)
    return ["splits.json", "data_profile.json"]


def _start_rehearsals(planning: PhaseWork) -> list[Work]:
    launcher = LocalLauncher()
    timeout_s = planning.config.budgets.worker_timeout_minutes * 60
    started: list[Work] = []
    for role in ROLES:
        folder = planning.request.folder / f"rehearsal-{role}"
        folder.mkdir(exist_ok=True)
        for name in ("result.json", "rehearsal.json"):
            (folder / name).unlink(missing_ok=True)
        request = WorkRequest(
            entry="pytest_mltrainer.training.rehearsal:rehearse",
            phase="planning",
            project_root=planning.request.project_root,
            attempt=str(folder),
            config=planning.request.config,
            seed=planning.request.seed,
            threads=planning.request.threads,
            arguments={"role": role},
        )
        request.save()
        started.append(launcher.start(request, timeout_s=timeout_s))
    return started


def _rehearse(planning: PhaseWork, rehearsals: list[Work]) -> Iterable[str]:
    """Take in what the two fresh processes drew, trained and probed."""
    found: dict[str, dict[str, Any]] = {}
    for role, rehearsal in zip(ROLES, rehearsals, strict=True):
        result = rehearsal.result()
        if result.status != "done":
            raise UserError(
                "\n    ".join([f"the {role} rehearsal: {result.message}", *result.traceback])
            )
        source = planning.request.folder / f"rehearsal-{role}" / "rehearsal.json"
        found[role] = files.read_json(source)
        planning.write_json(f"rehearsal/{role}.json", found[role])
    planning.numerics = found["first"]["numerics"]
    planning.code_files = tuple(found["first"]["code"])
    files_of_rehearsal = project_data(planning.project, tuple(found["first"]["data"]))
    planning.data_files = tuple(dict.fromkeys([*planning.data_files, *files_of_rehearsal]))
    return ["rehearsal/*.json"]


def _record(planning: PhaseWork) -> Iterable[str]:
    """The resolved configuration, the environment, the source, and what the data looks ill with."""
    config = planning.config
    task = planning.task
    metric = objective_metric(config, task)
    profile = files.read_json(planning.output / "data_profile.json")
    first = files.read_json(planning.output / "rehearsal/first.json")
    planning.write_json("config_resolved.json", config.to_json())
    planning.write_json("environment.json", capture_environment(choose_device(config.device)))
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
            fault=first["fault"],
        )
    )
    return [
        "config_resolved.json",
        "environment.json",
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
