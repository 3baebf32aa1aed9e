"""How a check ended, in our words: the report that pytest shows, and the result that counts."""

from collections.abc import Generator
from typing import Any

import pytest

from pytest_mltrainer.collection import CHECK_ID, GATE_PHASE, JUDGE, PhaseItem, is_built_in
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.judge import (
    AwaitingSignature,
    CannotJudge,
    CheckFailed,
    NotApplicable,
)
from pytest_mltrainer.core.verdict import CheckOutcome, CheckResult
from pytest_mltrainer.non_public import show_as_text
from pytest_mltrainer.pipeline_run import PipelineRun
from pytest_mltrainer.release.waivers import WAIVABLE, why_waived
from pytest_mltrainer.reporting.guidance import add_section, failure_text, guidance_for

STATUS = "mltrainer_status"
"""Attribute of a report: BLOCKED, NOT APPLICABLE, WAIVED, AWAITING SIGNATURE, CANNOT JUDGE."""
GUIDANCE = "mltrainer_guidance"
"""Attribute of a report: what was shown under a failure."""


class Outcomes:
    """Gives every check its outcome and tells the pipeline."""

    def __init__(self, pipeline: PipelineRun) -> None:
        """`pipeline` counts the results."""
        self.pipeline = pipeline

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
        if isinstance(error, NotApplicable | AwaitingSignature):
            status = "NOT APPLICABLE" if isinstance(error, NotApplicable) else "AWAITING SIGNATURE"
            _skipped(report, item, status, str(error))
        if call.when == "call":
            self._judge_check(item, report, call)
            if isinstance(error, CheckFailed) and (why := self._why_waived(item)):
                _skipped(report, item, "WAIVED", f"{why}; found: {error}")
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
        if status == "WAIVED":
            return ("waived", "w", "WAIVED")
        if status == "AWAITING SIGNATURE":
            return ("awaiting signature", "s", "AWAITING SIGNATURE")
        if status == "CANNOT JUDGE":
            return ("error", "?", "CANNOT JUDGE")
        return None

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

    def _why_waived(self, item: pytest.Item) -> str:
        """Who answers for the failure of a check, and until when; empty when nobody does."""
        check, phase = item.stash[CHECK_ID], item.stash[GATE_PHASE]
        if check not in WAIVABLE or not is_built_in(item):
            return ""
        run = self.pipeline.training_run(phase)
        return why_waived(run.project.root, run.run_folder, check, run.config)

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
                witnessed=dict(judge.witnessed) if judge else {},
            ),
        )


def _outcome(report: pytest.TestReport) -> CheckOutcome | None:
    """How a report counts; None for a check that was skipped or may fail: it did not run."""
    if getattr(report, STATUS, None) == "NOT APPLICABLE":
        return "not applicable"
    if getattr(report, STATUS, None) == "AWAITING SIGNATURE":
        return "awaiting signature"
    if getattr(report, STATUS, None) == "WAIVED":
        return "waived"
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


def _skipped(report: pytest.TestReport, item: pytest.Item, status: str, reason: str) -> None:
    """Show neither a pass nor a failure; a missing signature still keeps the gate from PASS."""
    path, line, _ = item.location
    report.outcome = "skipped"
    report.longrepr = (path, (line or 0) + 1, f"{status.lower()}: {reason}")
    setattr(report, STATUS, status)
