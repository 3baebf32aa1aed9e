"""The comparison of winner and reference: what it calls real is real, and what is real it finds."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.evaluation.crossed import SeedPair, crossed_gain
from pytest_mltrainer.evaluation.improvement import Improvement, improvement
from pytest_mltrainer.evaluation.intervals import paired_difference
from pytest_mltrainer.evaluation.metrics import METRICS
from pytest_mltrainer.evaluation.predictions import Array, Predictions

REPETITIONS = 400
MOST_FALSE = 20
"""5 of 100."""

# Seeds, samples, spread between seeds, between samples of one configuration, and within both.
SETTINGS = [
    (3, 60, 0.3, 0.0, 0.5),
    (3, 60, 1.0, 0.3, 0.5),
    (3, 300, 0.03, 0.5, 0.05),
    (3, 300, 0.3, 0.0, 0.5),
    (3, 2000, 0.1, 0.6, 0.5),
    (3, 2000, 1.0, 0.3, 0.5),
    (5, 60, 0.1, 0.6, 0.5),
    (5, 300, 0.3, 0.3, 0.5),
    (5, 2000, 0.3, 0.0, 1.0),
]


def right_or_wrong(right: Array, labels: Array) -> Predictions:
    """Logits of two classes that name the label where `right`."""
    named = np.where(right, labels, 1 - labels)
    return Predictions(np.eye(2)[named].astype(np.float32), labels)


class Simulated:
    """Trainings of two configurations that differ by nothing that matters, or by `gain`.

    A latent score makes each answer: how easy the sample is, how good the seed was, how well the
    configuration suits the sample, and chance.
    """

    def __init__(self, random: np.random.Generator, *, gain: float = 0.0) -> None:
        self.random, self.gain = random, gain

    def latent(
        self, seeds: int, n: int, by_seed: float, by_sample: float, within: float
    ) -> tuple[Array, Array]:
        """The scores of winner and reference, (seeds, n)."""
        easy = self.random.normal(1.2, 2, n)
        winner, reference = (
            easy
            + self.random.normal(0, by_sample, n)
            + self.random.normal(0, by_seed, (seeds, 1))
            + self.random.normal(0, within, (seeds, n))
            for _ in range(2)
        )
        return winner + self.gain, reference

    def classified(self, *setting: float) -> list[SeedPair]:
        """Right where the latent score is positive."""
        winner, reference = self.latent(*setting)  # type: ignore[arg-type]
        labels = self.random.integers(0, 2, winner.shape[1])
        return [
            SeedPair(
                seed=seed,
                winner=right_or_wrong(winner[seed] > 0, labels),
                reference=right_or_wrong(reference[seed] > 0, labels),
            )
            for seed in range(len(winner))
        ]

    def estimated(self, *setting: float) -> list[SeedPair]:
        """An error of a distance of 10 less the latent score, so a gain is one of the mean."""
        winner, reference = self.latent(*setting)  # type: ignore[arg-type]
        zeros = np.zeros(winner.shape[1])
        return [
            SeedPair(
                seed=seed,
                winner=Predictions(20 - winner[seed], zeros),
                reference=Predictions(20 - reference[seed], zeros),
            )
            for seed in range(len(winner))
        ]


def found(make: Callable[[np.random.Generator], list[SeedPair]], metric: str) -> int:
    """How many repetitions are called significant, by the interval that stands in reports."""
    count = 0
    for repetition in range(REPETITIONS):
        pairs = make(np.random.default_rng(repetition))
        gain = crossed_gain(METRICS[metric], pairs, maximize=METRICS[metric].maximize).measured
        count += gain.low is not None and gain.low > 0
    return count


@pytest.mark.parametrize("setting", SETTINGS)
def test_what_changes_nothing_is_called_a_gain_at_most_5_times_in_100(
    setting: tuple[float, ...],
) -> None:
    assert found(lambda random: Simulated(random).classified(*setting), "accuracy") <= MOST_FALSE


@pytest.mark.parametrize(
    ("metric", "setting"),
    [
        ("macro_f1", (3, 60, 0.3, 0.3, 0.5)),
        ("balanced_accuracy", (3, 300, 0.3, 0.0, 0.5)),
        ("mae", (3, 60, 0.3, 0.5, 0.5)),
        ("mae", (5, 300, 0.03, 0.5, 0.05)),
        ("rmse", (3, 60, 0.1, 0.6, 0.5)),
    ],
)
def test_the_same_for_other_metrics(metric: str, setting: tuple[float, ...]) -> None:
    def make(random: np.random.Generator) -> list[SeedPair]:
        simulated = Simulated(random)
        open_score = METRICS[metric].scale == "open"
        return (simulated.estimated if open_score else simulated.classified)(*setting)

    assert found(make, metric) <= MOST_FALSE


@pytest.mark.parametrize("setting", [(3, 60, 0.3, 0.3, 0.5), (5, 300, 0.3, 0.0, 0.5)])
def test_a_gain_twice_as_large_as_the_smallest_is_mostly_found(setting: tuple[float, ...]) -> None:
    shams = [
        crossed_gain(
            METRICS["mae"],
            Simulated(np.random.default_rng(n)).estimated(*setting),
            maximize=False,
        )
        for n in range(50)
    ]
    smallest = float(np.median([sham.smallest for sham in shams if sham.smallest]))

    def share(gain: float) -> float:
        make = lambda random: Simulated(random, gain=gain).estimated(*setting)  # noqa: E731
        return found(make, "mae") / REPETITIONS

    assert share(2 * smallest) >= 0.9
    assert 0.6 <= share(smallest) <= 0.95


def test_four_samples_prove_nothing_and_six_do() -> None:
    labels = np.zeros(60, dtype=np.int64)

    def gain(better: int) -> Improvement:
        reference = right_or_wrong(np.arange(60) >= 10, labels)
        winner = right_or_wrong(np.arange(60) >= 10 - better, labels)
        pairs = [SeedPair(seed=seed, winner=winner, reference=reference) for seed in range(3)]
        return improvement(METRICS["accuracy"], pairs, maximize=True)

    assert gain(4).is_significant is False
    assert gain(6).is_significant is True


def test_one_seed_cannot_say() -> None:
    pairs = Simulated(np.random.default_rng(0), gain=5).classified(1, 300, 0.1, 0.1, 0.1)
    alone = improvement(METRICS["accuracy"], pairs, maximize=True)
    assert alone.absolute.value > 0
    assert (alone.is_significant, alone.absolute.low, alone.smallest) == (None, None, None)
    assert "1 seed: cannot be judged" in alone.text()


def test_scores_that_are_not_finite_cannot_be_judged() -> None:
    pairs = Simulated(np.random.default_rng(0)).classified(3, 60, 0.1, 0.1, 0.1)
    pairs[1].winner.outputs[3] = math.nan
    assert improvement(METRICS["accuracy"], pairs, maximize=True).is_significant is None


def test_the_same_model_on_both_sides_gains_nothing() -> None:
    pairs = Simulated(np.random.default_rng(0)).classified(3, 60, 0.1, 0.1, 0.1)
    same = [SeedPair(seed=p.seed, winner=p.winner, reference=p.winner) for p in pairs]
    result = improvement(METRICS["accuracy"], same, maximize=True)
    assert (result.absolute.value, result.is_significant) == (0, False)
    assert result.absolute.high is not None
    assert result.absolute.high > 0


def test_other_targets_are_refused() -> None:
    random = np.random.default_rng(0)
    pairs = [Simulated(random).classified(1, 60, 0.1, 0.1, 0.1)[0] for _ in range(2)]
    with pytest.raises(UserError, match="other targets"):
        improvement(METRICS["accuracy"], pairs, maximize=True)
    with pytest.raises(UserError, match="no seed with both sides"):
        improvement(METRICS["accuracy"], [], maximize=True)


@pytest.mark.parametrize("metric", ["macro_f1", "balanced_accuracy"])
def test_with_one_model_for_all_seeds_the_interval_is_that_of_the_samples(metric: str) -> None:
    pair = Simulated(np.random.default_rng(3), gain=0.4).classified(1, 1500, 0, 0.5, 0.5)[0]
    pairs = [SeedPair(seed=seed, winner=pair.winner, reference=pair.reference) for seed in range(3)]
    crossed = improvement(METRICS[metric], pairs, maximize=True).absolute
    bootstrap = paired_difference(METRICS[metric], pair.winner, pair.reference)
    assert crossed.value == pytest.approx(bootstrap.value)
    widths = [entry.high - entry.low for entry in (crossed, bootstrap)]  # type: ignore[operator]
    assert widths[0] == pytest.approx(widths[1], rel=0.1)


@settings(max_examples=50)
@given(
    right=arrays.arrays(np.bool_, (2, 3, 40)),
    order=st.permutations(range(3)),
)
def test_exchanged_sides_mirror_and_the_order_of_seeds_is_free(
    right: Array, order: list[int]
) -> None:
    labels = np.arange(40) % 2
    winner, reference = ([right_or_wrong(row, labels) for row in side] for side in right)
    one, other = (
        improvement(
            METRICS["accuracy"],
            [SeedPair(seed=seed, winner=a[seed], reference=b[seed]) for seed in seeds],
            maximize=True,
        )
        for a, b, seeds in ((winner, reference, range(3)), (reference, winner, order))
    )
    assert one.absolute.value == pytest.approx(-other.absolute.value)
    assert one.absolute.low == pytest.approx(-(other.absolute.high or 0))
    assert one.winner.value == pytest.approx(other.reference.value)
    assert not (one.is_significant and other.is_significant)


def test_the_scores_of_both_sides_cover_seeds_and_samples() -> None:
    pairs = Simulated(np.random.default_rng(1)).classified(3, 300, 1.0, 0.1, 0.1)
    result = improvement(METRICS["accuracy"], pairs, maximize=True)
    scores = [METRICS["accuracy"].score(p.winner.outputs, p.winner.targets) for p in pairs]
    assert result.winner.value == pytest.approx(np.mean(scores))
    assert result.winner.low is not None
    assert result.winner.high is not None
    assert result.winner.low < min(scores)
    assert max(scores) < result.winner.high <= 1
    assert [entry.seed for entry in result.seeds] == [0, 1, 2]


def test_what_is_stored_is_what_was_found() -> None:
    pairs = Simulated(np.random.default_rng(1), gain=1).classified(3, 300, 0.1, 0.1, 0.1)
    result = improvement(METRICS["accuracy"], pairs, maximize=True)
    assert result.absolute == crossed_gain(METRICS["accuracy"], pairs, maximize=True).measured
    stored = result.to_json()
    assert stored["absolute"]["low"] == result.absolute.low
    assert stored["is_significant"] is True
    assert result.relative is not None
    assert result.relative.value == pytest.approx(result.absolute.value / result.reference.value)
    assert "significant" in result.text()
