"""What a detector reads (`Evidence`) and what it says (`Diagnosis`).

The evidence is lazy and may be incomplete: each part is None when the run did not record it. A
detector raises `NotJudged` with the reason when the part that it needs is missing.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

if TYPE_CHECKING:
    import numpy as np

Level = Literal["low", "medium", "high"]
Read = TypeVar("Read")


class Cause(IntEnum):
    """Kinds of causes, root cause before symptom: of two diagnoses the lower kind stands first."""

    DATA_NOT_FINITE = 1
    WIRING = 2
    LEAK_OR_SKEW = 3
    INIT_OR_SCALE = 4
    NUMERICS = 5
    GRADIENTS = 6
    LEARNING_RATE = 7
    LABELS = 8
    CAPACITY = 9
    OVERFITTING = 10
    RESOURCES = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochRecord:
    """One epoch as it was logged. `train` and `validation` hold loss and metrics by name.

    `memory_mb` is what the process held at its end, NaN where that is not known.
    """

    epoch: int
    steps: int
    learning_rate: float
    duration_s: float
    train: Mapping[str, float]
    validation: Mapping[str, float]
    memory_mb: float = math.nan


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that a run left behind for its diagnosis.

    `steps`: structured array, one row a step, fields `step`, `epoch`, `loss`, `gradient_norm`,
    `learning_rate`, `step_s`, `wait_s`. `layers`: structured array, one row a layer on each sampled
    step, whose field `layer` counts in `layer_names` and in `layer_types`, in order of depth
    (`training/observation/layer_records.py` says which fields). `profile`: measured facts of the
    data (`training/data/profile.py` says which). `probes`: measured facts of the model, its loss
    and its optimizer before training (`training/probes` says which). `trained`: facts of the
    trained model (`training/diagnosing/evidence.py` says which). `fault`: where a non-finite value
    first appeared (`training/observation/replay.py`). `references`: scores of simple models on the
    same data, in the objective's metric: `trivial`, `linear_train`, `linear_validation`,
    `attainable` (trees, on validation). `config`: the resolved configuration
    of the run. `config_reads`: the keys of `model` and `data` that the run read.
    """

    kind: str
    metric: str
    maximize: bool
    target: float | None
    config: Mapping[str, Any]
    config_reads: Sequence[str] = ()
    epochs: Sequence[EpochRecord] = ()
    planned_epochs: int = 0
    steps: "np.ndarray[Any, Any] | None" = None
    layers: "np.ndarray[Any, Any] | None" = None
    layer_names: Sequence[str] = ()
    layer_types: Sequence[str] = ()
    profile: Mapping[str, Any] | None = None
    probes: Mapping[str, Any] | None = None
    trained: Mapping[str, Any] | None = None
    fault: Mapping[str, Any] | None = None
    references: Mapping[str, float] = field(default_factory=dict)

    def setting(self, key: str) -> Any:
        """The configured value of a dotted key such as `training.learning_rate`, or None."""
        value: Any = self.config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Symptom:
    """One measured number beside the limit that it passed."""

    what: str
    measured: float
    limit: float
    unit: str = ""


def confidence(symptoms: Sequence[Symptom]) -> float:
    """How sure symptoms make, from 0.5 (one at its limit) to 0.98.

    A symptom at its limit is as likely chance as cause: 0.5; one ten-fold beyond it counts 0.95,
    on a logarithmic scale in between. Symptoms that agree count as independent witnesses:
    1 - product of (1 - each). Of limits or values that are not positive only the sign is known:
    0.7.
    """
    doubt = 1.0
    for symptom in symptoms:
        ratio = symptom.measured / symptom.limit if symptom.limit else math.nan
        known = math.isfinite(ratio) and ratio > 0
        doubt *= 1 - (0.5 + 0.45 * min(1.0, abs(math.log10(ratio))) if known else 0.7)
    return min(0.98, 1 - doubt)


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A small picture of the evidence: `y` over `x`, with an event at `mark` and a `limit` line."""

    title: str
    x_label: str
    y_label: str
    x: Sequence[float]
    y: Sequence[float]
    mark: float | None = None
    limit: float | None = None
    log: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """A change that should mend the cause.

    `patch` maps dotted configuration keys to new values and touches only keys that the run read;
    where no key can mend it, `patch` is empty and `instruction` says exactly what to do.
    `predicted` is the range of the objective's metric that is expected afterwards.
    """

    instruction: str
    patch: Mapping[str, Any] = field(default_factory=dict)
    impact: Level = "medium"
    effort: Level = "low"
    risk: Level = "low"
    predicted: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What is wrong in this run, where, by which numbers, and what to change."""

    id: str
    cause: Cause
    summary: str
    confidence: float
    symptoms: Sequence[Symptom]
    where: str = ""
    details: Sequence[str] = ()
    recommendations: Sequence[Recommendation] = ()
    curve: Curve | None = None

    def to_json(self) -> dict[str, Any]:
        """The diagnosis as it is stored; numbers that are not finite as text: JSON has no word."""
        stored: dict[str, Any] = _storable(asdict(self))
        return stored

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Diagnosis":
        """The diagnosis that `to_json` wrote."""
        recommendations = []
        for entry in stored["recommendations"]:
            predicted = entry["predicted"]
            recommendations.append(
                Recommendation(**{**entry, "predicted": tuple(predicted) if predicted else None})
            )
        return cls(
            **{
                **stored,
                "cause": Cause(stored["cause"]),
                "symptoms": tuple(_read(Symptom, entry) for entry in stored["symptoms"]),
                "details": tuple(stored["details"]),
                "recommendations": tuple(recommendations),
                "curve": _read(Curve, stored["curve"]) if stored.get("curve") else None,
            }
        )


def _storable(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _storable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(part) for part in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _read(made: Callable[..., Read], stored: Mapping[str, Any]) -> Read:
    """The numbers of a symptom or a curve, whose texts are `nan` and `inf` there, as numbers."""
    named = ("measured", "limit", "mark")
    known = {name: float(stored[name]) for name in named if stored.get(name) is not None}
    points = {name: tuple(map(float, stored[name])) for name in ("x", "y") if name in stored}
    return made(**{**stored, **known, **points})


class NotJudged(Exception):
    """Raised by a detector that cannot look; the text says which evidence is missing or why."""


class Detector(Protocol):
    """A diagnostic: `detect` says what it sees, or None; NotJudged is all that it raises."""

    def __call__(self, evidence: Evidence) -> Diagnosis | None:
        """The diagnosis that the evidence supports, or None. Raises NotJudged."""
        ...
