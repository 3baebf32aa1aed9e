"""How far an optimizer can have moved the weights, whatever the loss says."""

import math
from statistics import fmean

from pytest_mltrainer.diagnostics.readings import adaptive, finite, setting, step_values

from pytest_mltrainer.core.evidence import Evidence

# Weights start near 0.1 in size. Adam moves each by the learning rate at most; SGD moves all
# together by learning rate times gradient norm. Below these sums nothing can have been learned.
ADAPTIVE_TRAVEL, PLAIN_TRAVEL = 0.02, 0.1
USUAL_MOMENTUM = 0.9


def travel(evidence: Evidence) -> float | None:
    """How far the weights can have moved; None when it was not recorded or is not finite.

    With Adam and its kin each of them, by the sum of the learning rates; else all together, by the
    sum of learning rate times gradient norm, over 1 - momentum.
    """
    rates = step_values(evidence, "learning_rate")
    if adaptive(evidence):
        total = sum(rates)
    else:
        norms = step_values(evidence, "gradient_norm")
        moves = (rate * norm for rate, norm in zip(rates, norms, strict=False))
        total = sum(moves) / max(1 - momentum(evidence), 0.01)
    return total if rates and math.isfinite(total) else None


def least_travel(evidence: Evidence) -> float:
    """The travel below which nothing can have been learned."""
    return ADAPTIVE_TRAVEL if adaptive(evidence) else PLAIN_TRAVEL


def relative_travel(evidence: Evidence) -> float | None:
    """About how far the layer that moved most can have come, over the size of its weights.

    The mean of |dw| / |w| on the sampled steps times the number of steps; None where none is known.
    """
    if evidence.layers is None or evidence.steps is None:
        return None
    ratios: dict[int, list[float]] = {}
    for layer, ratio in zip(
        evidence.layers["layer"].tolist(), evidence.layers["update_ratio"].tolist(), strict=True
    ):
        if math.isfinite(ratio):
            ratios.setdefault(layer, []).append(ratio)
    means = [fmean(seen) for seen in ratios.values()]
    return max(means) * len(evidence.steps) if means else None


def momentum(evidence: Evidence) -> float:
    """The configured momentum; where none is known, of a loop of one's own, the usual 0.9."""
    configured = finite(setting(evidence, "training.momentum"))
    return USUAL_MOMENTUM if configured is None else configured
