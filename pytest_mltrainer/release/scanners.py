"""Result files of other tools, SARIF or JUnit: what is open in them, and how old they are."""

import json
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_mltrainer.core.errors import StorageError

LIMIT_BYTES = 50_000_000
CRITICAL_SEVERITY = 9.0
"""Of `security-severity`, which follows CVSS: from 9.0 on a finding is critical."""
SECONDS_A_DAY = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanResult:
    """What a scanner said: `examined` tests or runs, and what is critical and open."""

    name: str
    examined: int
    critical: tuple[str, ...]
    written_s: float

    def age_days(self) -> float:
        """How long ago the file was written."""
        return (time.time() - self.written_s) / SECONDS_A_DAY


def read_result(path: Path) -> ScanResult:
    """A result file. Raises StorageError when it is missing, too large, or neither format."""
    try:
        status = path.stat()
        if status.st_size > LIMIT_BYTES:
            raise StorageError(f"{path}: {status.st_size} bytes, wanted at most {LIMIT_BYTES}")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(
            f"{path}: no result of the scanner that release.scanners names ({error}): run it first"
        ) from error
    examined, critical = _sarif(path, text) if text.lstrip().startswith("{") else _junit(path)
    return ScanResult(
        name=path.name, examined=examined, critical=critical, written_s=status.st_mtime
    )


def junit_cases(path: Path) -> list[tuple[str, str]]:
    """Every test case with `passed`, `skipped`, `failure` or `error`. Raises StorageError."""
    try:
        root = ElementTree.parse(path).getroot()
    except (ElementTree.ParseError, OSError) as error:
        raise StorageError(f"{path}: not readable as JUnit XML ({error}): write it anew") from error
    return [(_case_name(case), _outcome(case)) for case in root.iter("testcase")]


def _junit(path: Path) -> tuple[int, tuple[str, ...]]:
    cases = [case for case in junit_cases(path) if case[1] != "skipped"]
    return len(cases), tuple(name for name, outcome in cases if outcome != "passed")


def _case_name(case: ElementTree.Element) -> str:
    return "::".join(part for part in (case.get("classname"), case.get("name")) if part)


def _outcome(case: ElementTree.Element) -> str:
    tags = {child.tag for child in case}
    return next((tag for tag in ("error", "failure", "skipped") if tag in tags), "passed")


def _sarif(path: Path, text: str) -> tuple[int, tuple[str, ...]]:
    try:
        runs = json.loads(text)["runs"]
        critical = [entry for run in runs for entry in _critical(run)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StorageError(f"{path}: not readable as SARIF ({error!r}): write it anew") from error
    return len(runs), tuple(critical)


def _critical(run: Mapping[str, Any]) -> Iterator[str]:
    """Results at level error, or of a severity that counts as critical, that nobody suppressed."""
    rules = {rule["id"]: rule for rule in run["tool"]["driver"].get("rules", ())}
    for result in run.get("results", ()):
        rule = rules.get(result.get("ruleId"), {})
        # `warning` is what the standard says of a result that names no level.
        default = rule.get("defaultConfiguration", {}).get("level", "warning")
        severity = float(rule.get("properties", {}).get("security-severity", 0))
        is_critical = result.get("level", default) == "error" or severity >= CRITICAL_SEVERITY
        if is_critical and result.get("kind", "fail") == "fail" and not _is_suppressed(result):
            yield f"{result.get('ruleId', 'a result')} in {_place(result)}"


def _is_suppressed(result: Mapping[str, Any]) -> bool:
    statuses = [entry.get("status", "accepted") for entry in result.get("suppressions") or ()]
    return bool(statuses) and all(status == "accepted" for status in statuses)


def _place(result: Mapping[str, Any]) -> str:
    for location in result.get("locations", ()):
        physical = location.get("physicalLocation", {})
        line = physical.get("region", {}).get("startLine", "")
        return f"{physical.get('artifactLocation', {}).get('uri', '?')}:{line}".rstrip(":")
    return "no place"
