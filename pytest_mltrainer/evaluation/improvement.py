"""How much better a winner is than its reference: the honest comparison, ready to be told."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.measurement import Measurement, number
from pytest_mltrainer.evaluation.crossed import SeedPair, crossed_gain
from pytest_mltrainer.evaluation.intervals import measure, paired_difference
from pytest_mltrainer.evaluation.metrics import Metric
from pytest_mltrainer.evaluation.predictions import Array, Predictions


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedGain:
    """The scores with one seed; the interval of the gain is that of the samples alone."""

    seed: int
    winner: float
    reference: float
    gain: Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class Improvement:
    """The comparison; gains are above 0 where the winner is better, whatever the direction.

    `absolute` is in units of the metric, `relative` a share of the reference's mean score, taken as
    known (None where that is 0). `winner` and `reference` are mean scores over the seeds; their
    intervals cover seeds and samples. `smallest` is the gain that so many seeds and samples, as
    different as these, show in 8 of 10 repetitions. Without an interval it is None: with one seed,
    fewer than 10 samples, or a score that is not finite.
    """

    metric: str
    absolute: Measurement
    relative: Measurement | None
    winner: Measurement
    reference: Measurement
    smallest: float | None
    seeds: tuple[SeedGain, ...]

    @property
    def is_significant(self) -> bool | None:
        """Whether the interval lies above 0; None where there is no interval: it cannot be said."""
        return None if self.absolute.low is None else self.absolute.low > 0

    def text(self) -> str:
        """`gain in accuracy 0.0312 (n = 360, ...), 3.4 % of the reference, 3 seeds: ...`."""
        said = {True: "significant", False: "not significant", None: "cannot be judged"}
        parts = [f"gain in {self.metric} {self.absolute.text()}"]
        if self.relative is not None:
            parts.append(f"{self.relative.value * 100:.1f} % of the reference")
        parts.append(f"{len(self.seeds)} seed{'' if len(self.seeds) == 1 else 's'}")
        text = f"{', '.join(parts)}: {said[self.is_significant]}"
        if self.smallest is None:
            return text
        return f"{text}; {number(self.smallest)} would show in 8 of 10 repetitions"

    def to_json(self) -> dict[str, Any]:
        """The comparison as it is stored."""
        return {**asdict(self), "is_significant": self.is_significant}


def improvement(
    metric: Metric, pairs: Sequence[SeedPair], *, maximize: bool, confidence: float = 0.95
) -> Improvement:
    """Compare winner and reference over all seeds, see `crossed.py`.

    Raises UserError for no pair at all, and where the sides or the seeds have other targets.
    """
    if not pairs:
        raise UserError("improvement: no seed with both sides, wanted at least one: train them")
    seeds = tuple(_seed_gain(metric, pair, maximize, confidence) for pair in pairs)
    first = pairs[0].winner.targets
    if any(not _same(pair.winner.targets, first) for pair in pairs):
        raise UserError(
            "improvement: the seeds have other targets: predict the same samples with all of them"
        )
    gain = crossed_gain(metric, pairs, maximize=maximize, confidence=confidence)
    winner, reference = (
        _mean_score(metric, [getattr(pair, side) for pair in pairs], confidence)
        for side in ("winner", "reference")
    )
    base = abs(reference.value)
    return Improvement(
        metric=metric.name,
        absolute=gain.measured,
        relative=gain.measured.scaled(1 / base, "") if base > 0 else None,
        winner=winner,
        reference=reference,
        smallest=gain.smallest,
        seeds=seeds,
    )


def _seed_gain(metric: Metric, pair: SeedPair, maximize: bool, confidence: float) -> SeedGain:
    sides = (pair.winner, pair.reference)
    return SeedGain(
        seed=pair.seed,
        winner=metric.score(pair.winner.outputs, pair.winner.targets),
        reference=metric.score(pair.reference.outputs, pair.reference.targets),
        gain=paired_difference(metric, *(sides if maximize else sides[::-1]), confidence),
    )


def _mean_score(metric: Metric, each: Sequence[Predictions], confidence: float) -> Measurement:
    """The mean score over the seeds: the arm of the seeds, joined with a single run's mean arm.

    One run's samples spread wider than those of the mean over runs, so the interval is on the safe
    side; it ends where a share does.
    """
    from scipy.stats import t as student

    runs = [measure(metric, predictions, confidence) for predictions in each]
    values = np.array([run.value for run in runs])
    value, n = float(values.mean()), len(each[0])
    if len(runs) < 2 or any(run.low is None for run in runs):
        return Measurement(value=value, n=n, confidence=confidence, unit=metric.unit)
    spread = values.std(ddof=1) / math.sqrt(len(runs))
    by_seeds = student.ppf((1 + confidence) / 2, len(runs) - 1) * spread
    low = value - math.hypot(by_seeds, np.mean([run.value - (run.low or 0.0) for run in runs]))
    high = value + math.hypot(by_seeds, np.mean([(run.high or 0.0) - run.value for run in runs]))
    if metric.scale != "open":
        low, high = max(low, 0.0), min(high, 1.0)
    return Measurement(
        value=value, n=n, low=low, high=high, confidence=confidence, unit=metric.unit
    )


def _same(one: Array, other: Array) -> bool:
    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
