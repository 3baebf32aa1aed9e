"""JUnit XML: pytest's regrouped into one suite a gate, and each gate's own `gate.xml`."""

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_mltrainer.core import files
from pytest_mltrainer.core.artifacts import PhaseFolder
from pytest_mltrainer.core.verdict import CheckResult, Verdict

if TYPE_CHECKING:
    from pytest_mltrainer.pipeline_run import PipelineRun

CANNOT_JUDGE = "cannot judge:"
AWAITING = "awaiting signature:"
ATTEMPT = ("mltrainer.attempt", "after the repair")
"""The property of what was judged once more with an overlay."""
_TAGS = {
    "fail": "failure",
    "cannot judge": "error",
    "awaiting signature": "error",
    "not applicable": "skipped",
    "waived": "skipped",
}


def regroup(path: Path, pipeline: "PipelineRun") -> None:
    """Move the test cases of each gate into `<testsuite name="gate:PHASE">` with right counts."""
    root = ET.parse(path).getroot()
    original = root if root.tag == "testsuite" else root.find("testsuite")
    if original is None:
        return
    suites = ET.Element("testsuites", root.attrib if root.tag == "testsuites" else {})
    cases = list(original.iter("testcase"))
    user_ids = {
        identity: phase for phase, checks in pipeline.user_checks.items() for identity in checks
    }
    for phase in pipeline.phases:
        ours = [case for case in cases if _phase_of(case, user_ids) == phase]
        if phase in pipeline.before_repair:
            first = [case for case in ours if not _is_repeated(case)]
            ours = [case for case in ours if _is_repeated(case)]
            suites.append(_superseded(phase, first, original))
        suites.append(_suite(phase, ours, original, pipeline))
    rest = [case for case in cases if _phase_of(case, user_ids) is None]
    if rest:
        suites.append(_counted("pytest", rest, original))
    files.write_bytes(path, ET.tostring(suites, encoding="utf-8", xml_declaration=True))


def _suite(
    phase: str, cases: list[ET.Element], original: ET.Element, pipeline: "PipelineRun"
) -> ET.Element:
    for case in cases:
        _error_where_not_judged(case)
    suite = _counted(f"gate:{phase}", cases, original)
    summary = pipeline.summaries.get(phase)
    facts: dict[str, str] = {"outcome": summary.outcome if summary else "not reached"}
    if summary and summary.note:
        facts["note"] = summary.note
    if summary and summary.identity:
        facts["verdict"] = summary.identity
    if decision := pipeline.decision(phase):
        facts |= {"decision": decision["status"], "next": decision["next"]}
        facts["reason"] = decision["reason"]
    properties = ET.Element("properties")
    for name, value in facts.items():
        ET.SubElement(properties, "property", name=f"mltrainer.{name}", value=printable(value))
    suite.insert(0, properties)
    return suite


def _is_repeated(case: ET.Element) -> bool:
    return any((p.get("name"), p.get("value")) == ATTEMPT for p in case.iter("property"))


def _superseded(phase: str, cases: list[ET.Element], original: ET.Element) -> ET.Element:
    """The first attempt at a gate: what failed there is told and counts no more."""
    for case in cases:
        for element in [*case.findall("failure"), *case.findall("error")]:
            element.tag = "skipped"
            element.set("message", f"before the repair: {element.get('message', '')}")
    return _counted(f"gate:{phase} before the repair", cases, original)


def _counted(name: str, cases: Iterable[ET.Element], original: ET.Element) -> ET.Element:
    suite = ET.Element("testsuite", name=name)
    every = list(cases)
    for key in ("timestamp", "hostname"):
        if key in original.attrib:
            suite.set(key, original.attrib[key])
    suite.set("tests", str(len(every)))
    for tag, key in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(key, str(sum(case.find(tag) is not None for case in every)))
    suite.set("time", f"{sum(float(case.get('time', 0)) for case in every):.3f}")
    suite.extend(every)
    return suite


def _error_where_not_judged(case: ET.Element) -> None:
    """What could not be judged is an error, not a failure of the model."""
    skipped, failure = case.find("skipped"), case.find("failure")
    if skipped is not None and skipped.get("message", "").startswith(AWAITING):
        # A reader of XML alone takes what is skipped for good; nobody has signed this.
        skipped.tag = "error"
        skipped.set("type", AWAITING.removesuffix(":"))
    if failure is None:
        return
    if CANNOT_JUDGE in (failure.text or "")[:400] or CANNOT_JUDGE in failure.get("message", ""):
        failure.tag = "error"


def _phase_of(case: ET.Element, user_ids: dict[str, str]) -> str | None:
    classname, name = case.get("classname", ""), case.get("name", "")
    for prefix in ("pytest_mltrainer.gates.", "pytest_mltrainer.phases."):
        if classname.startswith(prefix):
            return classname.removeprefix(prefix).partition(".")[0]
    for identity, phase in user_ids.items():
        path, _, inside = identity.partition("::")
        dotted = path.removesuffix(".py").replace("/", ".")
        *classes, function = inside.split("::")
        if (classname, name) == (".".join([dotted, *classes]), function):
            return phase
    return None


def printable(text: str) -> str:
    """The text without what XML cannot hold."""
    return "".join(
        character if character.isprintable() or character in "\n\t" else "?" for character in text
    )


def write_gate_xml(folder: PhaseFolder, verdict: Verdict, results: Sequence[CheckResult]) -> None:
    """Write the gate's outcome as JUnit XML, whether or not pytest was asked for any."""
    suite = ET.Element("testsuite", name=f"gate:{verdict.phase}", tests=str(len(results)))
    for tag in dict.fromkeys(_TAGS.values()):
        key = {"failure": "failures", "error": "errors"}.get(tag, tag)
        suite.set(key, str(sum(_TAGS.get(result.outcome) == tag for result in results)))
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
