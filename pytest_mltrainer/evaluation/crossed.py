"""The interval of a gain over several seeds that are all scored on the same samples.

Two things make such a gain uncertain, and they are crossed: every seed is scored on the same
samples. With D[s, i] what sample i adds to the gain of seed s (for a mean the difference itself,
for any other metric the difference of jackknife pseudo-values, whose mean spreads like the score;
Efron and Stein, Annals of Statistics 9 (1981) 586-596) the gain is the mean of D, and of

    seeds     variance of the means of the seeds, over S,
    samples   variance of the means of the samples, over n,
    residual  what neither explains, over S n: it is in both of the above,

its variance is seeds + samples - residual. The arm of the interval is

    sqrt((t(S - 1) seeds')^2 + (t(n - 1) samples')^2 - (z residual')^2),   x' = sqrt(x),

each part with its own quantile (Howe, JASA 69 (1974) 789-794), never shorter than either part
alone. One quantile for the sum, by Satterthwaite, fails with 3 seeds: it trusts a small variance
of three values, and called up to 4.5 of 100 gains real that were none, at a level of 2.5; this one
up to 2.8. As in Bonett and Price's interval for paired proportions (Journal of Educational and
Behavioral Statistics 37 (2012) 479-488) two more samples are imagined, one for each side, that
differ as much as those which differ: four samples of 60 prove nothing.

The interval holds for new seeds and new samples of the same kind. It knows nothing of how the
winner was chosen: choose by other seeds. What choosing by the same samples adds shows on the test
set alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pytest_mltrainer.core.measurement import Measurement
from pytest_mltrainer.evaluation.intervals import FEWEST_SAMPLES
from pytest_mltrainer.evaluation.metrics import Metric
from pytest_mltrainer.evaluation.predictions import Array, Predictions

POWER = 0.8
LARGEST_BLOCK = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeedPair:
    """What winner and reference, trained with the same fresh seed, say of the same samples."""

    seed: int
    winner: Predictions
    reference: Predictions


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """The mean gain with its interval, above 0 where the winner is better.

    `smallest` is the gain that so many seeds and samples, as different as these, show in 8 of 10
    repetitions; None without an interval.
    """

    measured: Measurement
    smallest: float | None


def crossed_gain(
    metric: Metric, pairs: Sequence[SeedPair], *, maximize: bool, confidence: float = 0.95
) -> Gain:
    """The gain over all pairs. No interval with one seed, fewer than 10 samples, or a score that is
    not finite. The targets of all pairs must be the same.
    """
    sign, n = 1 if maximize else -1, len(pairs[0].winner)
    gains = sign * np.array(
        [_score(metric, pair.winner) - _score(metric, pair.reference) for pair in pairs]
    )
    value = float(gains.mean())
    arm = smallest = None
    if len(pairs) > 1 and n >= FEWEST_SAMPLES and math.isfinite(value):
        each = [
            sign * (_pseudo_values(metric, pair.winner) - _pseudo_values(metric, pair.reference))
            for pair in pairs
        ]
        variances = _variances(np.stack(each), gains, counted=metric.scale == "proportion")
        arm = variances.arm((1 + confidence) / 2)
        smallest = None if arm is None else arm + (variances.arm(POWER) or 0.0)
    low, high = (None, None) if arm is None else (value - arm, value + arm)
    measured = Measurement(
        value=value, n=n, low=low, high=high, confidence=confidence, unit=metric.unit
    )
    return Gain(measured=measured, smallest=smallest)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Variances:
    """The three parts of the variance of a mean over S seeds and n samples."""

    seeds: float
    samples: float
    residual: float
    s: int
    n: int

    def arm(self, level: float) -> float | None:
        """How far the one-sided bound of `level` lies from the mean; None if not finite."""
        from scipy.stats import norm
        from scipy.stats import t as student

        by_seeds = student.ppf(level, self.s - 1) ** 2 * self.seeds
        by_samples = student.ppf(level, self.n - 1) ** 2 * self.samples
        twice = norm.ppf(level) ** 2 * self.residual
        arm = math.sqrt(max(by_seeds + by_samples - twice, by_seeds, by_samples))
        return arm if math.isfinite(arm) else None


def _variances(each: Array, gains: Array, *, counted: bool) -> _Variances:
    """The parts from D[s, i] and the gains of the seeds; `counted`: D holds -1, 0 and 1."""
    s, n = each.shape
    means, centre = each.mean(axis=0), each.mean()
    different = each[each != 0]
    # Samples of a proportion differ by 1, even where none of them does.
    size = float((different**2).mean()) if len(different) else float(counted)
    spread = float(((means - centre) ** 2).sum()) + 2 * size
    rest = each - each.mean(axis=1, keepdims=True) - means + centre
    return _Variances(
        seeds=float(gains.var(ddof=1)) / s,
        samples=spread / (n + 1) / n,
        residual=float((rest**2).sum()) / ((s - 1) * (n - 1)) / (s * n),
        s=s,
        n=n,
    )


def _pseudo_values(metric: Metric, predictions: Predictions) -> Array:
    """What each sample adds: n score - (n - 1) score without it; of a mean its own value."""
    own = metric.per_sample(predictions.outputs, predictions.targets)
    if own is not None:
        return own.astype(np.float64)
    with np.errstate(all="ignore"):
        tally = metric.tally(predictions.outputs, predictions.targets)
        total = np.asarray(tally.sum(axis=0), dtype=np.float64).reshape(-1)
        n, rows = len(predictions), max(1, LARGEST_BLOCK // len(total))
        without = [
            metric.combine(total - _dense(tally[start : start + rows]))
            for start in range(0, n, rows)
        ]
        return np.asarray(n * metric.combine(total) - (n - 1) * np.concatenate(without))


def _dense(part: Any) -> Array:
    return np.asarray(part if isinstance(part, np.ndarray) else part.toarray())


def _score(metric: Metric, predictions: Predictions) -> float:
    return metric.score(predictions.outputs, predictions.targets)
