"""Whether a run was trained by a machine that computes otherwise than this one."""

from pytest_mltrainer.core.inputs import UNREADABLE_HERE, current_numerics
from pytest_mltrainer.training.reproducibility import available_device, numerics_fingerprint
from pytest_mltrainer.training.run import TrainingRun

_OF_THE_WORKER = ("numerics/PYTHONHASHSEED", "numerics/autocast")
"""Set anew in every worker, so that they are no property of a machine."""


def other_numerics(run: TrainingRun) -> list[str]:
    """What computes otherwise here than where the run trained; bits cannot be repeated then."""
    manifest = run.run_folder.phase(run.phase).manifest()
    recorded = {
        name: value
        for step in (manifest.steps.values() if manifest else ())
        for name, value in step.inputs.items()
        if name.startswith("numerics/") and name not in _OF_THE_WORKER
    }
    here = numerics_fingerprint(available_device(run.config.device))
    found = []
    for name, before in recorded.items():
        what = name.partition("/")[2]
        now = here[what] if name in UNREADABLE_HERE else current_numerics(what, run.config)
        if now != before:
            found.append(f"{what} {before} -> {now}")
    return found
