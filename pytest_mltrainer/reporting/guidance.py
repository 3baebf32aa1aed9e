"""What stands under a failed check: the diagnoses of this run, else the check's own advice."""

import inspect
from typing import TYPE_CHECKING, Any

import pytest

from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.judge import Judge
from pytest_mltrainer.core.ranking import Findings, text
from pytest_mltrainer.diagnostics import short_guidance

if TYPE_CHECKING:
    from pytest_mltrainer.pipeline_run import PipelineRun


def guidance_for(pipeline: "PipelineRun", phase: str, item: pytest.Item) -> str:
    """Ranked diagnoses of the phase's run; without any, the short guidance that the check names."""
    run = pipeline.training_run(phase)
    try:
        if run.has("diagnoses.json"):
            findings = Findings.from_json(run.json("diagnoses.json"))
            if findings.diagnoses:
                return text(findings, run.config.to_json())
    except (UserError, KeyError, TypeError) as error:
        return f"the diagnoses of {phase} cannot be read: {error}"
    named = getattr(getattr(item, "function", None), "guided_by", ())
    return "\n".join(
        f"possible cause: {name}. {short_guidance(name)}\nmore: pytest-mltrainer explain {name}"
        for name in named
    )


def failure_text(item: pytest.Item, reason: str, judge: Judge | None) -> str:
    """What a failed check of ours shows: the judgement, what the check means, how to repeat it."""
    lines = [reason, "", inspect.getdoc(getattr(item, "function", None)) or ""]
    if judge is not None and (passed := judge.judgements[:-1]):
        lines += ["", "judged before, and passed:", *(f"  {entry.text()}" for entry in passed)]
    if judge is not None and judge.notes:
        lines += ["", "noted:", *(f"  {note}" for note in judge.notes)]
    phase = item.config.getoption("--phase")
    lines += ["", f"this check alone: pytest --phase={phase} {item.nodeid}"]
    return "\n".join(lines)


def add_section(report: pytest.TestReport, title: str, content: str) -> None:
    """Add a section to a failure so that terminal, JUnit and other reporters all show it."""
    if not content:
        return
    longrepr: Any = report.longrepr
    if hasattr(longrepr, "addsection"):
        longrepr.addsection(title, content)
    else:
        report.longrepr = f"{longrepr}\n\n{f' {title} ':-^80}\n{content}"
