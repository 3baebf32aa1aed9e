"""Does the final model serve where nothing of its training is?"""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np

from pytest_mltrainer.core.config import Release
from pytest_mltrainer.core.judge import Judge
from pytest_mltrainer.export.served import FOLDER, ExportedModel, served_predictor
from pytest_mltrainer.export.serving import first_inputs
from pytest_mltrainer.release.clean_room import LOCK, NotInstallable, Room, make_room
from pytest_mltrainer.release.inputs import request_of
from pytest_mltrainer.release.registry import Registry
from pytest_mltrainer.training.run import TrainingRun

SAMPLES = 8
TOLERANCE = 1e-4
"""Of the outputs' scale: float32 in another runtime, far below what flips a decision."""


def test_clean_room_serve(training_run: TrainingRun, exported: ExportedModel, judge: Judge) -> None:
    """In a new virtual environment from the deployment lock, `serve.py` answers as the model does.

    The environment holds exactly the pinned packages and cannot import the training code. A copy of
    the final model's folder must be healthy there, repeat its golden requests, and predict test
    samples as the best checkpoint does (1e-4 of the outputs' scale; as the tolerance of the format
    for onnx_fp16). Where onnx_int8 is served, as its tested file does. A rollback is tried as well:
    the current release must be healthy and repeat its golden requests.
    """
    if exported.error:
        judge.cannot(f"there is no export: {exported.error}")
    release = training_run.config.release
    source = training_run.folder.artifact(FOLDER)
    with tempfile.TemporaryDirectory(prefix="mltrainer-served-") as scratch:
        folder = Path(scratch) / FOLDER
        shutil.copytree(source, folder)
        room = _room(folder, release, judge, "the deployment lock")
        packages, importable = room.contents(_training_modules(training_run, room), folder)
        judge.that(
            packages == room.pins,
            what=f"{len(packages)} packages in the clean room",
            measured=_differences(packages, room.pins) or "as pinned",
            wanted="exactly the pinned ones",
        )
        judge.equal(importable, [], what="training code that can be imported there")
        _serves(room, folder, judge, "the final model")
        _predicts(training_run, room, folder, judge)
        _rolls_back(training_run, Path(scratch), judge)


def _room(folder: Path, release: Release, judge: Judge, what: str) -> Room:
    try:
        return make_room(folder / LOCK, timeout_s=release.clean_room_minutes * 60)
    except NotInstallable as error:
        judge.fail(what=f"{what}, installed", measured=error, wanted="it installs")


def _training_modules(run: TrainingRun, room: Room) -> list[str]:
    """Ours, the project's, and torch unless the lock names it."""
    inputs = run.manifest.steps["train"].inputs
    code = [Path(name.removeprefix("code/")) for name in inputs if name.startswith("code/")]
    parts = [[part for part in path.parts if part != "src"] for path in code]
    own = {found[0].removesuffix(".py") for found in parts if found[0] != "/"}
    # What is no name cannot be imported by it.
    modules = {*filter(str.isidentifier, own), "pytest_mltrainer", "pytest"}
    return sorted(modules if "torch" in room.pins else {*modules, "torch"})


def _differences(packages: dict[str, str], pins: dict[str, str]) -> str:
    """Each package that is there in another version than pinned, or on one side only."""
    return "; ".join(
        f"{name}: {packages.get(name, 'not there')}, pinned {pins.get(name, 'not at all')}"
        for name in sorted(packages.keys() | pins.keys())
        if packages.get(name) != pins.get(name)
    )


def _serves(room: Room, folder: Path, judge: Judge, what: str) -> None:
    for command, question in (("--health", "health check"), ("--golden", "golden requests")):
        said = room.serve(folder, command)
        judge.that(
            said["ok"],
            what=f"{question} of {what} in the clean room",
            measured=json.dumps({k: v for k, v in said.items() if k != "ok"})[:300],
            wanted="ok",
        )


def _predicts(run: TrainingRun, room: Room, folder: Path, judge: Judge) -> None:
    """Test samples through the service, against the checkpoint: not what the folder says of itself.

    A few: the whole test set is compared by the check of the export's parity.
    """
    inputs = first_inputs(run, min(SAMPLES, len(run.splits.test)))  # type: ignore[arg-type]
    request = json.dumps({"inputs": request_of(inputs)})
    (folder / "request.json").write_text(request, encoding="utf-8")
    said = room.serve(folder, "--predict", "request.json")
    measured = said.get("error", "outputs")
    judge.that(
        said["ok"], what="test samples in the clean room", measured=measured, wanted="outputs"
    )
    predict, precision = served_predictor(run)
    wanted = predict(inputs)
    found = np.asarray(said["outputs"])
    judge.equal(found.shape, wanted.shape, what="shape of the outputs in the clean room")
    scale = float(np.abs(wanted).max())
    own = "checkpoint" if precision is None or precision.is_elementwise else "tested file"
    judge(
        float(np.abs(found - wanted).max()),
        what=f"largest difference to the {own} on {len(wanted)} test samples",
        at_most=precision.tolerance(scale) if precision else TOLERANCE * max(scale, 1.0),
    )


def _rolls_back(run: TrainingRun, scratch: Path, judge: Judge) -> None:
    release = run.config.release
    registry = Registry(run.project.root / release.registry)
    champion = registry.current()
    if champion is None:
        judge.note("rollback: first release, there is nothing to roll back to")
        return
    folder = scratch / champion.name
    shutil.copytree(registry.model(champion), folder)
    room = _room(folder, release, judge, f"the lock of release {champion.name}")
    _serves(room, folder, judge, f"release {champion.name}")
