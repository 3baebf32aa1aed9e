"""How detectors read evidence: tolerant of what is missing, on one scale for all metrics.

A detector never raises on odd evidence, so every reading here answers None, an empty list or False
when the part is absent, of another type, or not finite.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median

from pytest_mltrainer.core.evidence import Curve, Evidence

# The keys of `training` that only the built-in optimizer reads.
OPTIMIZER_KEYS = frozenset({"learning_rate", "momentum", "weight_decay"})
CURVE_BINS = 12
MOST_POINTS = 200
# Beyond this size a number overflows in the next square or sum: as good as not finite.
OVERFLOW = 1e100
HIGH_DROPOUT = 0.5
# Weight decay above which shrinking rivals learning: decoupled (AdamW), as an L2 penalty (others).
HIGH_DECAY = (0.5, 1e-2)
ADAPTIVE = ("adam", "adamw", "nadam", "radam", "rmsprop")


def finite(value: object) -> float | None:
    """The value as a float, or None when it is no finite number below 1e100. Text is read too."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        read = float(value)
    except (ValueError, OverflowError):
        return None
    return read if abs(read) < OVERFLOW else None


def lookup(tree: object, *path: str) -> object:
    """The value at `path` in nested mappings, or None."""
    for key in path:
        if not isinstance(tree, Mapping):
            return None
        tree = tree.get(key)
    return tree


def number_in(tree: object, *path: str) -> float | None:
    """The finite number at `path` in nested mappings, or None."""
    return finite(lookup(tree, *path))


def text_in(tree: object, *path: str) -> str:
    """The text at `path` in nested mappings, or an empty text."""
    found = lookup(tree, *path)
    return found if isinstance(found, str) else ""


def setting(evidence: Evidence, key: str) -> object:
    """The configured value of a dotted key such as `training.learning_rate`, or None."""
    return evidence.setting(key)


def can_patch(evidence: Evidence, key: str) -> bool:
    """Whether changing `key` would change the run: it is in the configuration and was read.

    Keys of `model` and `data` count when the run recorded reading them; keys of the optimizer do
    not when the task builds its own.
    """
    section, _, name = key.partition(".")
    if section in ("model", "data"):
        return key in evidence.config_reads
    own_optimizer = setting(evidence, "training.optimizer") == "task"
    known = (
        isinstance(lookup(evidence.config, section), Mapping) and name in evidence.config[section]
    )
    return known and not (own_optimizer and name in OPTIMIZER_KEYS)


def adaptive(evidence: Evidence) -> bool:
    """Whether the optimizer scales each step by the gradient's size (Adam and its kin)."""
    return text_in(evidence.config, "training", "optimizer").lower() in ADAPTIVE


def high_decay(evidence: Evidence) -> bool:
    """Whether weight decay is so strong that shrinking rivals learning."""
    decay = finite(setting(evidence, "training.weight_decay")) or 0.0
    decoupled = setting(evidence, "training.optimizer") == "adamw"
    return decay >= HIGH_DECAY[0 if decoupled else 1]


def high_dropout(evidence: Evidence) -> bool:
    """Whether dropout silences half of the units or more, by its modules or as configured."""
    measured = number_in(evidence.probes, "initial", "dropout")
    configured = finite(setting(evidence, "model.dropout"))
    return max(measured or 0.0, configured or 0.0) >= HIGH_DROPOUT


def epoch_values(evidence: Evidence, split: str, name: str) -> list[float]:
    """What each epoch logged under `name`, oldest first, non-finite included, absent left out."""
    logs = (getattr(record, split) for record in evidence.epochs)
    values = (log[name] for log in logs if isinstance(log, Mapping) and name in log)
    return [
        float(value)
        for value in values
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    ]


def step_values(evidence: Evidence, name: str) -> list[float]:
    """A column of the step telemetry, non-finite included; empty when not recorded."""
    if evidence.steps is None or name not in (evidence.steps.dtype.names or ()):
        return []
    return [float(value) for value in evidence.steps[name].tolist()]


def broken(evidence: Evidence) -> bool:
    """Whether a non-finite loss ended the learning: then curves and scores say nothing."""
    logged = epoch_values(evidence, "train", "loss") + step_values(evidence, "loss")
    return bool(evidence.fault) or not all(abs(value) < OVERFLOW for value in logged)


def loss_curve(evidence: Evidence) -> list[float]:
    """The smoothed training loss: per epoch, or 12 means over the steps of a shorter run.

    Empty with under 6 epochs and under 24 steps. Never the raw loss of a batch, whose noise is no
    symptom.
    """
    epochs = epoch_values(evidence, "train", "loss")
    if len(epochs) >= 6:
        return epochs
    steps = step_values(evidence, "loss")
    if len(steps) < 2 * CURVE_BINS:
        return []
    edges = [len(steps) * index // CURVE_BINS for index in range(CURVE_BINS + 1)]
    return [mean(steps[low:high]) for low, high in pairwise(edges)]


def rose_at_once(evidence: Evidence) -> float | None:
    """The typical loss of updates 3 to 12 over the very first loss; None when not recorded.

    Above 2, the first steps overshot: each of the ten weighs alike, so that one odd batch does not
    count. None for a first loss that is not positive.
    """
    losses = step_values(evidence, "loss")[:13]
    if len(losses) < 8 or not losses[0] > 0 or any(finite(value) is None for value in losses):
        return None
    return median(losses[3:]) / losses[0]


def picture(
    title: str,
    labels: tuple[str, str],
    x: Sequence[float],
    y: Sequence[float],
    *,
    mark: float | None = None,
    limit: float | None = None,
    log: bool = False,
) -> Curve | None:
    """A curve of at most 200 points, evenly picked; values that are not finite are left out.

    None for fewer than two points, and a linear scale where a value is not positive.
    """
    points = [(a, b) for a, b in zip(x, y, strict=False) if finite(a) is not None
              and finite(b) is not None]  # fmt: skip
    if len(points) < 2:
        return None
    every = -(-len(points) // MOST_POINTS)
    shown = points[::every]
    return Curve(
        title=title,
        x_label=labels[0],
        y_label=labels[1],
        x=tuple(float(a) for a, _ in shown),
        y=tuple(float(b) for _, b in shown),
        mark=mark,
        limit=limit,
        log=log and all(b > 0 for _, b in shown),
    )


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean of a non-empty sequence."""
    return math.fsum(values) / len(values)


def last_third(values: Sequence[float]) -> Sequence[float]:
    """The last third of the values, two at least where there are two."""
    return values[-max(2, len(values) // 3) :]


def fall(values: Sequence[float]) -> float:
    """How far a least-squares line through `values` falls, as a share of their mean size.

    Negative when it rises; 0 for fewer than two values or values of size 0.
    """
    size = mean([abs(value) for value in values]) if values else 0.0
    if len(values) < 2 or size == 0:
        return 0.0
    middle, level = (len(values) - 1) / 2, mean(values)
    covariance = math.fsum((i - middle) * (value - level) for i, value in enumerate(values))
    slope = covariance / math.fsum((i - middle) ** 2 for i in range(len(values)))
    return -slope * (len(values) - 1) / size
