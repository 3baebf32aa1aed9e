"""What a diagnosis comes to: computed from the baseline's artifacts and what was measured beside.

The phase writes it, its gate computes it anew.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pytest_mltrainer.core.decision import Decision, decide_diagnosis
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.evidence import Cause, Detector, Diagnosis, Evidence, Symptom
from pytest_mltrainer.core.measurement import Measurement, number
from pytest_mltrainer.core.ranking import Findings, diagnose
from pytest_mltrainer.core.route import PREVIEWS
from pytest_mltrainer.evaluation.intervals import FEWEST_FOR_TREND, change
from pytest_mltrainer.evaluation.trivial import trivial_predictions
from pytest_mltrainer.training.diagnosing.evidence import gather_evidence
from pytest_mltrainer.training.diagnosing.learning_curve import (
    GAP,
    CurvePlan,
    LearningCurve,
    goal_of,
    judge_curve,
    raw_predictions,
)
from pytest_mltrainer.training.diagnosing.recommended import (
    Advice,
    advise,
    search_advice,
    standing,
)
from pytest_mltrainer.training.diagnosing.remedies import CanPatch, against
from pytest_mltrainer.training.run import TrainingRun, training_targets

MOST_CAUSES = 4
FULL_MATCH = 0.75
GUIDANCE = {"bias": "underfitting", "variance": "overfitting", "data": "overfitting"}
"""Which page of guidance belongs to what the learning curve shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """A symptom of the issue, and whether the measured value shows it."""

    what: str
    measured: float
    limit: float
    matched: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """Why a baseline cannot be built on, with the number that says so."""

    reason: str
    symptom: Symptom


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """Everything that the phase concludes, ready to be stored, reported, or compared.

    `causes` begin with the primary issue; none of both where the baseline is near optimal.
    """

    evidence: Evidence
    findings: Findings
    curve: LearningCurve
    broken: Broken | None
    causes: tuple[Diagnosis, ...]
    signs: tuple[Sign, ...]
    advice: tuple[Advice, ...]
    decision: Decision

    @property
    def issue(self) -> Diagnosis | None:
        """What to act on first."""
        return self.causes[0] if self.causes else None

    @property
    def guidance(self) -> str:
        """The diagnostic whose page of guidance belongs to the issue; empty where none does."""
        name = self.issue.id if self.issue else ""
        return GUIDANCE.get(name, name if self.findings.primary else "")

    @property
    def match(self) -> str:
        """`full` from three of four symptoms on, else `partial`; empty without symptoms."""
        if not self.signs:
            return ""
        share = sum(sign.matched for sign in self.signs) / len(self.signs)
        return "full" if share >= FULL_MATCH else "partial"

    @property
    def patch(self) -> Mapping[str, Any]:
        """The first recommended patch: one change at a time, so that its effect can be told."""
        patches = (advice.recommendation.patch for advice in self.advice)
        return next((patch for patch in patches if patch), {})

    @property
    def preview(self) -> str:
        """The name of the proposed configuration; empty where there is nothing to patch."""
        return PREVIEWS.get(self.decision.status, "") if self.patch else ""

    def to_json(self) -> dict[str, Any]:
        """`diagnosis.json`: issue, consequences, symptoms and causes with their numbers."""
        return {
            "issue": self.issue.id if self.issue else None,
            "reason": self.decision.reason,
            "consequences": dict(self.findings.consequences) if self.issue else {},
            "guidance": self.guidance,
            "match": self.match,
            "symptoms": [asdict(sign) for sign in self.signs],
            "causes": [
                {
                    "id": cause.id,
                    "kind": cause.cause.name,
                    "summary": cause.summary,
                    "symptoms": [asdict(symptom) for symptom in cause.symptoms],
                }
                for cause in self.causes
            ],
        }


