"""Every point where we rely on more of pytest than it promises, one helper each."""

from collections.abc import Callable
from typing import Any

import pytest


def register_fixture(node: pytest.Collector | pytest.Session, name: str, function: Any) -> None:
    """Bind a fixture to a node of the collection tree: nearer than any conftest there.

    `pytest.register_fixture` is public since pytest 9.1; before, the fixture manager took the id
    of the node.
    """
    public: Callable[..., None] | None = getattr(pytest, "register_fixture", None)
    if public is not None:
        public(name=name, func=function, node=node)
        return
    manager: Any = node.session._fixturemanager
    manager._register_fixture(name=name, func=function, nodeid=node.nodeid)


def collect_unfiltered(collector: pytest.Collector) -> pytest.CollectReport:
    """Collect a node the plain way.

    `--lf` answers for a whole file, with nothing in it, when it had no failure last time. The
    gates of earlier phases must be judged all the same.
    """
    from _pytest.runner import pytest_make_collect_report

    return pytest_make_collect_report(collector)


def run_serially(config: pytest.Config) -> bool:
    """Switch pytest-xdist off before it starts workers; whether it was on.

    Phases build on one another and write one run folder, and xdist's `loadgroup` does not keep
    groups together (pytest-xdist #1386).
    """
    if getattr(config.option, "dist", "no") == "no" and not getattr(config.option, "tx", None):
        return False
    config.option.dist = "no"
    config.option.tx = []
    config.option.numprocesses = None
    return True


def printing(config: pytest.Config, line: str) -> None:
    """Write a line to the terminal while a test runs, past pytest's capturing."""
    reporter = config.pluginmanager.getplugin("terminalreporter")
    capture = config.pluginmanager.getplugin("capturemanager")
    if reporter is None:
        return
    if capture is None:
        reporter.ensure_newline()
        reporter.write_line(line)
        return
    with capture.global_and_fixture_disabled():
        reporter.ensure_newline()
        reporter.write_line(line)


def show_as_text(excinfo: pytest.ExceptionInfo[BaseException], text: str) -> Any:
    """A failure that shows `text` and no traceback, but can take sections like any other.

    The exception representation has no public way to be given its text.
    """
    shown: Any = excinfo.getrepr(style="value")
    shown.reprcrash.message = text.partition("\n")[0]
    shown.reprtraceback.reprentries[-1].lines[:] = text.splitlines()
    return shown


def renew(item: pytest.Item) -> None:
    """Make an item fit to run once more, as pytest-rerunfailures does."""
    initialize: Callable[[], None] | None = getattr(item, "_initrequest", None)
    if initialize is not None:
        initialize()
    item._report_sections.clear()
    item.user_properties.clear()


def supersede_reports(session: pytest.Session, is_superseded: Callable[[str], bool]) -> None:
    """Take failures that are to be judged once more out of what the session counts and shows."""
    reporter: Any = session.config.pluginmanager.getplugin("terminalreporter")
    if reporter is None:
        return
    for category in ("failed", "error"):
        reports = reporter.stats.get(category, [])
        gone = [report for report in reports if is_superseded(getattr(report, "nodeid", ""))]
        if gone:
            reporter.stats[category] = [report for report in reports if report not in gone]
            reporter.stats.setdefault("superseded", []).extend(gone)
            session.testsfailed -= sum(report.failed for report in gone)


def junit_path(config: pytest.Config) -> str | None:
    """Where `--junitxml` writes; the option has no public name."""
    path = getattr(config.option, "xmlpath", None)
    return str(path) if path else None
