"""What stands under a failed check: the diagnoses of this run, else the check's own advice."""

from typing import TYPE_CHECKING, Any

import pytest

from pytest_mltrainer.core.errors import UserError
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


def add_section(report: pytest.TestReport, title: str, content: str) -> None:
    """Add a section to a failure so that terminal, JUnit and other reporters all show it."""
    if not content:
        return
    longrepr: Any = report.longrepr
    if hasattr(longrepr, "addsection"):
        longrepr.addsection(title, content)
    else:
        report.longrepr = f"{longrepr}\n\n{f' {title} ':-^80}\n{content}"
