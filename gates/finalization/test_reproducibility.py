"""Can the final training be made again from what was recorded?"""

import numpy as np
from pytest_mltrainer.gates.repetition import Rows, witnessed

from pytest_mltrainer.core.config import Limits
from pytest_mltrainer.core.judge import Judge
from pytest_mltrainer.release.clean_room import LOCK
from pytest_mltrainer.release.environment_lock import EnvironmentLock, conflicts, read_lock
from pytest_mltrainer.release.reproduction import reproduce
from pytest_mltrainer.release.reproduction_clone import NotRebuilt
from pytest_mltrainer.training.environment import LOCK_FILE
from pytest_mltrainer.training.observation.digests import DIGEST, DIGESTS_FILE, read_digests
from pytest_mltrainer.training.repetition.divergence import first_divergence
from pytest_mltrainer.training.repetition.elsewhere import other_numerics
from pytest_mltrainer.training.run import TrainingRun

DEPLOYED = f"final_model/{LOCK}"
REPETITION = "clone.digests.rec"


def test_reproduction_runs(training_run: TrainingRun, limits: Limits, judge: Judge) -> None:
    """A fresh clone at the recorded commit and patch trains the same first steps, bit for bit.

    The tree is made again elsewhere from what planning recorded (without git from the stored
    sources), with the recorded data by digest, and trains `probe_steps` updates in a fresh process.
    Generators, batch and loss of each step, and gradients and parameters where they were digested,
    must be those of the final training. Where another version or machine computes, bits cannot be
    repeated: then the repetition that the gate made where the run trained is compared (witnessed).
    """
    recorded = read_digests(training_run.folder.artifact(DIGESTS_FILE))[: limits.probe_steps]
    if not len(recorded):
        judge.cannot("the final training recorded no digest of a step")
    if others := other_numerics(training_run):
        content = witnessed(training_run.folder, judge, REPETITION, others)
        repeated = np.frombuffer(content, DIGEST)
        if not len(repeated):
            judge.cannot("the repetition that was kept has no step")
        steps = min(len(repeated), len(recorded))
        _judge_equal(
            training_run, repeated[:steps], recorded[:steps], judge, "what planning recorded"
        )
        return
    inputs = training_run.manifest.steps["train"].inputs
    try:
        found = reproduce(training_run, inputs, len(recorded))
    except NotRebuilt as error:
        judge.fail(what="the training made again", measured=error, wanted="it runs")
    judge.witness(REPETITION, found.digests.tobytes())
    if found.clone.tree:
        wanted = training_run.planned("source.json")["tree"]
        judge.equal(found.clone.tree, wanted, what=f"tree of {found.clone.source}")
    judge.equal(list(found.strays), [], what="modules that did not come from the clone")
    _judge_equal(training_run, found.digests, recorded, judge, found.clone.source)


def test_environment_snapshot(training_run: TrainingRun, judge: Judge) -> None:
    """The lock pins exactly the environment stored with the final model, and its pins fit together.

    Each line must pin one version. What the final training computed with must stand in the lock as
    it is stored in the manifest; other packages may differ and are noted. Every requirement of
    a pinned package, read from its metadata, must be met by the pins: that is what an installer
    would resolve. The deployment lock must pin the versions that the model was tested with.
    """
    stored = training_run.manifest.record["environment"]["packages"]
    folder = training_run.run_folder.phase("planning")
    lock = read_lock(folder.artifact(LOCK_FILE).read_text(encoding="utf-8"))
    judge.equal(list(lock.malformed), [], what=f"lines of {LOCK_FILE} that pin no version")
    versions = {_canonical(name): version for name, version in stored.items()}
    inputs = training_run.manifest.steps["train"].inputs
    used = {_canonical(name.partition("/")[2]) for name in inputs if name.startswith("numerics/")}
    different = _differences(lock.pins, versions)
    computing = used & versions.keys()
    wrong = [text for name, text in different.items() if name in computing]
    if others := [text for name, text in different.items() if name not in computing]:
        judge.note(f"packages that compute nothing and changed meanwhile: {'; '.join(others)}")
    judge.that(
        not wrong,
        what=f"{len(computing)} packages that computed, in {LOCK_FILE} and with the final model",
        measured="; ".join(wrong[:5]) or "equal",
        wanted="equal",
        artifact=f"planning/{LOCK_FILE}",
    )
    _resolves(lock, judge)
    if not training_run.has(DEPLOYED):
        judge.cannot("there is no deployment lock, because there is no export")
    deployed = read_lock(training_run.text(DEPLOYED)).pins
    # A local part of a version (+cpu) stands in no index.
    tested = {name: version.partition("+")[0] for name, version in versions.items()}
    untested = {
        n: f"{n} {v}, tested {tested.get(n)}" for n, v in deployed.items() if v != tested.get(n)
    }
    judge.that(
        not untested,
        what=f"{len(deployed)} versions in the deployment lock, and those that were tested",
        measured="; ".join(untested.values()) or "equal",
        wanted="equal",
        artifact=training_run.described(DEPLOYED),
    )


def _resolves(lock: EnvironmentLock, judge: Judge) -> None:
    """Every requirement of a pinned package is met by the pins, as far as it can be read here."""
    unmet, silent = conflicts(lock)
    if lock.local:
        judge.note(f"installed from a folder, to be had there alone: {', '.join(lock.local)}")
    if silent:
        judge.note(f"not installed here, so their requirements were not read: {', '.join(silent)}")
    if len(silent) == len(lock.pins):
        judge.cannot("none of the pinned versions is installed here: no requirement can be read")
    judge.that(
        not unmet,
        what=f"requirements of {len(lock.pins) - len(silent)} pinned packages that no pin meets",
        measured="; ".join(unmet[:5]) or "none",
        wanted="none: see `pip check`",
    )


def _judge_equal(
    run: TrainingRun, repeated: Rows, recorded: Rows, judge: Judge, source: str
) -> None:
    different = first_divergence(repeated, recorded)
    judge.that(
        different is None,
        what=f"the first {len(recorded)} steps, trained again from {source}",
        measured=different.text() if different else "equal bit for bit",
        wanted="equal bit for bit",
        artifact=run.described(DIGESTS_FILE),
    )


def _differences(pins: dict[str, str], versions: dict[str, str]) -> dict[str, str]:
    """What the lock says otherwise than the stored environment; a commit has no version to say."""
    return {
        name: f"{name} {pins.get(name)} -> {versions.get(name)}"
        for name in sorted({*pins, *versions})
        if pins.get(name) != "" and pins.get(name) != versions.get(name)
    }


def _canonical(name: str) -> str:
    from packaging.utils import canonicalize_name

    return canonicalize_name(name)
