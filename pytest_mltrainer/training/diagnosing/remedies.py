"""What helps a model that learns too little, or too much by heart, whoever says that it does."""

import math
from collections.abc import Callable, Mapping

from pytest_mltrainer.core.evidence import Evidence, Recommendation

CanPatch = Callable[[Evidence, str], bool]
"""Whether changing a dotted key would change the run."""
Range = tuple[float, float]

WIDTHS = ("model.width", "model.hidden")
"""What people call the size of their layers."""
DROPOUT, DROPOUT_STEP, MOST_DROPOUT = 0.3, 0.2, 0.6
DROPOUT_WORDS = ("drop", "keep", "kept")
LEAST_WIDTH = 32
NARROWABLE = 16
DECAY_DECOUPLED, DECAY_PENALTY = (0.1, 1.0), (1e-3, 1e-2)
"""Least and most weight decay: decoupled it is multiplied by the learning rate, else it is not."""


def against(kind: str, evidence: Evidence, can_patch: CanPatch) -> tuple[Recommendation, ...]:
    """What helps against what a learning curve shows; nothing where it shows nothing."""
    advice: dict[str, tuple[Recommendation, ...]] = {
        "bias": (longer(evidence, can_patch), wider(evidence, can_patch)),
        "variance": (
            more_dropout(evidence, can_patch),
            more_decay(evidence, can_patch),
            Recommendation(
                instruction="augment the training data with changes that keep the target",
                impact="medium",
                effort="medium",
            ),
        ),
        "data": (
            Recommendation(
                instruction="collect as many training rows again as there are",
                impact="medium",
                effort="high",
            ),
            more_dropout(evidence, can_patch),
            more_decay(evidence, can_patch),
        ),
    }
    return advice.get(kind, ())


def dropout_setting(evidence: Evidence) -> str:
    """`model.dropout`; where there is none, the key of that share whose name speaks of it."""
    initial = (evidence.probes or {}).get("initial")
    dropped = initial.get("dropout") if isinstance(initial, Mapping) else None
    model = evidence.setting("model") or {}
    named = [
        key
        for key, value in model.items()
        if dropped and value == dropped and any(word in key.lower() for word in DROPOUT_WORDS)
    ]
    return f"model.{named[0]}" if len(named) == 1 and "dropout" not in model else "model.dropout"


def more_dropout(
    evidence: Evidence, can_patch: CanPatch, predicted: Range | None = None
) -> Recommendation:
    """Dropout of 0.3, or 0.2 more than now up to 0.6."""
    key = dropout_setting(evidence)
    present = _number(evidence, key)
    known = can_patch(evidence, key)
    new = DROPOUT if present < DROPOUT else min(MOST_DROPOUT, present + DROPOUT_STEP)
    return Recommendation(
        instruction=f"use dropout {new:.2g} before the last layer",
        patch={key: float(f"{new:.2g}")} if known and new > present else {},
        impact="medium",
        effort="low" if known else "medium",
        predicted=predicted,
    )


def more_decay(
    evidence: Evidence, can_patch: CanPatch, predicted: Range | None = None
) -> Recommendation:
    """Ten times the decay; at least 0.1 for AdamW, which multiplies it by the rate, else 1e-3."""
    decay = _number(evidence, "training.weight_decay")
    is_decoupled = evidence.setting("training.optimizer") == "adamw"
    least, most = DECAY_DECOUPLED if is_decoupled else DECAY_PENALTY
    new = max(decay, min(max(10 * decay, least), most))
    known = can_patch(evidence, "training.weight_decay") and new > decay
    return Recommendation(
        instruction="raise the weight decay tenfold",
        patch={"training.weight_decay": float(f"{new:.6g}")} if known else {},
        impact="medium",
        predicted=predicted,
    )


def wider(
    evidence: Evidence, can_patch: CanPatch, predicted: Range | None = None
) -> Recommendation:
    """Layers of four times the width, at least 32 units."""
    size = _width(evidence, can_patch)
    patch = {size[0]: max(4 * size[1], LEAST_WIDTH)} if size else {}
    by_hand = (
        "make the narrowest layer at least as wide as the number of classes and of "
        "useful features, and see that no activation or pooling throws the input away"
    )
    return Recommendation(
        instruction="make the model wider" if patch else by_hand,
        patch=patch,
        impact="medium",
        effort="medium",
        predicted=predicted,
    )


def narrower(
    evidence: Evidence, can_patch: CanPatch, predicted: Range | None = None
) -> tuple[Recommendation, ...]:
    """Half the width; nothing where no width of 16 or more is configured."""
    size = _width(evidence, can_patch)
    if size is None or size[1] < NARROWABLE:
        return ()
    return (
        Recommendation(
            instruction="halve the width of the model",
            patch={size[0]: size[1] // 2},
            effort="low",
            risk="medium",
            predicted=predicted,
        ),
    )


def longer(
    evidence: Evidence, can_patch: CanPatch, predicted: Range | None = None
) -> Recommendation:
    """Three times the epochs."""
    epochs = evidence.setting("training.epochs")
    known = isinstance(epochs, int) and can_patch(evidence, "training.epochs")
    return Recommendation(
        instruction="train three times as long",
        patch={"training.epochs": 3 * epochs} if known else {},
        impact="high",
        effort="medium",
        predicted=predicted,
    )


def _width(evidence: Evidence, can_patch: CanPatch) -> tuple[str, int] | None:
    for key in WIDTHS:
        size = evidence.setting(key)
        if isinstance(size, int) and size > 0 and can_patch(evidence, key):
            return key, size
    return None


def _number(evidence: Evidence, key: str) -> float:
    value = evidence.setting(key)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else 0.0
