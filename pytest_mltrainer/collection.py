"""Phases and gates as pytest collects them: nodes, their order, and what selection may touch."""

import importlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pytest_mltrainer.core.catalogue import gate_modules
from pytest_mltrainer.core.judge import Judge
from pytest_mltrainer.core.project import PHASES
from pytest_mltrainer.core.work import WorkEvent
from pytest_mltrainer.fixtures import pytest_fixtures
from pytest_mltrainer.non_public import printing, register_fixture
from pytest_mltrainer.pipeline_run import PipelineRun, required_checks
from pytest_mltrainer.reporting.terminal import progress_line

PIPELINE = pytest.StashKey[PipelineRun]()
JUDGE = pytest.StashKey[Judge]()
CHECK_ID = pytest.StashKey[str]()
GATE_PHASE = pytest.StashKey[str]()


class PhaseFile(pytest.Collector):
    """The module of a phase, as the parent of its work."""

    def collect(self) -> Iterable["PhaseItem"]:
        """The one item: the work."""
        item = PhaseItem.from_parent(self, name="run")
        item.stash[GATE_PHASE] = self.name
        return [item]


class PhaseItem(pytest.Item):
    """The work of a phase: honoured, up to date, or done in a worker."""

    @property
    def phase(self) -> str:
        """The phase whose work this is."""
        return self.stash[GATE_PHASE]

    def runtest(self) -> None:
        """Bring the phase up to date; raises a UserError that says why it could not."""
        pipeline = self.config.stash[PIPELINE]
        if pipeline.is_honoured(self.phase):
            self.user_properties.append(("mltrainer.status", "HONOURED"))
            return

        def show(event: WorkEvent) -> None:
            if line := progress_line(self.phase, event):
                printing(self.config, line)

        done = pipeline.work(self.phase, show)
        self.user_properties.append(("mltrainer.status", done))

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where the work is described, and its name in failure headings."""
        return self.path, None, f"the work of {self.phase}"


class GateModule(pytest.Module):
    """A module of built-in checks, imported by its package name from wherever it is installed."""

    module_name = ""

    def _getobj(self) -> Any:
        # By name: by path, pytest would import a second copy under another name.
        return importlib.import_module(self.module_name)


class GateFolder(pytest.Collector):
    """The built-in checks of a gate, with our fixtures bound here, nearer than any conftest's."""

    def collect(self) -> Iterator[GateModule]:
        """The modules of the gate."""
        for name, function in pytest_fixtures(run_of, judge_of).items():
            register_fixture(self, name, function)
        for module, path in gate_modules(self.name).items():
            nodeid: Any = f"{module.replace('.', '/')}.py"
            node: GateModule = GateModule.from_parent(self, path=path, nodeid=nodeid)
            node.module_name = module
            yield node


def phase_nodes(session: pytest.Session, pipeline: PipelineRun) -> list[pytest.Collector]:
    """The collectors of every phase up to the target, in order."""
    package = Path(__file__).parent
    nodes: list[pytest.Collector] = []
    for phase in pipeline.phases:
        nodes += [
            PhaseFile.from_parent(
                session,
                name=phase,
                path=package / "phases" / f"{phase}.py",
                nodeid=f"pytest_mltrainer/phases/{phase}.py",
            ),
            GateFolder.from_parent(
                session,
                name=phase,
                path=package / "gates" / phase,
                nodeid=f"pytest_mltrainer/gates/{phase}",
            ),
        ]
    return nodes


def offer_fixtures(config: pytest.Config) -> None:
    """Offer our fixtures to the user's own checks, where a conftest of theirs may replace them.

    As a plugin: fixtures bound to the session would win over those of the conftest at the root.
    """
    offered = ModuleType("mltrainer-fixtures")
    for name, function in pytest_fixtures(run_of, judge_of).items():
        setattr(offered, name, pytest.fixture(name=name)(function))
    config.pluginmanager.register(offered, offered.__name__)


def run_of(item: pytest.Item) -> Any:
    """The training run that a check judges."""
    return item.config.stash[PIPELINE].training_run(item.stash[GATE_PHASE])


def judge_of(item: pytest.Item) -> Judge:
    """The judge of a check, the same however often it is asked for."""
    return item.stash.setdefault(JUDGE, Judge())


def gate_of(item: pytest.Item, gates: Path) -> str | None:
    """The phase whose gate an item belongs to: ours, marked, or in the user's `gates/PHASE/`.

    Raises UsageError for a mark that names no phase.
    """
    for parent in item.iter_parents():
        if isinstance(parent, GateFolder | PhaseFile):
            return parent.name
    mark = item.get_closest_marker("gate")
    if mark is not None:
        return _marked_phase(mark, item)
    if item.path.is_relative_to(gates):
        folder = item.path.relative_to(gates).parts[0]
        return folder if folder in PHASES else None
    return None


def sort_out(items: list[pytest.Item], pipeline: PipelineRun, gates: Path) -> list[pytest.Item]:
    """Give every item of the pipeline its phase and check id; returns the ordinary tests.

    Items keep their places. The user's checks are made known to the pipeline.
    """
    ordinary = []
    built_in = {
        nodeid: check
        for phase in pipeline.phases
        for nodeid, check in required_checks(phase).items()
    }
    for item in items:
        phase = gate_of(item, gates)
        if phase is None or phase not in pipeline.phases:
            ordinary.append(item)
            continue
        item.stash[GATE_PHASE] = phase
        if isinstance(item, PhaseItem):
            continue
        item.stash[CHECK_ID] = built_in.get(item.nodeid, item.nodeid)
        if item.nodeid not in built_in:
            pipeline.user_checks.setdefault(phase, {})[item.nodeid] = item.path
    return ordinary


def is_built_in(item: pytest.Item) -> bool:
    """Whether a check is one of ours: its id is then not its pytest id."""
    return item.stash[CHECK_ID] != item.nodeid


def selectable(pipeline: PipelineRun) -> Callable[[pytest.Item], bool]:
    """Whether `-k`, `-m`, `--lf`, `--deselect` may take an item: a check of the target's gate."""

    def is_selectable(item: pytest.Item) -> bool:
        return item.stash[GATE_PHASE] == pipeline.target and not isinstance(item, PhaseItem)

    return is_selectable


def pipeline_order(pipeline: PipelineRun) -> Callable[[pytest.Item], tuple[int, int]]:
    """Sort key: phase by phase; the work, then our checks, then the user's."""

    def key(item: pytest.Item) -> tuple[int, int]:
        kind = 0 if isinstance(item, PhaseItem) else 1
        if kind and not is_built_in(item):
            kind = 2
        return pipeline.phases.index(item.stash[GATE_PHASE]), kind

    return key


def _marked_phase(mark: pytest.Mark, item: pytest.Item) -> str:
    names = [*mark.args, *mark.kwargs.values()]
    if len(names) != 1 or names[0] not in PHASES:
        shown = ", ".join(repr(name) for name in names)
        raise pytest.UsageError(
            f"{item.nodeid}: @pytest.mark.gate({shown}), wanted one of {', '.join(PHASES)}"
        )
    return str(names[0])
