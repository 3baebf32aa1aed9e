"""`report.html`: a verdict for people who were not there. One file, no script, no network."""

import base64
from collections.abc import Mapping, Sequence
from importlib.resources import files as package_files
from typing import Any

from pytest_mltrainer.core import files
from pytest_mltrainer.core.artifacts import PhaseFolder
from pytest_mltrainer.core.catalogue import catalogue
from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.core.ranking import text
from pytest_mltrainer.core.verdict import CheckResult, Verdict
from pytest_mltrainer.reporting.findings import RunFindings, findings_html, stored_findings

LIMIT_TEXT = 4_000
LIMIT_PICTURE_BYTES = 500_000
LIMIT_CHECKS = 2_000

_ORDER = {
    "fail": 0,
    "cannot judge": 1,
    "awaiting signature": 2,
    "waived": 3,
    "not applicable": 4,
    "pass": 5,
}


def render_report(
    folder: PhaseFolder,
    verdict: Verdict,
    results: Sequence[CheckResult],
    decision: Mapping[str, Any] | None,
) -> str:
    """The page: outcome, decision, diagnosis, every check with what it judged, plots, artifacts.

    Texts are cut at 4,000 characters and checks at 2,000, so that the page stays under 2 MB.
    """
    from jinja2 import Environment

    findings, diagnosis = _diagnosis(folder)
    said = text(findings, findings.config) if findings is not None else ""
    docstrings = {check.id: check.docstring for check in catalogue(verdict.phase)}
    ordered = sorted(results, key=lambda result: (_ORDER[result.outcome], result.id))
    template = (package_files("pytest_mltrainer.reporting") / "report.html").read_text("utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(template).render(
        phase=verdict.phase,
        outcome=verdict.outcome,
        identity=verdict.identity,
        decision=decision,
        diagnosis=diagnosis,
        checks=[_shown(result, docstrings, said) for result in ordered[:LIMIT_CHECKS]],
        left_out=max(len(ordered) - LIMIT_CHECKS, 0),
        plots=_plots(folder, verdict),
        artifacts=sorted(verdict.basis.artifacts.items()),
    )


def _diagnosis(folder: PhaseFolder) -> tuple[RunFindings | None, str]:
    """The findings of the phase, and as HTML; empty when its diagnostics were not asked."""
    from markupsafe import Markup, escape

    try:
        findings = stored_findings(folder)
    except StorageError as error:
        return None, escape(f"The findings cannot be read: {error}")
    return findings, Markup(findings_html(findings)) if findings is not None else ""


def _shown(result: CheckResult, docstrings: Mapping[str, str], said: str) -> dict[str, Any]:
    """A check for the template; `said` is guidance that stands on the page already."""
    return {
        "id": result.id,
        "outcome": result.outcome,
        "reason": _cut(result.reason),
        "guidance": "" if result.guidance == said else _cut(result.guidance),
        "docstring": docstrings.get(result.id, ""),
        "judgements": [
            {name: _cut(str(entry[name])) for name in ("what", "measured", "limit", "outcome")}
            for entry in result.judgements[:50]
        ],
        "notes": [_cut(note) for note in result.notes[:50]],
    }


def _plots(folder: PhaseFolder, verdict: Verdict) -> list[tuple[str, str]]:
    """The SVG artifacts as data URLs: an image cannot run what may stand in an SVG."""
    plots = []
    for name in sorted(verdict.basis.artifacts):
        path = folder.artifact(name)
        if name.endswith(".svg") and path.stat().st_size <= LIMIT_PICTURE_BYTES:
            data = base64.b64encode(path.read_bytes()).decode()
            plots.append((name, f"data:image/svg+xml;base64,{data}"))
    return plots


def _cut(text: str) -> str:
    return text if len(text) <= LIMIT_TEXT else f"{text[:LIMIT_TEXT]} ..."


def write_report(
    folder: PhaseFolder,
    verdict: Verdict,
    results: Sequence[CheckResult],
    decision: Mapping[str, Any] | None,
) -> None:
    """Write `report.html` beside the verdict."""
    files.write_text(folder.path / "report.html", render_report(folder, verdict, results, decision))
