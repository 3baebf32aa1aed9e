"""The hooks of a run with `--phase`: they drive the pipeline through pytest's session."""

import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path

import pytest

from pytest_mltrainer.collection import GATE_PHASE, JUDGE, PIPELINE, offer_fixtures
from pytest_mltrainer.core.config import load_config
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.lock import writer_lock
from pytest_mltrainer.core.overlay import OVERLAY, Overlay, overlaid, overlay_of
from pytest_mltrainer.core.project import Project, check_task
from pytest_mltrainer.non_public import (
    junit_path,
    printing,
    renew,
    run_serially,
    supersede_reports,
)
from pytest_mltrainer.outcomes import Outcomes
from pytest_mltrainer.pipeline_run import BEHIND_DIAGNOSIS, PipelineRun
from pytest_mltrainer.reporting.junit import ATTEMPT, regroup
from pytest_mltrainer.reporting.terminal import plan_lines, summary_lines
from pytest_mltrainer.selection import Collection


def start(config: pytest.Config, phase: str) -> None:
    """Read the project and register the hooks. Raises UsageError for what is wrong in it."""
    was_parallel = run_serially(config)
    try:
        project = Project.load(config.rootpath)
        sys.path.insert(0, str(project.root))
        check_task(project)
        own = load_config(project.config_path)
        overlay = overlay_of(project.run_folder, own)
        pipeline = PipelineRun(
            project=project,
            config=overlaid(own, overlay) if overlay else own,
            overlay=overlay,
            target=phase,
            frozen=config.getoption("mltrainer_frozen"),
            retrain=config.getoption("mltrainer_retrain"),
        )
    except UserError as error:
        raise pytest.UsageError(str(error)) from error
    config.stash[PIPELINE] = pipeline
    config.option.continue_on_collection_errors = False
    pytest.register_assert_rewrite("pytest_mltrainer.gates")
    register = config.pluginmanager.register
    collection = Collection(config, pipeline)
    register(Driver(config, pipeline, collection, was_parallel=was_parallel), "mltrainer-driver")
    register(Route(pipeline), "mltrainer-route")
    register(collection, "mltrainer-collection")
    register(Outcomes(pipeline), "mltrainer-outcomes")
    offer_fixtures(config)


class Route:
    """Passes over the phases that turn out not to be needed while the pipeline runs."""

    def __init__(self, pipeline: PipelineRun) -> None:
        """`pipeline` knows the decisions."""
        self.pipeline = pipeline

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> object:
        """Take items of a phase that is not needed off the run without a report.

        Those behind a diagnosis that repairs the baseline wait for the second attempt.
        """
        phase = item.stash[GATE_PHASE]
        if phase in BEHIND_DIAGNOSIS and self.pipeline.repair() is not None:
            return True
        reason = self.pipeline.why_not_needed(phase)
        if reason is None:
            return None
        self.pipeline.leave_out(phase, reason)
        return True


class Driver:
    """Drives one PipelineRun through pytest's hooks."""

    def __init__(
        self,
        config: pytest.Config,
        pipeline: PipelineRun,
        collection: Collection,
        *,
        was_parallel: bool,
    ) -> None:
        """`was_parallel`: pytest-xdist was asked for and switched off."""
        self.config = config
        self.pipeline = pipeline
        self.collection = collection
        self.was_parallel = was_parallel
        self.current: str | None = None
        self._reported: set[str] = set()

    def pytest_report_header(self) -> list[str]:
        """Name the project, and say when running in parallel was refused."""
        lines = [f"mltrainer: {self.pipeline.project.root}, phase {self.pipeline.target}"]
        if overlay := self.pipeline.overlay:
            lines.append(
                f"mltrainer: with {OVERLAY} of the run folder ({overlay.text()}), which mends "
                f"{overlay.issue}; delete it to train without"
            )
        if self.was_parallel:
            lines.append(
                "mltrainer: phases build on one another, so -n is off and all run serially"
            )
        return lines

    def pytest_report_collectionfinish(self) -> list[str]:
        """Say what will be done, and why."""
        return plan_lines(list(self.pipeline.plan.values()))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Run under the writer lock, and conclude the last gate before anything is summed up."""
        if self.config.getoption("mltrainer_plan"):
            session.items.clear()
        if self._only_shows() or session.testsfailed:
            return (yield)
        with self._locked():
            try:
                result = yield
                self._conclude()
                if overlay := self.pipeline.repair():
                    self._begin_again(session, overlay)
                return result
            finally:
                self._conclude()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Conclude a gate before the first item of the next phase."""
        phase = item.stash[GATE_PHASE]
        if self.current not in (None, phase):
            self._conclude()
        self.current = phase
        self._reported.add(item.nodeid)
        return (yield)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Skip everything of a phase that must not start, or whose work was not done."""
        phase = item.stash[GATE_PHASE]
        pipeline = self.pipeline
        reason = pipeline.phase_errors.get(phase) and f"the work of {phase} was not done"
        if not reason and not pipeline.is_honoured(phase):
            reason = pipeline.why_blocked(phase)
            if reason:
                pipeline.block(phase, reason)
        if reason:
            pytest.skip(f"BLOCKED: {reason}")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Exit 0 only when every gate up to the target is PASS; regroup the JUnit file."""
        nothing_wrong = (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        if session.exitstatus in nothing_wrong:
            if self.config.getoption("mltrainer_plan"):
                session.exitstatus = pytest.ExitCode.OK
            elif not self._only_shows() and not self.pipeline.is_passed:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
        result = yield
        path = junit_path(self.config)
        if path and Path(path).exists():
            regroup(Path(path), self.pipeline)
        return result

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Sum the pipeline up: gates, decision, and what to do next."""
        if self._only_shows():
            return
        terminalreporter.write_sep("=", "pipeline")
        for line, markup in summary_lines(self.pipeline):
            terminalreporter.write_line(line, **markup)

    def _only_shows(self) -> bool:
        """Whether nothing is run: `--co`, `--setup-plan`, `--setup-only`, `--mltrainer-plan`."""
        option = self.config.option
        shown = option.collectonly or getattr(option, "setuponly", False)
        return bool(shown or self.config.getoption("mltrainer_plan"))

    def _begin_again(self, session: pytest.Session, overlay: Overlay) -> None:
        """Run planning, baseline and what follows once more, with the overlay."""
        printing(
            self.config,
            f"mltrainer: the baseline is broken ({overlay.issue}); "
            f"beginning again with {overlay.text()}",
        )
        supersede_reports(session, lambda nodeid: nodeid in self._reported)
        self.pipeline.restart(overlay)
        self.current = None
        items = self.collection.items_now()
        for item, following in zip_longest(items, items[1:]):
            renew(item)
            if JUDGE in item.stash:
                del item.stash[JUDGE]
            item.user_properties.append(ATTEMPT)
            self.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)

    def _conclude(self) -> None:
        if self.current is not None:
            self.pipeline.conclude(self.current)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with writer_lock(self.pipeline.project.run_folder):
                yield
        except UserError as error:
            raise pytest.UsageError(str(error)) from error