def examine(
    run: TrainingRun, detectors: Mapping[str, Detector], can_patch: CanPatch
) -> Examination:
    """Diagnose the baseline behind the diagnosis `run`, whose measurements are there already."""
    baseline = baseline_of(run)
    evidence = gather_evidence(baseline, evaluated=baseline.can_be_evaluated)
    findings = diagnose(evidence, detectors)
    broken = why_broken(baseline)
    curve = read_curve(run, baseline, evidence)
    score = None if broken else baseline.evaluation.validation.objective
    near_optimal = _near_optimal(baseline, findings, curve, score, evidence)
    causes: tuple[Diagnosis, ...] = ()
    if broken or not near_optimal:
        causes = causes_of(findings, curve, broken, evidence, score, can_patch)
    position = standing(
        evidence, curve, score.value if score else None, trivial_score(baseline, evidence)
    )
    return Examination(
        evidence=evidence,
        findings=findings,
        curve=curve,
        broken=broken,
        causes=causes,
        signs=_signs(baseline, causes, curve),
        advice=advise(causes, evidence, position, can_patch),
        decision=decide_diagnosis(
            broken=broken.reason if broken else "",
            near_optimal=near_optimal,
            issue=f"{causes[0].id}: {causes[0].summary.rstrip('.')}" if causes else "",
        ),
    )


def baseline_of(run: TrainingRun) -> TrainingRun:
    """The baseline that a diagnosis is about; both train by the same configuration."""
    return TrainingRun(run.project, run.config, "baseline")


def why_broken(baseline: TrainingRun) -> Broken | None:
    """Why the run cannot be built on: non-finite, too short, not learning, or at trivial level.

    As the baseline's own gate measures it. A gate that fails for want of proof is no broken run,
    but for too few updates: no gate could ever judge them, and longer training mends it.
    """
    if baseline.is_broken or not baseline.can_be_evaluated:
        fault = baseline.json("fault.json") if baseline.is_broken else {}
        where = f"{fault['what']} not finite at step {fault['step']}" if fault else "no checkpoint"
        symptom = Symptom(what="values that are not finite", measured=1.0, limit=0.0)
        return Broken(reason=where, symptom=symptom)
    losses = baseline.telemetry.steps["loss"]
    if len(losses) < FEWEST_FOR_TREND:
        symptom = Symptom(what="updates", measured=len(losses), limit=FEWEST_FOR_TREND)
        return Broken(reason=f"{len(losses)} updates are too few to learn from", symptom=symptom)
    trend = change(losses)
    if trend.high is not None and trend.high >= 0:
        symptom = Symptom(what="change of the training loss", measured=trend.high, limit=0.0)
        return Broken(reason=f"the training loss did not fall: {trend.text()}", symptom=symptom)
    lead = baseline.evaluation.validation.above_trivial
    if lead.low is None or not lead.low > 0:
        low = math.nan if lead.low is None else lead.low
        symptom = Symptom(what="advantage over a trivial model", measured=low, limit=0.0)
        return Broken(reason=f"no better than a trivial model: {lead.text()}", symptom=symptom)
    return None


def read_curve(run: TrainingRun, baseline: TrainingRun, evidence: Evidence) -> LearningCurve:
    """The learning curve from the raw predictions that the phase kept."""
    stored = run.json("capacity.json")
    plan = CurvePlan(**{**stored["plan"], "shares": tuple(stored["plan"]["shares"])})
    refused = plan.refused or stored["failed"]
    if refused:
        return LearningCurve(kind="not judged", reason=refused)
    return judge_curve(
        raw_predictions(run, baseline, plan),
        run.metric,
        maximize=run.maximize,
        goal=goal_of(evidence.target, evidence.references),
        trivial=evidence.references.get("trivial"),
    )


def _near_optimal(
    baseline: TrainingRun,
    findings: Findings,
    curve: LearningCurve,
    score: Measurement | None,
    evidence: Evidence,
) -> str:
    """Why nothing is left to gain: no diagnosis, and target met or a flat curve at the goal."""
    if findings.diagnoses or score is None:
        return ""
    decision = baseline.decide()
    if decision.next == "finalization":
        return f"no diagnostic saw anything, and {decision.reason}"
    linear = evidence.references.get("linear_validation")
    bound = score.high if evidence.maximize else score.low
    if curve.kind != "flat" or linear is None or bound is None:
        return ""
    reached = bound >= linear if evidence.maximize else bound <= linear
    level = f"{evidence.metric} {score.text()} is at the level of a linear model"
    return f"{level}, {number(linear)}, and more data bring nothing" if reached else ""


