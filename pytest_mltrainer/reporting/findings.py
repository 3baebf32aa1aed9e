"""How findings look: as text for a terminal, as HTML for notebooks and reports."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files as package_files
from typing import Any, Self

from pytest_mltrainer.core import files
from pytest_mltrainer.core.artifacts import PhaseFolder, RunFolder
from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.errors import StorageError, UserError
from pytest_mltrainer.core.evidence import Curve, Diagnosis
from pytest_mltrainer.core.ranking import Findings, change_text, text
from pytest_mltrainer.core.route import DECIDING, accepted_patch

LIMIT_TEXT = 2_000
LIMIT_DRAWN = 12
"""Diagnoses whose curve is drawn: a page of all of them stays under 1 MB."""
_NOT_FOR_HTML = re.compile(r"<\?xml.*?\?>|<!DOCTYPE.*?>|<!--.*?-->|<metadata>.*?</metadata>", re.S)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFindings(Findings):
    """The findings of one run. `print` shows them as text, a notebook as HTML.

    `config` is the resolved configuration of the run, which gives the old values of changes.
    """

    config: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, findings: Findings, config: Mapping[str, Any]) -> Self:
        """The findings beside the configuration of their run."""
        return cls(
            diagnoses=findings.diagnoses,
            silent=findings.silent,
            not_judged=findings.not_judged,
            failed=findings.failed,
            config=config,
        )

    def __str__(self) -> str:
        """The diagnoses in order, then who saw nothing, and who could not look and why."""
        lines = [text(self, self.config)]
        if self.silent and self.diagnoses:
            lines.append(f"saw nothing: {', '.join(self.silent)}")
        if self.not_judged:
            lines.append("not judged:")
            lines += [f"  {name}: {_flat(why)}" for name, why in self.not_judged.items()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return findings_html(self)


def findings_html(findings: RunFindings) -> str:
    """A piece of HTML with its own style, readable on light and dark; all text is escaped.

    It holds no script and loads nothing. Texts are cut at 2,000 characters.
    """
    shown = {
        found.id: _shown(found, findings.config, is_drawn=place < LIMIT_DRAWN)
        for place, found in enumerate(findings.diagnoses)
    }
    primary = findings.primary
    page: str = _template().render(
        primary=shown[primary.id] if primary is not None else None,
        consequences=[
            {**shown[name], "reason": reason} for name, reason in findings.consequences.items()
        ],
        independent=[shown[found.id] for found in findings.independent],
        silent=findings.silent,
        not_judged={name: _cut(why) for name, why in findings.not_judged.items()},
        failed={name: _cut(why) for name, why in findings.failed.items()},
    )
    return page


@cache
def _template() -> Any:
    from jinja2 import Environment

    source = (package_files("pytest_mltrainer.reporting") / "findings.html").read_text("utf-8")
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(source)


def stored_findings(folder: PhaseFolder) -> RunFindings | None:
    """What a phase's own diagnostics said, or None when they were not asked.

    Raises StorageError for damaged files.
    """
    path = folder.artifact("diagnoses.json")
    if not path.is_file():
        return None
    try:
        findings = Findings.from_json(files.read_json(path))
    except (KeyError, TypeError, ValueError) as error:
        raise StorageError(f"{path}: not findings ({error!r}): run the phase again") from error
    return RunFindings.of(findings, _phase_config(folder))


def _phase_config(folder: PhaseFolder) -> Mapping[str, Any]:
    """The configuration that the phase trained with; empty when its record cannot be read."""
    run = RunFolder(folder.path.parent)
    planned = run.phase("planning").artifact("config_resolved.json")
    try:
        config = Config.from_json(files.read_json(planned))
        if folder.phase == "finalization":
            manifests = {phase: run.phase(phase).manifest() for phase in DECIDING}
            patch = accepted_patch(
                {phase: found.decision if found else None for phase, found in manifests.items()}
            )
            config = config.with_patch(folder.phase, patch) if patch else config
        return config.for_phase(folder.phase).to_json()
    except (UserError, KeyError, TypeError):
        return {}


def _shown(found: Diagnosis, config: Mapping[str, Any], *, is_drawn: bool) -> dict[str, Any]:
    from markupsafe import Markup

    curve = inline_curve(found.curve) if found.curve is not None and is_drawn else ""
    return {
        "id": found.id,
        "kind": found.cause.name.replace("_", " ").lower(),
        "confidence": f"{found.confidence:.2f}",
        "summary": _cut(found.summary),
        "where": _cut(found.where),
        "symptoms": [
            (entry.what, f"{entry.measured:.4g}", f"{entry.limit:.4g}", entry.unit)
            for entry in found.symptoms
        ],
        "details": [_cut(detail) for detail in found.details],
        "curve": Markup(curve),  # drawn by us: outlines without any text
        "curve_title": found.curve.title if found.curve else "",
        "changes": [
            (_cut(change_text(entry, config)), _cut(entry.instruction) if entry.patch else "")
            for entry in found.recommendations
        ],
    }


def inline_curve(curve: Curve) -> str:
    """The curve as an SVG element to stand in HTML; its text is the colour of the text around."""
    from pytest_mltrainer.documents.plots import evidence_curve

    return _NOT_FOR_HTML.sub("", evidence_curve(curve).decode("utf-8")).strip()


def _cut(value: str) -> str:
    return value if len(value) <= LIMIT_TEXT else f"{value[:LIMIT_TEXT]} ..."


def _flat(value: str) -> str:
    line = " ".join(value.split())
    return line if len(line) <= 140 else f"{line[:137]}..."
