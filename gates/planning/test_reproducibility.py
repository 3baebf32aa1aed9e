"""Do two fresh processes do exactly the same, and does what should differ differ?"""

from pytest_mltrainer.core.config import Limits
from pytest_mltrainer.core.judge import Judge
from pytest_mltrainer.training.repetition.divergence import PARTS, environment_differences
from pytest_mltrainer.training.repetition.suspects import (
    causes_text,
    differences,
    shifted_differences,
)
from pytest_mltrainer.training.repetition.window import rehearsals_divergence
from pytest_mltrainer.training.run import TrainingRun

FIRST, SECOND = "rehearsal/first.json", "rehearsal/second.json"
SHIFTED, SUSPECTS = "rehearsal/shifted.json", "rehearsal/suspects.json"
REPLAY = "rehearsal/divergence.json"


def test_seeds_fixed(training_run: TrainingRun, judge: Judge) -> None:
    """Two fresh processes draw the same numbers from random, NumPy and torch, and hash texts alike.

    Each process was seeded, drew four numbers from every generator and hashed one text; the draws
    are compared as they are. A difference means that something draws before the seeds are fixed.
    """
    first, second = (training_run.json(name)["draws"] for name in (FIRST, SECOND))
    for source, drawn in first.items():
        judge.equal(
            second.get(source),
            drawn,
            what=f"{_causes(training_run)}draws of {source} in two processes",
        )


def test_deterministic_algorithms(training_run: TrainingRun, judge: Judge) -> None:
    """Deterministic algorithms are really on in the process that trains.

    Read in the rehearsal: torch's flag, cuDNN's, CUBLAS_WORKSPACE_CONFIG, the thread count; and an
    operation known to be nondeterministic must have raised, unless exceptions are declared.
    """
    found = training_run.json(FIRST)["determinism"]
    judge.equal(found["algorithms"], True, what="torch.use_deterministic_algorithms")
    judge.equal(found["cudnn_deterministic"], True, what="cudnn.deterministic")
    judge.equal(found["cudnn_benchmark"], False, what="cudnn.benchmark")
    judge.equal(found["cublas_workspace"], ":4096:8", what="CUBLAS_WORKSPACE_CONFIG")
    judge.equal(found["threads"], training_run.config.threads, what="torch threads")
    if exceptions := training_run.config.training.deterministic_exceptions:
        judge.note(f"declared exceptions: {', '.join(exceptions)}; runs are not bitwise")
    else:
        judge.equal(
            found["nondeterministic_operation_raised"],
            True,
            what="an operation without a deterministic form raises",
        )


def test_loader_workers_seeded(training_run: TrainingRun, judge: Judge) -> None:
    """With and without loader workers, two fresh processes get the same batches.

    The first batches of an epoch are compared for no workers and for `training.loader_workers`.
    What NumPy draws in two workers must repeat, and differ between the workers: seeded alike, they
    would augment alike.
    """
    first, second = (training_run.json(name) for name in (FIRST, SECOND))
    for workers, batches in first["loaders"].items():
        judge.equal(
            second["loaders"].get(workers),
            batches,
            what=f"{_causes(training_run)}{len(batches)} batches with {workers} loader workers "
            "in two processes",
        )
    draws = first["worker_draws"]
    judge.equal(second["worker_draws"], draws, what="what NumPy draws in two loader workers")
    judge.equal(len(set(draws.values())), len(draws), what="different draws of the workers")


def test_two_runs_identical(training_run: TrainingRun, limits: Limits, judge: Judge) -> None:
    """Two fresh processes train `probe_steps` steps and agree bit for bit.

    Compared after each step, in the order of cause: generator states, batch, loss, gradients,
    parameters, optimizer state. The first difference is named, what differs in the environments
    before it; both processes were then replayed up to there, to name generator, module or tensor.

    A third process must agree as well, in which everything is another that must not matter: hashes
    of texts, order of folders, unwritten memory, the clock, the number of processors, files that
    the others left; and so must a training resumed from its middle, and a second one in the same
    process. Where one differs, each of these was tried alone: the cause is told first.
    """
    first, second, shifted = (training_run.json(name) for name in (FIRST, SECOND, SHIFTED))
    found = shifted_differences(first, shifted, threads=training_run.config.threads)
    causes = _causes(training_run)
    if not first["steps"] and not found:
        judge.cannot("no step was trained in the rehearsal")
    judge.equal(
        len(second["steps"]), len(first["steps"]), what="steps trained in the two processes"
    )
    if divergence := rehearsals_divergence(first, second):
        differences = environment_differences(first["environment"], second["environment"])
        environment = "".join(f"{entry.text()}; " for entry in differences)
        stored = training_run.json(REPLAY) if training_run.has(REPLAY) else {}
        # A replay of another difference says nothing about this one.
        is_own = stored.get("divergence") == divergence.to_json()
        judge.fail(
            what=f"{causes}{environment}step {divergence.step}: {divergence.part} in two processes",
            measured=stored["replay"]["text"] if is_own else divergence.text(),
            wanted="equal bit for bit",
            artifact=training_run.described(REPLAY if is_own else SECOND),
        )
    judge.that(
        not found,
        what=f"{causes}a third process, where hashes, clock, memory, folders and processors are "
        "others, and resumed",
        measured="; ".join(found) or "equal",
        wanted="equal bit for bit",
        artifact=training_run.described(SUSPECTS if causes else SHIFTED),
    )
    judge.that(
        True,
        what=f"{len(first['steps'])} of {limits.probe_steps} steps in two fresh processes",
        measured=f"{', '.join(PARTS)} equal bit for bit",
        wanted="equal",
        artifact=training_run.described(SECOND),
    )


def _causes(run: TrainingRun) -> str:
    """What was shown to make the rehearsals differ; blank where nothing was tried about that."""
    if not run.has(SUSPECTS):
        return ""
    first, second, shifted = (run.json(name) for name in (FIRST, SECOND, SHIFTED))
    found = differences(first, second, shifted, threads=run.config.threads)
    text = causes_text(run.json(SUSPECTS), found)
    return f"{text}; " if text else ""


def test_other_seed_differs(training_run: TrainingRun, judge: Judge) -> None:
    """The control: the same steps with another seed end in other parameters.

    Without it, a training that ignores its seed, or a digest that ignores the training, would pass
    as reproducible.
    """
    first = training_run.json(FIRST)
    if not first["steps"]:
        judge.cannot("no step was trained in the rehearsal")
    same = first["other_seed"] == first["steps"][-1]["parameters"]
    judge.that(
        not same,
        what="parameters after the same steps with another seed",
        measured="equal" if same else "different",
        wanted="different",
    )


def test_config_governs_run(training_run: TrainingRun, judge: Judge) -> None:
    """Another learning rate ends in other parameters: the session obeys the configuration.

    Not applicable where the task makes its own optimizer, which may take its rate from elsewhere.
    """
    if training_run.config.training.optimizer == "task":
        judge.not_applicable("the task makes its own optimizer")
    first = training_run.json(FIRST)
    if not first["steps"]:
        judge.cannot("no step was trained in the rehearsal")
    same = first["other_learning_rate"] == first["steps"][-1]["parameters"]
    judge.that(
        not same,
        what="parameters after the same steps with 1.5 x the learning rate",
        measured="equal" if same else "different",
        wanted="different",
    )
