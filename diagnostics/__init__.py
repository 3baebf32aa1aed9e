"""The diagnostics: one module and one page of guidance each, found by looking into this folder.

Adding a diagnostic is adding `<id>.py` with `detect(evidence) -> Diagnosis | None`, and `<id>.md`.
"""

import importlib
import pkgutil
from pathlib import Path

from pytest_mltrainer.core.errors import UserError, did_you_mean
from pytest_mltrainer.core.evidence import Detector

SHORT_FORM = "## In short"


def detectors() -> dict[str, Detector]:
    """Every diagnostic of this package by its id, in alphabetical order."""
    found = {}
    for module in sorted(pkgutil.iter_modules(__path__), key=lambda entry: entry.name):
        detect = getattr(importlib.import_module(f"{__name__}.{module.name}"), "detect", None)
        if detect is not None:
            found[module.name] = detect
    return found


def guidance(diagnostic: str) -> str:
    """The page of guidance in Markdown. Raises UserError that lists the ids on an unknown one."""
    known = detectors()
    if diagnostic not in known:
        raise UserError(
            f"no diagnostic '{diagnostic}'; there are {', '.join(known)}."
            + did_you_mean(diagnostic, known)
        )
    return (Path(__path__[0]) / f"{diagnostic}.md").read_text(encoding="utf-8")


def short_guidance(diagnostic: str) -> str:
    """The page's short form: the paragraph under `## In short`, on one line. Raises UserError."""
    after = guidance(diagnostic).partition(SHORT_FORM)[2]
    return " ".join(after.partition("\n## ")[0].split())
