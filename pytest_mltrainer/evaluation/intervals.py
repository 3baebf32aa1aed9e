"""Scores, differences and changes with the intervals that say how far to trust them.

Proportions get score intervals (`proportions.py`), everything else a percentile bootstrap over
samples (over sequences for sequence tasks: tokens of one sequence are not independent) with
1,000 resamples and a fixed seed, so that the same predictions always give the same interval.

Everywhere: a score that is not finite has no interval; nor has a bootstrap of fewer than 10
samples, whose coverage is far below what it promises.
"""

import math

import numpy as np

from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.measurement import Measurement
from pytest_mltrainer.evaluation.metrics import Metric
from pytest_mltrainer.evaluation.predictions import Array, Predictions
from pytest_mltrainer.evaluation.proportions import Interval, newcombe, newcombe_paired, wilson

RESAMPLES = 1_000
FEWEST_SAMPLES = 10
MOST_GROUPS = 5_000
LARGEST_LOST_SHARE = 0.05
FEWEST_FOR_TREND = 10
"""Values of a curve below which its change has no interval."""
FEWEST_AT_AN_END = 4
MOST_BLOCKS = 100


def measure(metric: Metric, predictions: Predictions, confidence: float = 0.95) -> Measurement:
    """The score with its interval: Wilson's for a proportion, else the bootstrap's.

    A share whose resamples are all alike (every sample perfect) gets Wilson's interval too: n
    perfect samples don't prove perfection, and zeros and ones spread widest of all shares.
    """
    value, n = metric.score(predictions.outputs, predictions.targets), len(predictions)
    interval: Interval | None = None
    if math.isfinite(value) and metric.scale == "proportion":
        interval = wilson(value, n, confidence)
    elif math.isfinite(value):
        interval = _percentiles(_resampled(metric, predictions, seed=0), n, confidence)
        if interval and metric.scale == "share" and interval[0] == interval[1]:
            interval = wilson(min(max(value, 0.0), 1.0), n, confidence)
    return _measurement(value, n, interval, confidence, metric.unit)


def difference(
    metric: Metric, a: Predictions, b: Predictions, confidence: float = 0.95
) -> Measurement:
    """score(a) - score(b) of two independent samples; `n` is that of the smaller one.

    Newcombe's hybrid score interval for proportions, else the bootstrap of both samples. The
    sign is that of the subtraction, whether or not the metric is better when larger.
    """
    value_a = metric.score(a.outputs, a.targets)
    value_b = metric.score(b.outputs, b.targets)
    value, n = value_a - value_b, min(len(a), len(b))
    interval: Interval | None = None
    if math.isfinite(value) and metric.scale == "proportion":
        interval = newcombe(value_a, len(a), value_b, len(b), confidence)
    elif math.isfinite(value):
        apart = _resampled(metric, a, seed=0) - _resampled(metric, b, seed=1)
        interval = _percentiles(apart, n, confidence)
    return _measurement(value, n, interval, confidence, metric.unit)


def paired_difference(
    metric: Metric, a: Predictions, b: Predictions, confidence: float = 0.95
) -> Measurement:
    """score(a) - score(b) on the same samples in the same order, signed as the subtraction.

    Newcombe's paired score interval for proportions, at any n; else the bootstrap that draws the
    same samples for both. Raises UserError when the targets are not the same.
    """
    if not np.array_equal(a.targets, b.targets, equal_nan=a.targets.dtype.kind == "f"):
        raise UserError(
            f"paired difference of {metric.name}: the two sides have other targets "
            f"({len(a)} and {len(b)}): predict the same samples in the same order with both models"
        )
    value = metric.score(a.outputs, a.targets) - metric.score(b.outputs, b.targets)
    interval: Interval | None = None
    if math.isfinite(value) and metric.scale == "proportion":
        right_a, right_b = (
            np.asarray(metric.per_sample(p.outputs, p.targets)) == 1 for p in (a, b)
        )
        both, only_a = int((right_a & right_b).sum()), int((right_a & ~right_b).sum())
        only_b, neither = int((~right_a & right_b).sum()), int((~right_a & ~right_b).sum())
        interval = newcombe_paired(both, only_a, only_b, neither, confidence)
    elif math.isfinite(value):
        # The same seed and n draw the same samples on both sides: that is the pairing.
        apart = _resampled(metric, a, seed=0) - _resampled(metric, b, seed=0)
        interval = _percentiles(apart, len(a), confidence)
    return _measurement(value, len(a), interval, confidence, metric.unit)


