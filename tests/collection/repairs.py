"""What the pipeline makes of a sick case, brought to its end as a user would, and what it cost."""

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pytest_mltrainer.core import files
from pytest_mltrainer.core.artifacts import RunFolder
from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.core.ledger import REPAIRED, events
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.training.observation.telemetry import Telemetry

from .cases import Case
from .repair_projects import make_project, target_of

LIMIT_S = 1200.0
DECIDING = ("optimization", "diagnostics", "baseline")
"""The phases whose decision may say why the target was missed, the last word first."""
Ending = Literal["reached", "explained", "unexplained"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What the pipeline made of one sick case.

    `sick` and `cured` are the best validation scores of case and twin, `value` that of the model
    that the pipeline ended with, `test` whether it also met the target on the test set. `trainings`
    counts whole and partial ones, `cost` their updates beyond baseline and final training, over
    the updates of the baseline.
    """

    case: str
    label: str
    metric: str
    sick: float
    cured: float
    target: float
    issue: str
    path: str
    decision: str
    value: float | None
    ending: Ending
    said: str
    objections: tuple[str, ...]
    trainings: int
    cost: float
    duration_s: float

    @classmethod
    def load(cls, path: Path) -> "Repair":
        """The result that `save` wrote."""
        stored = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**stored, "objections": tuple(stored["objections"])})

    def save(self, path: Path) -> None:
        """Write the result as JSON."""
        files.write_json(path, asdict(self))


def repaired(case: Case, folder: Path) -> Repair:
    """Measure the target, make the project in `folder`, run the pipeline, read what it came to."""
    started = time.perf_counter()
    sick, cured, target = target_of(case)
    project = make_project(case, target, folder)
    terminal = _run(project)
    run = RunFolder(project.run_folder)
    value, met = _final(run)
    decision, said = _last_word(run, terminal)
    ending: Ending = "reached" if met else "explained" if said else "unexplained"
    trainings, cost = _spent(run)
    return Repair(
        case=case.id,
        label=case.label,
        metric=str(_decision(run, "baseline").get("reason", "")).partition(" ")[0],
        sick=sick.best,
        cured=cured.best,
        target=target,
        issue=_issue(run),
        path=_found(r"^path: (.*)$", terminal),
        decision=decision,
        value=value,
        ending=ending,
        said="" if met else said,
        objections=_objections(run) if met else (),
        trainings=trainings,
        cost=cost,
        duration_s=time.perf_counter() - started,
    )


def _run(project: Project) -> str:
    """What the terminal shows of the whole pipeline, which is kept in `said.txt` as well."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--phase=finalization", "-p", "no:cacheprovider"],
        cwd=project.root,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=LIMIT_S,
        check=False,
    )
    (project.root / "said.txt").write_text(done.stdout, encoding="utf-8")
    return done.stdout


def _final(run: RunFolder) -> tuple[float | None, bool]:
    """The last validation score that the pipeline decided by, and whether test met the target."""
    checks = _verdict(run, "finalization")
    met = checks.get("finalization/target_met") == "pass"
    for phase in ("optimization", "baseline"):
        value = _decision(run, phase).get("value")
        if value is not None:
            return float(value), met
    return None, met


def _last_word(run: RunFolder, terminal: str) -> tuple[str, str]:
    """The last decision, and what a reader is told: its reason, and what did not pass."""
    is_repaired = any(entry["event"] == REPAIRED for entry in events(run))
    phases = ("optimization", "baseline") if is_repaired else DECIDING
    decision = next((found for phase in phases if (found := _decision(run, phase))), {})
    told = [f"{decision['status']}: {decision['reason']}"] if decision else []
    told += re.findall(r"^ +(?:fail|cannot judge) +(\S.*)$", terminal, re.MULTILINE)
    return str(decision.get("status", "")), "; ".join(told)


def _decision(run: RunFolder, phase: str) -> Mapping[str, Any]:
    with contextlib.suppress(StorageError):
        manifest = run.phase(phase).manifest()
        return (manifest.decision if manifest else None) or {}
    return {}


def _verdict(run: RunFolder, phase: str) -> Mapping[str, str]:
    path = run.phase(phase).path / "verdict.json"
    if not path.exists():
        return {}
    checks: Mapping[str, str] = json.loads(path.read_text())["predicate"]["checks"]
    return checks


def _issue(run: RunFolder) -> str:
    repairs = [entry for entry in events(run) if entry["event"] == REPAIRED]
    stored = run.path / "overlay.json"
    if repairs and stored.exists():
        return str(json.loads(stored.read_text())["issue"])
    path = run.phase("diagnostics").path / "diagnosis.json"
    return str(json.loads(path.read_text())["issue"]) if path.exists() else ""


def _objections(run: RunFolder) -> tuple[str, ...]:
    """Checks of the last gate that failed although the target was met."""
    checks = _verdict(run, "finalization")
    return tuple(sorted(name.partition("/")[2] for name, how in checks.items() if how == "fail"))


def _spent(run: RunFolder) -> tuple[int, float]:
    """How many trainings there were, and their updates beyond the two that every model needs."""
    base = _updates(run.phase("baseline").path)
    folders = sorted((run.phase("optimization").path / "trials").glob("*"))
    extra = [_updates(folder) for folder in folders]
    # A broken baseline was trained, and its data are gone: it is counted as another baseline.
    extra += [base for entry in events(run) if entry["event"] == REPAIRED]
    path = run.phase("diagnostics").path / "capacity.json"
    if path.exists():
        plan = json.loads(path.read_text())["plan"]
        extra += [round(share * base) for share in plan["shares"]]
    final = run.phase("finalization").manifest()
    count = 1 + len(extra) + (final is not None)
    return count, sum(extra) / base if base else 0.0


def _updates(folder: Path) -> int:
    with contextlib.suppress(StorageError):
        return len(Telemetry.read(folder).steps["loss"])
    return 0


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.MULTILINE)
    return match[1].strip() if match else ""
