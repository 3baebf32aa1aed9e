"""What to try next: the diagnoses' recommendations, made concrete, predicted and ranked."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pytest_mltrainer.core.config import Config, apply_patch, flatten
from pytest_mltrainer.core.errors import ConfigError
from pytest_mltrainer.core.evidence import Diagnosis, Evidence, Recommendation
from pytest_mltrainer.core.ranking import by_worth
from pytest_mltrainer.training.diagnosing.learning_curve import LearningCurve, goal_of
from pytest_mltrainer.training.diagnosing.remedies import CanPatch

MOST = 5
Range = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """One thing to try, for which issue, and how its predicted range was argued."""

    issue: str
    recommendation: Recommendation
    argued: str

    @property
    def predicted(self) -> Range:
        """The range of the objective's metric that is expected afterwards."""
        assert self.recommendation.predicted is not None
        return self.recommendation.predicted

    def to_json(self) -> dict[str, Any]:
        """The advice as it is stored."""
        return {"issue": self.issue, **asdict(self.recommendation), "argued": self.argued}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where the score stands and what it could reach; None where it is not known."""

    now: float | None
    trivial: float | None
    goal: float | None
    linear: float | None
    training: float | None
    maximize: bool

    def expected(self) -> tuple[Range, str]:
        """A cautious range for a change whose diagnosis predicts none.

        From the present score half the way to the best of what is known to be within reach:
        target, linear model, the model's own training score. A broken run starts from the trivial
        score, and may get all the way.
        """
        known = {"the target": self.goal, "the linear model": self.linear}
        if self.now is not None:
            known["the training score"] = self.training
        reach = {name: value for name, value in known.items() if value is not None}
        start = self.trivial if self.now is None else self.now
        if start is None or not reach:
            value = next((v for v in (start, *reach.values()) if v is not None), 0.0)
            return (value, value), "the one score that is known"
        better = max if self.maximize else min
        name = better(reach, key=reach.__getitem__)
        share = 1.0 if self.now is None else 0.5
        end = start + share * (better(reach[name], start) - start)
        subject = "a trivial model" if self.now is None else "the present score"
        way = "to" if share == 1.0 else "half the way to"
        return (min(start, end), max(start, end)), f"{subject} {way} {name}"


def standing(
    evidence: Evidence, curve: LearningCurve, now: float | None, trivial: float | None
) -> Standing:
    """The scores that predictions are argued from."""
    whole = curve.points[-1] if curve.points else None
    return Standing(
        now=now,
        trivial=trivial,
        goal=goal_of(evidence.target, evidence.references),
        linear=evidence.references.get("linear_validation"),
        training=whole.train.value if whole else None,
        maximize=evidence.maximize,
    )


def advise(
    issues: Sequence[Diagnosis], evidence: Evidence, position: Standing, can_patch: CanPatch
) -> tuple[Advice, ...]:
    """At most five things to try, most worth first; of equal changes the first one stays.

    A patch that does not validate, changes nothing, or touches keys that the run did not read
    becomes its instruction alone.
    """
    config = Config.from_json(dict(evidence.config))
    found: list[Advice] = []
    for issue in issues:
        for entry in issue.recommendations:
            concrete = _concrete(entry, config, evidence, can_patch)
            advice = _predicted(issue.id, concrete, position)
            if all(not _is_same(advice, other) for other in found):
                found.append(advice)
    ranked = by_worth(advice.recommendation for advice in found)
    place = {id(entry): index for index, entry in enumerate(ranked)}
    found.sort(key=lambda advice: place[id(advice.recommendation)])
    return tuple(found[:MOST])


def why_no_patch(
    patch: Mapping[str, Any], config: Config, evidence: Evidence, can_patch: CanPatch
) -> str:
    """Why a patch is none: it is refused, not read, or changes nothing. Empty when it is one."""
    unread = [key for key in patch if not can_patch(evidence, key)]
    if unread:
        return f"the run did not read {', '.join(unread)}"
    try:
        changed = apply_patch(config, patch)
    except ConfigError as error:
        return str(error)
    same = flatten(changed.to_json()) == flatten(config.to_json())
    return "it changes nothing" if same else ""


def search_advice(evidence: Evidence) -> tuple[Recommendation, ...]:
    """What to try where nothing is known to be wrong: the learning rate on both sides."""
    rate = evidence.config["training"]["learning_rate"]
    return tuple(
        Recommendation(
            instruction=f"{word} the learning rate three-fold",
            patch={"training.learning_rate": float(f"{rate * factor:.6g}")},
            impact="low",
        )
        for word, factor in (("lower", 1 / 3), ("raise", 3.0))
    )


def _concrete(
    entry: Recommendation, config: Config, evidence: Evidence, can_patch: CanPatch
) -> Recommendation:
    if entry.patch and why_no_patch(entry.patch, config, evidence, can_patch):
        return replace(entry, patch={})
    return entry


def _predicted(issue: str, entry: Recommendation, position: Standing) -> Advice:
    if entry.predicted is not None and all(math.isfinite(value) for value in entry.predicted):
        low, high = sorted(entry.predicted)
        entry, argued = replace(entry, predicted=(low, high)), f"the diagnosis {issue}"
    else:
        expected, argued = position.expected()
        entry = replace(entry, predicted=expected)
    return Advice(issue=issue, recommendation=entry, argued=argued)


def _is_same(one: Advice, other: Advice) -> bool:
    a, b = one.recommendation, other.recommendation
    return a.patch == b.patch and (bool(a.patch) or a.instruction == b.instruction)