def causes_of(
    findings: Findings,
    curve: LearningCurve,
    broken: Broken | None,
    evidence: Evidence,
    score: Measurement | None,
    can_patch: CanPatch,
) -> tuple[Diagnosis, ...]:
    """The primary diagnosis and what stands beside it; else what the numbers alone show."""
    search = search_advice(evidence)
    if findings.primary is not None:
        primary, *others = (findings.primary, *findings.independent)
        if not any(cause.recommendations for cause in (primary, *others)):
            primary = replace(primary, recommendations=search)
        return (primary, *others)[:MOST_CAUSES]
    if broken is not None:
        return (_unexplained("broken", broken.reason, [broken.symptom], search),)
    if curve.kind in GUIDANCE:
        advice = against(curve.kind, evidence, can_patch)
        return (_unexplained(curve.kind, curve.reason, _curve_symptoms(curve), advice),)
    assert score is not None
    target = math.nan if evidence.target is None else evidence.target
    symptom = Symptom(what=f"validation {evidence.metric}", measured=score.value, limit=target)
    reason = f"short of the target, and nothing that was measured says why ({curve.reason})"
    return (_unexplained("unexplained", reason, [symptom], search),)


def _unexplained(
    name: str, summary: str, symptoms: Sequence[Symptom], advice: Sequence[Any]
) -> Diagnosis:
    kind = Cause.OVERFITTING if name in ("variance", "data") else Cause.CAPACITY
    return Diagnosis(
        id=name,
        cause=kind,
        summary=summary,
        confidence=0.5,
        symptoms=tuple(symptoms),
        recommendations=tuple(advice),
    )


def _curve_symptoms(curve: LearningCurve) -> list[Symptom]:
    measured = {
        "training ahead of validation": (curve.gap, GAP),
        "all rows ahead of half of them": (curve.rise, 0.0),
    }
    return [
        Symptom(what=what, measured=found.value, limit=limit)
        for what, (found, limit) in measured.items()
        if found is not None
    ]


def _signs(
    baseline: TrainingRun, causes: Sequence[Diagnosis], curve: LearningCurve
) -> tuple[Sign, ...]:
    """The issue's symptoms: as the baseline recorded them, and as the learning curve shows them."""
    if not causes:
        return ()
    recorded = _recorded(baseline, causes[0].id)
    signs = [
        Sign(
            what=entry.what,
            measured=entry.measured,
            limit=entry.limit,
            matched=recorded is None or _agrees(entry.measured, recorded.get(entry.what)),
        )
        for entry in causes[0].symptoms
    ]
    if curve.gap is not None and recorded is not None:
        gap = curve.gap
        ahead = bool(gap.low is not None and gap.low > 0 and gap.value >= GAP)
        wanted = {Cause.CAPACITY: False, Cause.OVERFITTING: True}.get(causes[0].cause)
        if wanted is not None:
            what = "training ahead of validation on the learning curve"
            matched = ahead is wanted
            signs.append(Sign(what=what, measured=gap.value, limit=GAP, matched=matched))
    return tuple(signs)


def _recorded(baseline: TrainingRun, name: str) -> dict[str, float] | None:
    """The symptoms of a diagnosis as the baseline recorded them; None where it has none such."""
    stored = Findings.from_json(baseline.json("diagnoses.json"))
    found = next((entry for entry in stored.diagnoses if entry.id == name), None)
    return {entry.what: entry.measured for entry in found.symptoms} if found else None


def _agrees(measured: float, recorded: float | None) -> bool:
    if recorded is None:
        return False
    return math.isclose(measured, recorded, rel_tol=1e-6) or str(measured) == str(recorded)


def trivial_score(baseline: TrainingRun, evidence: Evidence) -> float | None:
    """The score of a trivial model, which needs no model of ours; None for kinds without one."""
    if "trivial" in evidence.references:
        return evidence.references["trivial"]
    validation = replace(baseline.splits, train=baseline.splits.validation)
    targets = training_targets(validation)
    try:
        trivial = trivial_predictions(
            baseline.task.kind, training_targets(baseline.splits), targets
        )
    except UserError:
        return None
    return baseline.metric.score(trivial.outputs, trivial.targets)
