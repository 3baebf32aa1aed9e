"""The hooks of a run with `--phase`: they drive the pipeline and give every check its outcome."""

import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from pytest_mltrainer.collection import (
    CHECK_ID,
    GATE_PHASE,
    JUDGE,
    PIPELINE,
    GateFolder,
    GateModule,
    PhaseFile,
    PhaseItem,
    is_built_in,
    offer_fixtures,
    phase_nodes,
    pipeline_order,
    selectable,
    sort_out,
)
from pytest_mltrainer.core.config import load_config
from pytest_mltrainer.core.errors import UserError, did_you_mean
from pytest_mltrainer.core.judge import CannotJudge, CheckFailed, NotApplicable
from pytest_mltrainer.core.lock import writer_lock
from pytest_mltrainer.core.project import Project, check_task
from pytest_mltrainer.core.verdict import CheckOutcome, CheckResult
from pytest_mltrainer.non_public import collect_unfiltered, junit_path, run_serially, show_as_text
from pytest_mltrainer.pipeline_run import PipelineRun
from pytest_mltrainer.plugin import GATE_IDS
from pytest_mltrainer.reporting.guidance import add_section, failure_text, guidance_for
from pytest_mltrainer.reporting.junit import regroup
from pytest_mltrainer.reporting.terminal import plan_lines, summary_lines

STATUS = "mltrainer_status"
"""Attribute of a report: BLOCKED, NOT APPLICABLE or CANNOT JUDGE."""
GUIDANCE = "mltrainer_guidance"
"""Attribute of a report: what was shown under a failure."""


