"""Score intervals for proportions, which keep their coverage for small n and near 0 and 1."""

import math
from statistics import NormalDist

Interval = tuple[float, float]


def wilson(share: float, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval (1927) for a proportion `share` of `n`; n = 0 gives (0, 1).

    The closed form rather than scipy's `binomtest`, which wants whole counts; equal to it there.
    """
    if not 0 <= share <= 1 or n < 0:
        raise ValueError(f"found a proportion of {share} of {n}, wanted 0 to 1 of at least 0")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    arm = z / (1 + z**2 / n) * math.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # Rounding must not exclude the value itself at the ends of the scale.
    return min(max(centre - arm, 0.0), share), max(min(centre + arm, 1.0), share)


def newcombe(a: float, n_a: int, b: float, n_b: int, confidence: float = 0.95) -> Interval:
    """Newcombe's hybrid score interval for a - b of two independent samples.

    Statistics in Medicine 17 (1998) 873-890, method 10.
    """
    (low_a, high_a), (low_b, high_b) = wilson(a, n_a, confidence), wilson(b, n_b, confidence)
    below, above = math.hypot(a - low_a, high_b - b), math.hypot(high_a - a, b - low_b)
    return a - b - below, a - b + above


def newcombe_paired(
    both: int, only_a: int, only_b: int, neither: int, confidence: float = 0.95
) -> Interval:
    """Newcombe's score interval for the difference of two proportions on the same samples.

    Statistics in Medicine 17 (1998) 2635-2650, method 10: Wilson's limits of both sides joined
    with their correlation, continuity corrected, so that no disagreement at all still leaves an
    interval with a width.
    """
    n = both + only_a + only_b + neither
    a, b = (both + only_a) / n, (both + only_b) / n
    (low_a, high_a), (low_b, high_b) = wilson(a, n, confidence), wilson(b, n, confidence)
    phi = _correlation(both, only_a, only_b, neither)
    below = _joined(a - low_a, high_b - b, phi)
    above = _joined(high_a - a, b - low_b, phi)
    return a - b - below, a - b + above


def _joined(one: float, other: float, phi: float) -> float:
    return math.sqrt(max(one**2 - 2 * phi * one * other + other**2, 0.0))


def _correlation(both: int, only_a: int, only_b: int, neither: int) -> float:
    margins = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    if margins == 0:
        return 0.0
    excess = float(both * neither - only_a * only_b)
    if excess > 0:
        excess = max(excess - (both + only_a + only_b + neither) / 2, 0.0)
    return excess / math.sqrt(margins)
