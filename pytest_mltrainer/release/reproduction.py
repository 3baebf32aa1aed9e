"""Trains the first steps of the final training again, in a fresh clone and a fresh process."""

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.core.work import TRAIN, WorkRequest
from pytest_mltrainer.launchers import choose
from pytest_mltrainer.release.reproduction_clone import Clone, NotRebuilt, make_clone
from pytest_mltrainer.training.observation.digests import DIGESTS_FILE, read_digests
from pytest_mltrainer.training.ranks import Ranks
from pytest_mltrainer.training.reproducibility import choose_device
from pytest_mltrainer.training.run import TrainingRun
from pytest_mltrainer.training.session import TrainingSession
from pytest_mltrainer.training.task import load_task

REPRODUCED = "reproduced"
TIMEOUT_S = 600.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reproduction:
    """The digests of the repeated steps, the tree they came from, and modules from elsewhere."""

    clone: Clone
    digests: "np.ndarray[Any, Any]"
    strays: tuple[str, ...]


def reproduce(run: TrainingRun, inputs: Mapping[str, str], steps: int) -> Reproduction:
    """Train `steps` updates of the run's phase again from the recorded source.

    `inputs` are those of the training, by their names in the manifest, with digests.
    Raises NotRebuilt when the tree cannot be made, or the training in it fails.
    """
    with tempfile.TemporaryDirectory(prefix="mltrainer-clone-") as scratch:
        folder = Path(scratch).resolve()
        clone = make_clone(run, inputs, folder)
        attempt = folder / "attempt"
        attempt.mkdir()
        request = WorkRequest(
            entry="pytest_mltrainer.release.reproduction:train_again",
            phase=run.phase,
            project_root=str(clone.root),
            attempt=str(attempt),
            config=run.whole_config.to_json(),
            seed=run.config.seed,
            threads=run.config.threads,
            steps=(TRAIN,),
            arguments={
                "steps": steps,
                "original": str(run.project.root),
                "run_folder": str(clone.run_folder),
            },
        )
        request.save()
        launcher = choose(run.whole_config, request.steps)
        result = launcher.start(request, timeout_s=TIMEOUT_S).result()
        if result.status != "done":
            frames = "".join(f"\n    {frame}" for frame in result.traceback[-3:])
            raise NotRebuilt(
                f"the training in the clone ({clone.source}): {result.message}{frames}"
            )
        return Reproduction(
            clone=clone,
            digests=read_digests(attempt / REPRODUCED / DIGESTS_FILE),
            strays=tuple(result.values["strays"]),
        )


def train_again(request: WorkRequest) -> dict[str, Any]:
    """The worker's entry: train `arguments.steps` updates in the clone that it was started in."""
    root, original = Path(request.project_root), Path(request.arguments["original"])
    _lead_into(root, original)
    project = replace(Project.load(root), run_folder=Path(request.arguments["run_folder"]))
    config = Config.from_json(request.config)
    ranks = Ranks.join(request, choose_device(config.for_phase(request.phase).device))
    session = TrainingSession.open(
        project,
        config,
        request.phase,
        load_task(project.task),
        request.folder / REPRODUCED,
        ranks=ranks,
    )
    session.observer.limit_steps = int(request.arguments["steps"])
    session.run()
    ranks.leave()
    return {"strays": _modules_below(original)}


def _lead_into(root: Path, original: Path) -> None:
    """Where an editable install put the original on the path, the clone comes before it."""
    places = [Path(entry) for entry in sys.path]
    inside = [path for path in places if path.is_relative_to(original)]
    sys.path[:0] = [str(root / path.relative_to(original)) for path in inside]


def _modules_below(folder: Path) -> list[str]:
    """Modules of this process that lie in the original project instead of the clone."""
    found = []
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path and Path(path).is_relative_to(folder) and "site-packages" not in Path(path).parts:
            found.append(name)
    return sorted(found)