class Driver:
    """Drives one PipelineRun through pytest's hooks."""

    def __init__(self, config: pytest.Config, pipeline: PipelineRun, *, serial: bool) -> None:
        """`serial`: pytest-xdist was asked for and switched off."""
        self.config = config
        self.pipeline = pipeline
        self.was_parallel = serial
        self.ordinary = 0
        self.chosen_ids = _take_gate_ids(config)
        self.current: str | None = None

    @classmethod
    def start(cls, config: pytest.Config, phase: str) -> Self:
        """Read the project and its configuration. Raises UsageError for what is wrong in them."""
        serial = run_serially(config)
        try:
            project = Project.load(config.rootpath)
            sys.path.insert(0, str(project.root))
            check_task(project)
            pipeline = PipelineRun(
                project=project,
                config=load_config(project.config_path),
                target=phase,
                frozen=config.getoption("mltrainer_frozen"),
                retrain=config.getoption("mltrainer_retrain"),
            )
        except UserError as error:
            raise pytest.UsageError(str(error)) from error
        config.stash[PIPELINE] = pipeline
        config.option.continue_on_collection_errors = False
        pytest.register_assert_rewrite("pytest_mltrainer.gates")
        driver = cls(config, pipeline, serial=serial)
        offer_fixtures(config)
        _collect_whole_project(config, pipeline)
        return driver

    # -- collection ---------------------------------------------------------------------------

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
        ours = [
            item
            for item in ours
            if isinstance(item, PhaseItem) or not pipeline.is_honoured(item.stash[GATE_PHASE])
        ]
        may_select = selectable(pipeline)
        kept = [item for item in ours if not may_select(item)]
        items[:] = [item for item in ours if may_select(item) and self._is_chosen(item)]
        yield
        items[:] = sorted([*kept, *items], key=pipeline_order(pipeline))

    def pytest_report_header(self) -> list[str]:
        """Name the project, and say when running in parallel was refused."""
        lines = [f"mltrainer: {self.pipeline.project.root}, phase {self.pipeline.target}"]
        if self.was_parallel:
            lines.append(
                "mltrainer: phases build on one another, so -n is off and all run serially"
            )
        return lines

    def pytest_report_collectionfinish(self) -> list[str]:
        """Say what will be done, and count what is not part of a gate."""
        lines = plan_lines(list(self.pipeline.plan.values()))
        if self.ordinary:
            lines.append(f"mltrainer: {self.ordinary} ordinary tests are no part of a gate")
        return lines

    # -- running ------------------------------------------------------------------------------

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Run under the writer lock, and conclude the last gate before anything is summed up."""
        option = self.config.option
        if self.config.getoption("mltrainer_plan"):
            session.items.clear()
            return (yield)
        if option.collectonly or getattr(option, "setuponly", False) or session.testsfailed:
            return (yield)
        with self._locked():
            try:
                return (yield)
            finally:
                self._conclude()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Conclude a gate before the first item of the next phase."""
        phase = item.stash[GATE_PHASE]
        if self.current not in (None, phase):
            self._conclude()
        self.current = phase
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
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Turn what a check did into its outcome, and attach guidance to a failure."""
        report = yield
        phase = item.stash[GATE_PHASE]
        error = call.excinfo.value if call.excinfo else None
        if report.skipped and "Skipped: BLOCKED" in str(report.longrepr):
            setattr(report, STATUS, "BLOCKED")
        if isinstance(item, PhaseItem):
            self._report_phase(item, report, call)
            return report
        if isinstance(error, NotApplicable):
            _not_applicable(report, item, error)
        if call.when == "call":
            self._judge_check(item, report, call)
        if report.failed:
            guidance = guidance_for(self.pipeline, phase, item)
            add_section(report, "guidance", guidance)
            setattr(report, GUIDANCE, guidance)
        if not hasattr(report, STATUS) or getattr(report, STATUS) != "BLOCKED":
            self._record(item, report, call)
        return report

    def pytest_report_teststatus(self, report: pytest.TestReport) -> Any:
        """Show our outcomes under their own names."""
        status = getattr(report, STATUS, None)
        if status == "BLOCKED":
            return ("blocked", "B", "BLOCKED")
        if status == "NOT APPLICABLE":
            return ("not applicable", "n", "NOT APPLICABLE")
        if status == "CANNOT JUDGE":
            return ("error", "?", "CANNOT JUDGE")
        return None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        """Exit 0 only when every gate up to the target is PASS; regroup the JUnit file."""
        option = self.config.option
        only_shown = option.collectonly or getattr(option, "setuponly", False)
        if self.config.getoption("mltrainer_plan"):
            if session.exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
                session.exitstatus = pytest.ExitCode.OK
        elif (
            not only_shown
            and not self.pipeline.is_passed
            and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        ):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        result = yield
        path = junit_path(self.config)
        if path and Path(path).exists():
            regroup(Path(path), self.pipeline)
        return result

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Sum the pipeline up: gates, decision, and what to do next."""
        option = self.config.option
        if option.collectonly or self.config.getoption("mltrainer_plan"):
            return
        terminalreporter.write_sep("=", "pipeline")
        for line, markup in summary_lines(self.pipeline):
            terminalreporter.write_line(line, **markup)

    # -- outcomes -----------------------------------------------------------------------------

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

    def _conclude(self) -> None:
        if self.current is not None:
            self.pipeline.conclude(self.current)

    def _report_phase(
        self, item: PhaseItem, report: pytest.TestReport, call: pytest.CallInfo[None]
    ) -> None:
        """A phase that failed blocks its gate; a user's mistake is shown without a traceback."""
        error = call.excinfo.value if call.excinfo else None
        if report.failed and isinstance(error, UserError) and call.excinfo is not None:
            report.longrepr = show_as_text(call.excinfo, str(error))
        if report.failed:
            text = str(error) or type(error).__name__
            self.pipeline.phase_errors[item.phase] = text.partition("\n")[0]

    def _judge_check(
        self, item: pytest.Item, report: pytest.TestReport, call: pytest.CallInfo[None]
    ) -> None:
        """Say what was judged; a check of ours that judged nothing did not pass."""
        error = call.excinfo.value if call.excinfo else None
        judge = item.stash.get(JUDGE, None)
        for judgement in judge.judgements if judge else ():
            report.user_properties.append((f"judged: {judgement.what}", judgement.text()))
            item.user_properties.append((f"judged: {judgement.what}", judgement.text()))
        if call.excinfo is not None and isinstance(error, CannotJudge | UserError):
            report.longrepr = show_as_text(call.excinfo, f"cannot judge: {error}")
            setattr(report, STATUS, "CANNOT JUDGE")
        elif call.excinfo is not None and isinstance(error, CheckFailed) and is_built_in(item):
            report.longrepr = show_as_text(call.excinfo, failure_text(item, str(error), judge))
        elif report.passed and is_built_in(item) and not (judge and judge.judgements):
            report.outcome = "failed"
            report.longrepr = "cannot judge: the check ended without a judgement"
            setattr(report, STATUS, "CANNOT JUDGE")

    def _record(
        self, item: pytest.Item, report: pytest.TestReport, call: pytest.CallInfo[None]
    ) -> None:
        """Count a report towards the gate: the call, and whatever went wrong around it."""
        if call.when != "call" and report.passed:
            return
        judge = item.stash.get(JUDGE, None)
        outcome = _outcome(report)
        if outcome is None:
            return
        self.pipeline.record(
            item.stash[GATE_PHASE],
            CheckResult(
                id=item.stash[CHECK_ID],
                outcome=outcome,
                reason=_reason(report),
                duration_s=report.duration,
                judgements=[entry.to_json() for entry in judge.judgements] if judge else [],
                notes=list(judge.notes) if judge else [],
                guidance=getattr(report, GUIDANCE, ""),
            ),
        )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with writer_lock(self.pipeline.project.run_folder):
                yield
        except UserError as error:
            raise pytest.UsageError(str(error)) from error


class Selection:
    """The driver's part in selecting: around all others, those of pytest's own `--lf` included."""

    def __init__(self, driver: Driver) -> None:
        """`driver` knows the pipeline."""
        self.driver = driver

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> Generator[None]:
        """Take out what others must not touch, let them select and shuffle, put it back."""
        return (yield from self.driver.select(config, items))


def _outcome(report: pytest.TestReport) -> CheckOutcome | None:
    """How a report counts; None for a check that was skipped or may fail: it did not run."""
    if getattr(report, STATUS, None) == "NOT APPLICABLE":
        return "not applicable"
    if report.skipped or hasattr(report, "wasxfail"):
        return None
    if getattr(report, STATUS, None) == "CANNOT JUDGE":
        return "cannot judge"
    return "pass" if report.passed else "fail"


def _reason(report: pytest.TestReport) -> str:
    """The last line of what went wrong, or the reason of a skip."""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2]
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        return str(crash.message)
    return str(report.longrepr) if report.longrepr else ""


def _not_applicable(report: pytest.TestReport, item: pytest.Item, error: NotApplicable) -> None:
    path, line, _ = item.location
    report.outcome = "skipped"
    report.longrepr = (path, (line or 0) + 1, f"not applicable: {error}")
    setattr(report, STATUS, "NOT APPLICABLE")


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
