"""`diagnose(run)`: ask every diagnostic about a run, from a script or a notebook."""

from pathlib import Path
from typing import TYPE_CHECKING

from pytest_mltrainer.core.artifacts import MANIFEST, PhaseFolder
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.evidence import Evidence
from pytest_mltrainer.core.project import PHASES
from pytest_mltrainer.core.ranking import diagnose as ask
from pytest_mltrainer.diagnostics import detectors
from pytest_mltrainer.reporting.findings import RunFindings, stored_findings

if TYPE_CHECKING:
    from pytest_mltrainer.training.observation.observe import ObservedRun
    from pytest_mltrainer.training.run import TrainingRun


def diagnose(run: "ObservedRun | TrainingRun | Path | str") -> RunFindings:
    """What is wrong with a run, where, and what to change; print it or show it in a notebook.

    `run` is what `observe` made or the folder that it wrote, a TrainingRun, or the run folder of a
    pipeline (`.mltrainer`) or of one of its phases: of those two folders the findings that the
    phase stored, of the last phase that has any. `not_judged` says which diagnostics could not
    look, and why. Raises UserError when there is nothing to diagnose.
    """
    if isinstance(run, str | Path):
        return _of_folder(Path(run))
    from pytest_mltrainer.training.diagnosing.evidence import gather_evidence
    from pytest_mltrainer.training.observation.observe import ObservedRun
    from pytest_mltrainer.training.run import TrainingRun

    if isinstance(run, ObservedRun):
        return _asked(run.evidence())
    if isinstance(run, TrainingRun):
        return _asked(gather_evidence(run, evaluated=run.can_be_evaluated))
    raise UserError(
        f"diagnose(): found {type(run).__name__}, wanted what observe() made, a TrainingRun, or "
        "the folder of a run"
    )


def _of_folder(folder: Path) -> RunFindings:
    from pytest_mltrainer.training.observation.observed import is_observed, observed_evidence

    if is_observed(folder):
        return _asked(observed_evidence(folder))
    phases = [folder / phase for phase in reversed(PHASES)]
    for path in [folder, *phases] if (folder / MANIFEST).is_file() else phases:
        findings = stored_findings(PhaseFolder(path))
        if findings is not None:
            return findings
    raise UserError(
        f"diagnose(): {folder} holds no run, wanted a folder that observe(folder=...) wrote, or "
        "the .mltrainer of a project with a baseline: run pytest --phase=baseline there"
    )


def _asked(evidence: Evidence) -> RunFindings:
    return RunFindings.of(ask(evidence, detectors()), evidence.config)