def change(values: Array, confidence: float = 0.95) -> Measurement:
    """How far the last tenth of a curve lies from the first: the median of all differences.

    Hodges and Lehmann's shift (1963) with the interval of the rank test, over the values of both
    ends (4 at least; of more than 100 the medians of 100 blocks). For curves that fall early and
    are flat afterwards, which a slope over everything misses; by ranks, because the first losses
    may lie orders of magnitude apart. Fewer than 10 values have no interval; NaN when a value at
    either end is not finite. Values count as independent, as losses of shuffled batches nearly are:
    noise in which neighbours are alike is called a change more often than 5 times in 100.
    """
    curve = np.asarray(values, dtype=np.float64).reshape(-1)
    n = len(curve)
    size = max(n // 10, min(FEWEST_AT_AN_END, n // 2))
    first, last = curve[:size], curve[n - size :]
    if n < 2 or not (np.isfinite(first).all() and np.isfinite(last).all()):
        return _measurement(math.nan, n, None, confidence, "")
    first, last = _thinned(first), _thinned(last)
    apart = np.sort((last[:, None] - first[None, :]).ravel())
    interval = _by_ranks(apart, len(first), confidence) if n >= FEWEST_FOR_TREND else None
    return _measurement(float(np.median(apart)), n, interval, confidence, "")


def _thinned(values: Array) -> Array:
    if len(values) <= MOST_BLOCKS:
        return values
    return np.array([np.median(block) for block in np.array_split(values, MOST_BLOCKS)])


def _by_ranks(apart: Array, size: int, confidence: float) -> Interval:
    """The interval of the shift from its sorted differences, `size` values on either side.

    The differences that Mann and Whitney's test would not reject, normal approximation.
    """
    from scipy.stats import norm

    spread = size * math.sqrt((2 * size + 1) / 12)
    outside = max(int(size**2 / 2 - norm.ppf(0.5 + confidence / 2) * spread), 1)
    return float(apart[outside - 1]), float(apart[-outside])


def smallest_detectable(n: int, p: float, confidence: float = 0.95) -> float:
    """How far a limit must lie from a proportion `p` measured on `n` samples to be decided.

    The longer arm of Wilson's interval; NaN for no samples or a `p` that is not finite.
    """
    if n <= 0 or not math.isfinite(p):
        return math.nan
    low, high = wilson(p, n, confidence)
    return max(p - low, high - p)


def _resampled(metric: Metric, predictions: Predictions, seed: int) -> Array:
    n = len(predictions)
    if n < FEWEST_SAMPLES:
        return np.full(RESAMPLES, np.nan)
    generator = np.random.default_rng(seed)
    with np.errstate(all="ignore"):
        tally = metric.tally(predictions.outputs, predictions.targets)
        if n > MOST_GROUPS:
            # Sums over random groups spread like the samples they stand for, at a bounded cost.
            tally = _grouped(tally, generator)
        size = tally.shape[0]
        rows = max(1, 2_000_000 // size)
        scores = []
        for start in range(0, RESAMPLES, rows):
            drawn = min(rows, RESAMPLES - start)
            places = generator.integers(0, size, (drawn, size)) + size * np.arange(drawn)[:, None]
            counts = np.bincount(places.reshape(-1), minlength=drawn * size).reshape(drawn, size)
            scores.append(metric.combine(np.asarray(counts.astype(np.float64) @ tally)))
    return np.concatenate(scores)


def _grouped(tally: Array, generator: np.random.Generator) -> Array:
    from scipy import sparse

    n = tally.shape[0]
    group = generator.permutation(n) % MOST_GROUPS
    join = sparse.csr_array((np.ones(n), (group, np.arange(n))), shape=(MOST_GROUPS, n))
    return join @ tally  # type: ignore[no-any-return]


def _percentiles(scores: Array, n: int, confidence: float) -> Interval | None:
    """The middle `confidence` of the scores; None when too many resamples were undefined."""
    finite = scores[np.isfinite(scores)]
    if n < FEWEST_SAMPLES or len(finite) < (1 - LARGEST_LOST_SHARE) * len(scores):
        return None
    low, high = np.quantile(finite, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _measurement(
    value: float, n: int, interval: Interval | None, confidence: float, unit: str
) -> Measurement:
    low, high = interval or (None, None)
    return Measurement(value=value, n=n, low=low, high=high, confidence=confidence, unit=unit)
