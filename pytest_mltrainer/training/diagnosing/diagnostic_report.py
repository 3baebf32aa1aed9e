"""`diagnostic_report.md` and its plots: a function of recomputed values, so a gate writes it anew.

The order is that of a reader's questions: what is it, what says so, what to change, what then.
"""

from collections.abc import Mapping
from typing import Any

from pytest_mltrainer.core.measurement import Measurement
from pytest_mltrainer.core.ranking import change_text
from pytest_mltrainer.documents.markdown import Document, Markup, code
from pytest_mltrainer.documents.plots import curve_over_rows, evidence_curve
from pytest_mltrainer.training.diagnosing.bottleneck import Breakdown
from pytest_mltrainer.training.diagnosing.diagnosis import Examination
from pytest_mltrainer.training.diagnosing.learning_curve import LearningCurve, goal_of

SECTIONS = (
    "Decision",
    "Primary issue",
    "Symptoms",
    "Root causes",
    "Learning curve",
    "Bottleneck",
    "Recommendations",
    "Proposed configuration",
    "Guidance",
    "Evidence",
)
CURVE_PLOT = "plots/learning_curve.svg"
ISSUE_PLOT = "plots/primary_issue.svg"

Row = list[str | float | Measurement | None]


def diagnostic_report(
    found: Examination,
    timed: Breakdown | None,
    *,
    guidance: str,
    evidence: Mapping[str, str],
) -> str:
    """The report. `guidance` is the short form of the issue's page, `evidence` the digests."""
    document = Document("Diagnostic report")
    document.section("Decision")
    document.paragraph(f"{found.decision.status}: {found.decision.reason}.")
    document.paragraph(f"Next: {found.decision.next}.")
    _issue(document, found)
    _symptoms(document, found)
    _causes(document, found)
    _curve(document, found.curve, found.evidence.metric)
    _bottleneck(document, timed)
    _recommendations(document, found)
    document.section("Guidance")
    if guidance:
        document.paragraph(Markup(guidance))
        document.code_block(f"pytest-mltrainer explain {found.guidance}", "sh")
    else:
        document.paragraph("No page of guidance belongs to this.")
    document.section("Evidence")
    document.table(
        ["artifact", "sha256"], [[code(name), digest[:12]] for name, digest in evidence.items()]
    )
    return document.text()


def report_plots(found: Examination) -> dict[str, bytes]:
    """The plots of the report as SVG, by name."""
    plots = {}
    points = found.curve.points
    if points:
        goal = goal_of(found.evidence.target, found.evidence.references)
        scores = {
            "training": [point.train for point in points],
            "validation": [point.validation for point in points],
        }
        rows = [point.rows for point in points]
        plots[CURVE_PLOT] = curve_over_rows(rows, scores, found.evidence.metric, goal)
    if found.issue is not None and found.issue.curve is not None:
        plots[ISSUE_PLOT] = evidence_curve(found.issue.curve)
    return plots


def _issue(document: Document, found: Examination) -> None:
    document.section("Primary issue")
    if found.issue is None:
        document.paragraph("None: the baseline is near optimal.")
        return
    document.paragraph(f"{found.issue.id}: {found.issue.summary}")
    if found.issue.where:
        document.paragraph(f"Where: {found.issue.where}.")
    if found.issue.curve is not None:
        document.image(found.issue.curve.title, ISSUE_PLOT)
    if follows := found.findings.consequences:
        document.paragraph("What follows from it, and may vanish with it:")
        document.bullets(f"{name}: {reason}" for name, reason in follows.items())


def _symptoms(document: Document, found: Examination) -> None:
    document.section("Symptoms")
    if not found.signs:
        document.paragraph("There is no issue whose symptoms could be matched.")
        return
    matched = sum(sign.matched for sign in found.signs)
    document.paragraph(
        f"{matched} of {len(found.signs)} symptoms are matched: a {found.match} match."
    )
    rows: list[Row] = [[sign.what, sign.measured, sign.limit, sign.matched] for sign in found.signs]
    document.table(["symptom", "measured", "limit", "matched"], rows)


def _causes(document: Document, found: Examination) -> None:
    document.section("Root causes")
    if not found.causes:
        document.paragraph("None was found.")
        return
    rows: list[Row] = [
        [cause.id, symptom.what, symptom.measured, symptom.limit]
        for cause in found.causes
        for symptom in cause.symptoms
    ]
    document.table(["cause", "measured value", "value", "limit"], rows)
    document.bullets(f"{cause.id}: {cause.summary}" for cause in found.causes[1:])


def _curve(document: Document, curve: LearningCurve, metric: str) -> None:
    document.section("Learning curve")
    said = {
        "bias": "Bias, the model does not even learn its training data",
        "variance": "Variance, the model learns its training data better than what they stand for",
        "data": "Data, more training rows would help",
        "flat": "Flat, neither bias nor variance nor a lack of data shows",
        "not judged": "Not judged",
    }[curve.kind]
    document.paragraph(f"{said}: {curve.reason}.")
    if curve.points:
        document.table(
            ["share of the rows", "rows", f"training {metric}", f"validation {metric}"],
            [[point.share, point.rows, point.train, point.validation] for point in curve.points],
        )
        document.image("Learning curve", CURVE_PLOT)


def _bottleneck(document: Document, timed: Breakdown | None) -> None:
    document.section("Bottleneck")
    if timed is None:
        document.paragraph("Not measured: the training ends before its second step.")
        return
    document.paragraph(f"Of {timed.steps} steps: {timed.text()}.")
    rows: list[Row] = [
        [part, timed.seconds[part] * 1000, share] for part, share in timed.shares.items()
    ]
    document.table(["part of a step", "ms", "share"], rows)
    document.paragraph(
        "The median step takes ", timed.step_s * 1000, " ms, and with one batch again and again, ",
        "so without loading, ", timed.repeated_s * 1000, " ms.",
    )  # fmt: skip


def _recommendations(document: Document, found: Examination) -> None:
    config: Mapping[str, Any] = found.evidence.config
    document.section("Recommendations")
    if not found.advice:
        document.paragraph("None: there is nothing to recommend.")
    for place, advice in enumerate(found.advice, start=1):
        entry = advice.recommendation
        document.section(f"{place}. {', '.join(entry.patch) or 'By hand'}", 3)
        if entry.patch:
            document.paragraph(f"{entry.instruction}.")
        document.paragraph(change_text(entry, config))
        low, high = advice.predicted
        document.paragraph(
            f"Against {advice.issue}; predicted {found.evidence.metric} ",
            low, " to ", high, f", argued from {advice.argued}.",
        )  # fmt: skip
    document.section("Proposed configuration")
    if found.preview:
        document.paragraph(
            f"{found.preview} is your configuration with the first patch in it, and nothing else:"
        )
        document.bullets(f"{key}: {value}" for key, value in found.patch.items())
    else:
        document.paragraph("None: no recommendation is a patch of the configuration.")
