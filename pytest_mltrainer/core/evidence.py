"""What a detector reads (`Evidence`) and what it says (`Diagnosis`).

The evidence is lazy and may be incomplete: each part is None when the run did not record it. A
detector says nothing when the part that it needs is missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import numpy as np

Level = Literal["low", "medium", "high"]


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
    """One epoch as it was logged. `train` and `validation` hold loss and metrics by name."""

    epoch: int
    steps: int
    learning_rate: float
    duration_s: float
    train: Mapping[str, float]
    validation: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that a run left behind for its diagnosis.

    `steps`: structured array, one row a step, fields `step`, `epoch`, `loss`, `gradient_norm`,
    `learning_rate`, `step_s`, `wait_s`. `profile`: measured facts of the data
    (`training/profile.py` says which). `fault`: where a non-finite value first appeared
    (`training/replay.py`). `references`: scores of simple models on the same data, in the
    objective's metric: `trivial`, `linear_train`, `linear_validation`. `config`: the resolved
    configuration of the run. `config_reads`: the keys of `model` and `data` that the run read.
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
    profile: Mapping[str, Any] | None = None
    fault: Mapping[str, Any] | None = None
    references: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Symptom:
    """One measured number beside the limit that it passed."""

    what: str
    measured: float
    limit: float
    unit: str = ""


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

    def to_json(self) -> dict[str, Any]:
        """The diagnosis as it is stored."""
        return asdict(self)

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
                "symptoms": tuple(Symptom(**entry) for entry in stored["symptoms"]),
                "details": tuple(stored["details"]),
                "recommendations": tuple(recommendations),
            }
        )


class Detector(Protocol):
    """A diagnostic: `detect` says what it sees, or None. It never raises on odd evidence."""

    def __call__(self, evidence: Evidence) -> Diagnosis | None:
        """The diagnosis that the evidence supports, or None."""
        ...
