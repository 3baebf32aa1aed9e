"""Is what will train recorded, so that it can be made again?"""

from importlib.metadata import distributions

from pytest_mltrainer.core.config import Config, load_config
from pytest_mltrainer.core.hooks import offered, plugin_manager
from pytest_mltrainer.core.judge import Judge
from pytest_mltrainer.core.steps import STEPS
from pytest_mltrainer.export.format import exporter_named, exporters
from pytest_mltrainer.training.run import TrainingRun


def test_environment_captured(training_run: TrainingRun, judge: Judge) -> None:
    """Hardware, variables and packages are recorded, and what computes is still what is installed.

    Every distribution that the rehearsal imported must be recorded; its version is read again here
    and must be equal. Other packages may change: they are noted, and no reason to train again.
    """
    recorded = training_run.json("environment.json")
    wanted = {"python", "system", "cpu_count", "threads", "device", "packages", "variables"}
    judge.equal(sorted(wanted.difference(recorded)), [], what="missing parts of the environment")
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
    present = load_config(training_run.project.config_path)
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
