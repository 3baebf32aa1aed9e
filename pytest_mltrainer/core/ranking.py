"""From evidence to findings: every diagnostic is asked, root causes stand before symptoms."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from pytest_mltrainer.core.evidence import (
    Detector,
    Diagnosis,
    Evidence,
    NotJudged,
    Recommendation,
)
from pytest_mltrainer.core.relations import FOLLOWS

LEVELS = ("low", "medium", "high")
SHOWN_CHANGES = 2
SHOWN_OTHERS = 2
LINE_LIMIT = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What the diagnostics said.

    Diagnoses in order; who looked and saw nothing; who could not look for want of evidence, with
    the reason; who failed, with the error.
    """

    diagnoses: tuple[Diagnosis, ...] = ()
    silent: tuple[str, ...] = ()
    not_judged: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def primary(self) -> Diagnosis | None:
        """The diagnosis to act on first, or None when nothing was found."""
        return self.diagnoses[0] if self.diagnoses else None

    @property
    def consequences(self) -> Mapping[str, str]:
        """Diagnoses known to follow from the primary, by id with the reason, in their order.

        They may vanish once it is mended. What follows from a consequence follows as well.
        """
        found: dict[str, str] = {}
        if self.primary is not None:
            explained = [self.primary.id]
            for diagnosis in self.diagnoses[1:]:
                causes = (name for name in explained if diagnosis.id in FOLLOWS.get(name, {}))
                if (cause := next(causes, None)) is not None:
                    found[diagnosis.id] = FOLLOWS[cause][diagnosis.id]
                    explained.append(diagnosis.id)
        return found

    @property
    def independent(self) -> tuple[Diagnosis, ...]:
        """Diagnoses that no known relation ties to the primary one."""
        follows = self.consequences
        return tuple(found for found in self.diagnoses[1:] if found.id not in follows)

    def without(self, tried: Collection[Mapping[str, Any]]) -> "Findings":
        """The same but for the recommendations whose patch was tried already."""
        left = [
            replace(
                found,
                recommendations=tuple(
                    entry
                    for entry in found.recommendations
                    if not entry.patch or dict(entry.patch) not in tried
                ),
            )
            for found in self.diagnoses
        ]
        return replace(self, diagnoses=tuple(left))

    def to_json(self) -> dict[str, Any]:
        """The findings as they are stored."""
        return {
            "diagnoses": [diagnosis.to_json() for diagnosis in self.diagnoses],
            "silent": list(self.silent),
            "not_judged": dict(self.not_judged),
            "failed": dict(self.failed),
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Findings":
        """The findings that `to_json` wrote."""
        return cls(
            diagnoses=tuple(Diagnosis.from_json(entry) for entry in stored["diagnoses"]),
            silent=tuple(stored["silent"]),
            not_judged=dict(stored["not_judged"]),
            failed=dict(stored["failed"]),
        )


def diagnose(evidence: Evidence, detectors: Mapping[str, Detector]) -> Findings:
    """Ask every detector and order what they say by kind of cause, then by confidence.

    Ties keep the order of ids. What follows from another diagnosis (FOLLOWS) stands behind it,
    whichever kinds they are. A detector that raises something else than NotJudged, or answers
    something else than a Diagnosis or None, is recorded in `failed` and hides nothing that others
    found.
    """
    diagnoses, silent, not_judged, failed = [], [], {}, {}
    for name, detect in detectors.items():
        try:
            said: object = detect(evidence)
        except NotJudged as reason:
            not_judged[name] = str(reason)
            continue
        except Exception as error:  # a third party's detector may raise anything
            failed[name] = f"{type(error).__name__}: {error}"
            continue
        if isinstance(said, Diagnosis):
            diagnoses.append(said)
        elif said is None:
            silent.append(name)
        else:
            failed[name] = f"TypeError: returned {type(said).__name__}, wanted Diagnosis or None"
    diagnoses.sort(key=lambda found: (found.cause, -found.confidence, found.id))
    return Findings(
        diagnoses=_causes_first(diagnoses),
        silent=tuple(silent),
        not_judged=not_judged,
        failed=failed,
    )


def _causes_first(diagnoses: Iterable[Diagnosis]) -> tuple[Diagnosis, ...]:
    """The order given, but that each diagnosis waits for those that it follows from."""
    waiting, ordered = list(diagnoses), []
    while waiting:
        free = (
            found
            for found in waiting
            if not any(_only_follows(found.id, other.id) for other in waiting)
        )
        # Without a free one, relations would run in a circle: then the given order decides.
        ordered.append(next(free, waiting[0]))
        waiting.remove(ordered[-1])
    return tuple(ordered)


def _only_follows(name: str, cause: str) -> bool:
    return name in FOLLOWS.get(cause, {}) and cause not in FOLLOWS.get(name, {})


def by_worth(recommendations: Iterable[Recommendation]) -> tuple[Recommendation, ...]:
    """Most impact first, then least effort, then least risk; ties keep their order."""
    return tuple(
        sorted(
            recommendations,
            key=lambda entry: (
                -LEVELS.index(entry.impact),
                LEVELS.index(entry.effort),
                LEVELS.index(entry.risk),
            ),
        )
    )


def text(findings: Findings, config: Mapping[str, Any]) -> str:
    """The findings for the terminal, plain text, 4 to 10 lines with a diagnosis.

    `config` is the resolved configuration of the run: it gives the old values of the changes and
    the metric's name.
    """
    lines = []
    if findings.primary is None:
        lines.append(f"diagnosis: none; {_counted(findings.silent)} saw nothing")
    else:
        lines += _primary_lines(findings.primary, config)
    lines += _other_lines(findings, SHOWN_OTHERS - bool(findings.failed))
    if findings.failed:
        failures = "; ".join(f"{name}: {why}" for name, why in findings.failed.items())
        lines.append(_cut(f"  could not look: {failures}"))
    return "\n".join(lines)


def _primary_lines(found: Diagnosis, config: Mapping[str, Any]) -> list[str]:
    lines = [f"diagnosis: {found.id} (confidence {found.confidence:.2f})", f"  {found.summary}"]
    if found.where:
        lines.append(f"  where: {found.where}")
    if found.symptoms:
        shown = (
            f"{entry.what} {_value(entry.measured)}{entry.unit and ' ' + entry.unit}"
            f" (limit {_value(entry.limit)})"
            for entry in found.symptoms
        )
        lines.append(f"  measured: {'; '.join(shown)}")
    if found.details:
        lines.append(f"  seen: {'; '.join(found.details)}")
    changes = found.recommendations[:SHOWN_CHANGES]
    lines += [f"  change: {change_text(entry, config)}" for entry in changes]
    return [
        *(_cut(line, 2 * LINE_LIMIT) for line in lines),
        f"  more: pytest-mltrainer explain {found.id}",
    ]


def _other_lines(findings: Findings, most: int) -> list[str]:
    """What follows from the primary with the reason, then what stands beside it."""
    follows = findings.consequences
    by_id = {found.id: found for found in findings.diagnoses[1:]}
    lines = [
        f"  follows from it: {name} (confidence {by_id[name].confidence:.2f}): {reason}"
        for name, reason in follows.items()
    ]
    lines += [
        f"  independent: {found.id} (confidence {found.confidence:.2f}): {found.summary}"
        for found in findings.independent
    ]
    shown = [_cut(line) for line in lines[:most]]
    if rest := len(lines) - len(shown):
        shown[-1] += f" (and {rest} more)"
    return shown


def change_text(entry: Recommendation, config: Mapping[str, Any]) -> str:
    """One recommendation: old and new value of each key, or the instruction; then its worth.

    `training.learning_rate: 0.1 -> 0.01 (impact high, effort low, risk low; expected accuracy
    0.90 to 0.95)`.
    """
    keys = (
        f"{key}: {_value(_old_value(config, key))} -> {_value(new)}"
        for key, new in entry.patch.items()
    )
    worth = f"impact {entry.impact}, effort {entry.effort}, risk {entry.risk}"
    if entry.predicted is not None:
        low, high = entry.predicted
        worth += f"; expected {_metric_name(config)} {low:.2f} to {high:.2f}"
    return f"{', '.join(keys) or entry.instruction} ({worth})"


def _old_value(config: Mapping[str, Any], key: str) -> object:
    found: object = config
    for part in key.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def _metric_name(config: Mapping[str, Any]) -> str:
    name = _old_value(config, "objective.metric")
    return name if isinstance(name, str) else "metric"


def _value(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_value(entry)}" for key, entry in value.items()) + "}"
    return str(value)


def _counted(names: tuple[str, ...]) -> str:
    return f"{len(names)} diagnostic{'' if len(names) == 1 else 's'}"


def _cut(line: str, limit: int = LINE_LIMIT) -> str:
    flat = " ".join(line.splitlines())
    return flat if len(flat) <= limit else f"{flat[: limit - 3]}..."
