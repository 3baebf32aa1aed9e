"""What is collected with `--phase`, and what selection may take away from it."""

from collections.abc import Generator

import pytest

from pytest_mltrainer.collection import (
    GATE_PHASE,
    GateFolder,
    GateModule,
    PhaseFile,
    PhaseItem,
    phase_nodes,
    pipeline_order,
    selectable,
    sort_out,
)
from pytest_mltrainer.core.errors import UserError, did_you_mean
from pytest_mltrainer.non_public import collect_unfiltered
from pytest_mltrainer.pipeline_run import PipelineRun
from pytest_mltrainer.plugin import GATE_IDS


class Collection:
    """Hangs phases and gates under the session, and keeps `-k`, `-m`, `--lf` to the target."""

    def __init__(self, config: pytest.Config, pipeline: PipelineRun) -> None:
        """Take ids of gates out of pytest's arguments, and give it the whole project instead."""
        self.pipeline = pipeline
        self.ordinary = 0
        self._items: list[pytest.Item] = []
        self.chosen_ids = _take_gate_ids(config)
        _collect_whole_project(config, pipeline)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Register the selection after every other plugin, so that its hook is the outermost."""
        session.config.pluginmanager.register(Selection(self), "mltrainer-selection")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """Hang the phases and gates under the session."""
        if isinstance(collector, PhaseFile | GateFolder | GateModule):
            yield
            return collect_unfiltered(collector)
        report = yield
        if isinstance(collector, pytest.Session) and report.passed:
            report.result = [*phase_nodes(collector, self.pipeline), *report.result]
        return report

    def select(self, config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
        """Let selection touch the target's checks only; put everything else back, in order."""
        pipeline = self.pipeline
        ordinary = sort_out(items, pipeline, pipeline.project.root / "gates")
        self.ordinary = len(ordinary)
        taken = set(map(id, ordinary))
        ours = [item for item in items if id(item) not in taken]
        if ordinary:
            config.hook.pytest_deselected(items=ordinary)
        self._refuse_unknown_ids([item.nodeid for item in ours])
        try:
            pipeline.make_plan()
        except UserError as error:
            raise pytest.UsageError(str(error)) from error
        may_select = selectable(pipeline)
        self._items = [item for item in ours if not may_select(item)]
        items[:] = [item for item in ours if may_select(item) and self._is_chosen(item)]
        yield
        self._items += items
        items[:] = self.items_now()

    def items_now(self) -> list[pytest.Item]:
        """What has a part in the run as it is planned now, in order."""
        shown = [item for item in self._items if _is_shown(item, self.pipeline)]
        return sorted(shown, key=pipeline_order(self.pipeline))

    def pytest_report_collectionfinish(self) -> list[str]:
        """Count what is not part of a gate."""
        if not self.ordinary:
            return []
        return [f"mltrainer: {self.ordinary} ordinary tests are no part of a gate"]

    def _is_chosen(self, item: pytest.Item) -> bool:
        return not self.chosen_ids or any(
            _is_within(item.nodeid, chosen) for chosen in self.chosen_ids
        )

    def _refuse_unknown_ids(self, nodeids: list[str]) -> None:
        """Raise UsageError for an id among the arguments that no check of the target's gate has."""
        for chosen in self.chosen_ids:
            phase = chosen.removeprefix(GATE_IDS).partition("/")[0]
            if phase in self.pipeline.phases and phase != self.pipeline.target:
                raise pytest.UsageError(
                    f"{chosen} is a check of another gate: run it with --phase={phase}"
                )
            if not any(_is_within(nodeid, chosen) for nodeid in nodeids):
                raise pytest.UsageError(
                    f"{chosen}: no check has this id.{did_you_mean(chosen, nodeids)}"
                )


class Selection:
    """The part that selects: around all others, those of pytest's own `--lf` included."""

    def __init__(self, collection: Collection) -> None:
        """`collection` knows the pipeline."""
        self.collection = collection

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None]:
        """Take out what others must not touch, let them select and shuffle, put it back."""
        return (yield from self.collection.select(config, items))


def _is_shown(item: pytest.Item, pipeline: PipelineRun) -> bool:
    """Whether an item has a part in this run: nothing of a phase that is not needed.

    Of one that is honoured, its work alone.
    """
    phase = item.stash[GATE_PHASE]
    if phase in pipeline.summaries and pipeline.summaries[phase].outcome == "NOT NEEDED":
        return False
    return isinstance(item, PhaseItem) or not pipeline.is_honoured(phase)


def _is_within(nodeid: str, chosen: str) -> bool:
    """Whether `chosen` is the id, or that of its module or gate."""
    return nodeid == chosen or nodeid.startswith((f"{chosen}::", f"{chosen}/"))


def _take_gate_ids(config: pytest.Config) -> list[str]:
    """Ids of built-in checks given as arguments: they are no paths, so pytest must not see them."""
    chosen = [argument for argument in config.args if argument.startswith(GATE_IDS)]
    config.args[:] = [argument for argument in config.args if argument not in chosen]
    if chosen and not config.args:
        config.args[:] = [str(config.rootpath)]
    return [identity.rstrip("/") for identity in chosen]


def _collect_whole_project(config: pytest.Config, pipeline: PipelineRun) -> None:
    """Without a path, collect testpaths, else the whole project, also from a subfolder.

    Otherwise the user's checks elsewhere in the project would silently be missing from their gate.
    """
    if config.args_source == pytest.Config.ArgsSource.ARGS:
        pipeline.is_partial = True
    elif config.args_source == pytest.Config.ArgsSource.INVOCATION_DIR:
        patterns = config.getini("testpaths")
        paths = [str(path) for pattern in patterns for path in config.rootpath.glob(pattern)]
        config.args[:] = paths or [str(config.rootpath)]
