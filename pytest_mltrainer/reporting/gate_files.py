"""The files that a gate leaves beside its verdict: `gate.xml` for machines."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence

from pytest_mltrainer.core import files
from pytest_mltrainer.core.artifacts import PhaseFolder
from pytest_mltrainer.core.verdict import CheckResult, Verdict
from pytest_mltrainer.reporting.junit import printable

_TAGS = {"fail": "failure", "cannot judge": "error", "not applicable": "skipped"}


def write_gate_files(folder: PhaseFolder, verdict: Verdict, results: Sequence[CheckResult]) -> None:
    """Write the gate's outcome as JUnit XML, whether or not pytest was asked for any."""
    suite = ET.Element("testsuite", name=f"gate:{verdict.phase}", tests=str(len(results)))
    for outcome, tag in _TAGS.items():
        key = {"failure": "failures", "error": "errors"}.get(tag, tag)
        suite.set(key, str(sum(result.outcome == outcome for result in results)))
    for result in results:
        case = ET.SubElement(
            suite,
            "testcase",
            classname=f"gate.{verdict.phase}",
            name=printable(result.id),
            time=f"{result.duration_s:.3f}",
        )
        if result.outcome in _TAGS:
            text = printable("\n\n".join(part for part in (result.reason, result.guidance) if part))
            message = text.partition("\n")[0]
            ET.SubElement(case, _TAGS[result.outcome], message=message).text = text
    suites = ET.Element("testsuites")
    suites.append(suite)
    files.write_bytes(
        folder.path / "gate.xml", ET.tostring(suites, encoding="utf-8", xml_declaration=True)
    )
