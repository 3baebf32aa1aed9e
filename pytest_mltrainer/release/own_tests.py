"""Runs the project's own tests in a process of their own, and counts what passed."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.release.scanners import junit_cases

_OUTER = ("PYTEST_", "COV_", "COVERAGE_")
"""Variables of the pytest that judges; its own options must not reach these tests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnTests:
    """How many tests ran, and which of them failed."""

    passed: int
    skipped: int
    failed: tuple[str, ...]
    ending: str
    """What pytest said last, for a run that came to no result."""


def run_own_tests(root: Path, arguments: Sequence[str], *, timeout_s: float) -> OwnTests:
    """`python -m pytest ARGUMENTS` in the project, without `--phase`.

    Raises UserError when the tests have not ended after `timeout_s`.
    """
    with tempfile.TemporaryDirectory(prefix="mltrainer-tests-") as folder:
        report = Path(folder) / "report.xml"
        own = ["-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
        try:
            done = subprocess.run(
                [sys.executable, "-m", "pytest", *own, *arguments],
                cwd=root,
                env=_environment(),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UserError(
                f"{root}: its own tests have not ended after {timeout_s / 60:.3g} minutes: name "
                "fewer in release.tests, or raise release.tests_minutes"
            ) from None
        cases = junit_cases(report) if report.is_file() else []
    lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    return OwnTests(
        passed=sum(outcome == "passed" for _, outcome in cases),
        skipped=sum(outcome == "skipped" for _, outcome in cases),
        failed=tuple(name for name, outcome in cases if outcome in ("failure", "error")),
        ending=lines[-1][:200] if lines else f"exit status {done.returncode}",
    )


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OUTER)}
    # The judged tree stays as it is.
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1"}
