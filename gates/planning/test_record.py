"""Is what will train recorded, so that it can be made again?"""

from importlib.metadata import distributions

from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.digests import digest_source, digest_value
from pytest_mltrainer.core.hooks import offered, plugin_manager
from pytest_mltrainer.core.judge import Judge
from pytest_mltrainer.core.ledger import PLANNED, events
from pytest_mltrainer.core.steps import STEPS
from pytest_mltrainer.export.format import exporter_named, exporters
from pytest_mltrainer.training.environment import LOCK_FILE, lock_of, redact
from pytest_mltrainer.training.objective import describe_objective
from pytest_mltrainer.training.run import TrainingRun
from pytest_mltrainer.training.source import GitError, rebuilt_tree, sources_at

OBJECTIVE = "objective.json"


def test_environment_captured(training_run: TrainingRun, judge: Judge) -> None:
    """Hardware, variables and packages are recorded, and what computes is still what is installed.

    Every distribution that the rehearsal imported must be recorded; its version is read again here
    and must be equal. Other packages may change: they are noted, and no reason to train again. The
    lock, from which the environment can be made again, pins what was recorded.
    Values of variables whose names say that they are secret must be redacted.
    """
    recorded = training_run.json("environment.json")
    wanted = {"python", "system", "cpu", "cpu_count", "threads", "device", "packages", "origins"}
    missing = sorted({*wanted, "variables"}.difference(recorded))
    judge.equal(missing, [], what="missing parts of the environment")
    locked = set(training_run.text(LOCK_FILE).splitlines())
    pinned = set(lock_of(recorded).splitlines())
    judge.equal(sorted(locked ^ pinned)[:5], [], what=f"lines of {LOCK_FILE} that are not recorded")
    secret = [name for name, value in recorded["variables"].items() if redact(name, value) != value]
    judge.equal(secret, [], what="variables whose values should have been redacted")
    installed = {
        str(entry.metadata["Name"]): entry.version
        for entry in distributions()
        if entry.metadata["Name"]
    }
    differing = {
        name: f"{name} {recorded['packages'].get(name)} -> {installed.get(name)}"
        for name in sorted({*recorded["packages"], *installed})
        if recorded["packages"].get(name) != installed.get(name)
    }
    computing = training_run.json("rehearsal/first.json")["numerics"].keys() & installed.keys()
    different = [text for name, text in differing.items() if name in computing]
    if others := [text for name, text in differing.items() if name not in computing]:
        judge.note(f"other packages that changed: {'; '.join(others)}")
    judge.that(
        not different,
        what=f"{len(computing)} packages that the rehearsal imported, against the recorded ones",
        measured="; ".join(different[:5]) or "equal",
        wanted="equal",
        artifact=training_run.described("environment.json"),
    )


def test_config_valid(training_run: TrainingRun, judge: Judge) -> None:
    """The configuration parses strictly, and its stored resolved form is what it says now.

    Every export format that it names must exist.

    Limits and budgets are left out: they judge and do not train, and may change at any time.
    """
    present = training_run.whole_config
    stored = Config.from_json(training_run.json("config_resolved.json"))
    known = exporters(offered(plugin_manager(training_run.project), "mltrainer_exporters"))
    for name in present.export.formats:
        exporter_named(name, known)
    sections = sorted({key for step in STEPS["planning"] for key in step.config if "." not in key})
    now, then = present.to_json(), stored.to_json()
    different = [name for name in sections if now[name] != then[name]]
    judge.that(
        not different,
        what="sections of the resolved configuration that differ from the file's",
        measured=", ".join(different) or "none",
        wanted="none",
        artifact=training_run.described("config_resolved.json"),
    )


def test_source_state_recorded(training_run: TrainingRun, judge: Judge) -> None:
    """The recorded commit and patch make the very sources that were rehearsed.

    The patch is applied to the commit, in an index of its own; the tree must be the recorded one,
    and every code file in it must be what the rehearsal imported. Without git the stored sources
    are compared instead.
    """
    source = training_run.json("source.json")
    recorded = training_run.manifest.steps["rehearse"].inputs
    code = {
        name.removeprefix("code/"): digest
        for name, digest in recorded.items()
        if name.startswith("code/")
    }
    if not source["git"]:
        judge.note(f"no commit: {source['reason']}")
        stored = {
            name: digest_source(training_run.folder.artifact(f"sources/{name}")) for name in code
        }
        judge.equal(stored, code, what=f"{len(code)} stored sources against what was rehearsed")
        return
    patch = training_run.folder.artifact("source.patch").read_bytes()
    try:
        tree = rebuilt_tree(training_run.project, source["commit"], patch)
    except GitError as error:
        judge.fail(what="commit and recorded patch", measured=error, wanted="the patch applies")
    judge.equal(
        tree,
        source["tree"],
        what=f"tree of commit {source['commit'][:12]} with the recorded patch",
        artifact=training_run.described("source.patch"),
    )
    rebuilt = sources_at(training_run.project, source["commit"], patch, list(code))
    judge.equal(rebuilt, code, what=f"{len(code)} sources in that tree, against the rehearsed ones")


def test_objective_preregistered(training_run: TrainingRun, judge: Judge) -> None:
    """Metric, direction and target were frozen before anything trained, and have not changed.

    `objective.json` must follow from the configuration as it is now, and the ledger must show it
    at the last planning, before any final training or opening of the test set behind it.
    """
    stored = training_run.json("objective.json")
    wanted = describe_objective(
        training_run.config, training_run.task, training_run.json("data_profile.json")
    )
    judge.equal(stored, wanted, what="objective.json", artifact=training_run.described(OBJECTIVE))
    planned = [entry for entry in events(training_run.run_folder) if entry["event"] == PLANNED]
    entered = planned[-1].get("objective") if planned else None
    judge.equal(entered, digest_value(stored), what="objective in the ledger at the last planning")
    for name, difference in (stored["smallest_difference"] or {}).items():
        judge.note(
            f"{stored['samples'][name]} {name} samples can decide differences from {difference:.3f}"
        )
