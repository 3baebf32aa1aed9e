"""Repeats recorded steps in a fresh process, or compares what was repeated elsewhere."""

from typing import Any

import numpy as np

from pytest_mltrainer.core.artifacts import PhaseFolder
from pytest_mltrainer.core.judge import Judge
from pytest_mltrainer.core.witness import read_witnessed
from pytest_mltrainer.training.observation.digests import DIGEST, DIGESTS_FILE, read_digests
from pytest_mltrainer.training.observation.telemetry import STEP
from pytest_mltrainer.training.repetition.divergence import Divergence, first_divergence
from pytest_mltrainer.training.repetition.elsewhere import other_numerics
from pytest_mltrainer.training.repetition.resumption import resumable_checkpoint, resume_afresh
from pytest_mltrainer.training.run import TrainingRun

Rows = np.ndarray[Any, Any]
COMPARED = ("step", "loss", "gradient_norm", "learning_rate")
"""Columns of a step record, in the order of cause; the others hold times."""
KEPT = np.dtype([(name, STEP[name]) for name in COMPARED])


def resumes(run: TrainingRun, judge: Judge) -> None:
    """A fresh process goes on from the latest checkpoint and repeats the recorded steps exactly."""
    steps = run.config.limits.probe_steps
    found = resumable_checkpoint(run, steps)
    if found is None:
        judge.not_applicable(f"no periodic checkpoint has {steps} recorded steps behind it")
    name, start = found
    repeats(run, judge, name, start=start, steps=steps)


def repeats(run: TrainingRun, judge: Judge, name: str | None, *, start: int, steps: int) -> None:
    """A fresh process repeats `steps` recorded steps behind a checkpoint, or the first, exactly.

    Where the run was trained by a machine that computes otherwise, the repetition is compared that
    its gate made there.
    """
    where = f"behind {name}" if name else "from the beginning"
    again = f"resumed from {name}" if name else f"trained again {where}"
    source = f"checkpoints/{name}.pt" if name else "telemetry/steps.rec"
    repeated, digests, by = _repetition(run, judge, name, steps)
    recorded = run.telemetry.steps[start : start + steps]
    judge.equal(len(repeated), steps, what=f"steps trained again {where}")
    digests_then = read_digests(run.folder.artifact(DIGESTS_FILE))
    digests_then = digests_then[np.isin(digests_then["step"], recorded["step"])]
    judge.equal(len(digests), len(digests_then), what=f"digests of steps {where}")
    # At the same step the digest, named first, tells more: it follows the order of cause.
    compared = [first_divergence(digests, digests_then), _different_record(repeated, recorded)]
    if differing := [entry for entry in compared if entry]:
        first = min(differing, key=lambda entry: entry.step)
        judge.fail(
            what=f"{first.part} of step {first.step}, {again}",
            measured=first.text(),
            wanted="equal bit for bit",
            artifact=run.described(source),
        )
    judge.that(
        True,
        what=f"{steps} steps {where}, trained again {by}",
        measured="generators, batch, loss, gradient norm and learning rate equal bit for bit, "
        f"gradients and parameters in {int(np.count_nonzero(digests['gradients']))} steps",
        wanted="equal",
        artifact=run.described(source),
    )


def _repetition(
    run: TrainingRun, judge: Judge, name: str | None, steps: int
) -> tuple[Rows, Rows, str]:
    """Step records and digests of the repeated steps, and by whom they were repeated."""
    kept = f"{name or 'beginning'}.steps.rec", f"{name or 'beginning'}.digests.rec"
    if others := other_numerics(run):
        folder = run.run_folder.phase(run.phase)
        stored, digests = (witnessed(folder, judge, part, others) for part in kept)
        return (
            np.frombuffer(stored, KEPT)[:steps],
            np.frombuffer(digests, DIGEST)[:steps],
            "where the run trained",
        )
    repeated, digested = resume_afresh(run, run.whole_config, name, steps)
    records = np.empty(len(repeated), KEPT)
    for column in COMPARED:
        records[column] = repeated[column]
    for part, rows in zip(kept, (records, digested), strict=True):
        judge.witness(part, rows.tobytes())
    return records, digested, "in a fresh process"


def witnessed(folder: PhaseFolder, judge: Judge, name: str, others: list[str]) -> bytes:
    """What the gate repeated where the run trained; without it there is nothing to judge by."""
    here = f"this machine computes otherwise than the one that trained ({'; '.join(others)})"
    content = read_witnessed(folder, name)
    if content is None:
        judge.cannot(f"{here}, and the gate kept no repetition there: judge it there first")
    note = f"witnessed: {here}; compared is the repetition that was made there"
    if note not in judge.notes:
        judge.note(note)
    return content


def _different_record(repeated: Rows, recorded: Rows) -> Divergence | None:
    """The first step record that differs, in the order of cause."""
    differs = {name: np.flatnonzero(repeated[name] != recorded[name]) for name in COMPARED}
    rows = {name: int(places[0]) for name, places in differs.items() if places.size}
    if not rows:
        return None
    name = min(rows, key=rows.__getitem__)
    one, other = (float(part[name][rows[name]]).hex() for part in (repeated, recorded))
    step = int(recorded["step"][rows[name]])
    return Divergence(step=step, part=name, one=one, other=other, equal_until=step - 1)
