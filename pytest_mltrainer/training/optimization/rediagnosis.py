"""The diagnosis between two rounds: what holds back the best configuration so far."""

from collections.abc import Mapping
from typing import Any

from pytest_mltrainer.core.evidence import Detector, Evidence
from pytest_mltrainer.core.ranking import diagnose
from pytest_mltrainer.training.diagnosing.diagnosis import causes_of, trivial_score
from pytest_mltrainer.training.diagnosing.evidence import gather_evidence
from pytest_mltrainer.training.diagnosing.learning_curve import LearningCurve, goal_of, judge_point
from pytest_mltrainer.training.diagnosing.recommended import advise, standing
from pytest_mltrainer.training.diagnosing.remedies import CanPatch
from pytest_mltrainer.training.run import TrainingRun


def diagnose_again(
    run: TrainingRun, detectors: Mapping[str, Detector], can_patch: CanPatch
) -> tuple[str, list[dict[str, Any]]]:
    """The issue of a trained run, and what to try against it, as `recommendations.json` has it.

    Like the diagnosis of a baseline, but from the last point of the learning curve alone: the
    others take trainings of their own.
    """
    evidence = gather_evidence(run, evaluated=True)
    score = run.evaluation.validation.objective
    curve = _last_point(run, evidence)
    causes = causes_of(diagnose(evidence, detectors), curve, None, evidence, score, can_patch)
    position = standing(evidence, curve, score.value, trivial_score(run, evidence))
    advice = advise(causes, evidence, position, can_patch)
    return causes[0].id, [entry.to_json() for entry in advice]


def _last_point(run: TrainingRun, evidence: Evidence) -> LearningCurve:
    train, validation = run.evaluation.train, run.evaluation.validation
    return judge_point(
        train.predictions,
        validation.predictions,
        run.metric,
        maximize=run.maximize,
        goal=goal_of(evidence.target, evidence.references),
        trivial=evidence.references.get("trivial"),
    )
