"""Whether labels or values run in order: how unlike the whole consecutive samples are."""

from typing import Any

import numpy as np

from pytest_mltrainer.training.data.columns import Array
from pytest_mltrainer.training.data.targets import Column

SIZES = (8, 32, 128, 512, 2048)
VALUE_BINS = 10
FEWEST_ROWS = 50
SMALLEST_BLOCK = 4


def order_facts(column: Column, n: int) -> dict[str, Any]:
    """Run lengths of equal labels, beside chance, and how sorted batches of each size would be.

    `sorted` is 0 for batches as mixed as in random order and 1 for those of fully sorted samples:
    the mean distance (total variation) of a batch's label shares from all, between these two.
    Values are cut into ten bins. `z` is how many standard errors the number of neighbours with
    equal labels lies above chance. `n` is the split's size, of which `column` may be a sample.
    """
    if column.values is None:
        return {"judged": False, "reason": column.reason}
    values = column.values[np.isfinite(column.values)]
    if len(values) < FEWEST_ROWS:
        return {"judged": False, "reason": f"under {FEWEST_ROWS} samples"}
    codes = values if column.names else _binned(values)
    _, codes = np.unique(codes, return_inverse=True)
    if codes.max() == 0:
        return {"judged": False, "reason": "all targets are equal"}
    shares = np.bincount(codes) / len(codes)
    chance = float((shares**2).sum())
    equal = codes[1:] == codes[:-1]
    spread = np.sqrt(max(chance * (1 - chance), 1e-12) / len(equal))
    stride = n / len(codes)
    return {
        "judged": True,
        "run_length": float(len(codes) * stride / (1 + (~equal).sum())),
        "run_length_by_chance": 1 / (1 - chance),
        "z": float((equal.mean() - chance) / spread),
        "sorted": {
            str(size): _sortedness(codes, max(SMALLEST_BLOCK, round(size / stride)))
            for size in SIZES
            if size <= n / 2
        },
    }


def _sortedness(codes: Array, block: int) -> float | None:
    """None where even sorted samples would make batches hardly unlike the whole."""
    shuffled = np.random.default_rng(0).permutation(codes)
    low, found, high = (_distance(part, block) for part in (shuffled, codes, np.sort(codes)))
    return float((found - low) / (high - low)) if high - low > 0.05 else None


def _distance(codes: Array, block: int) -> float:
    whole = len(codes) // block * block
    classes = int(codes.max()) + 1
    blocks = np.repeat(np.arange(whole // block), block)
    counts = np.bincount(blocks * classes + codes[:whole], minlength=whole // block * classes)
    shares = counts.reshape(-1, classes) / block
    return float(np.abs(shares - np.bincount(codes) / len(codes)).sum(axis=1).mean() / 2)


def _binned(values: Array) -> Array:
    edges = np.unique(np.quantile(values, np.linspace(0, 1, VALUE_BINS + 1)[1:-1]))
    return np.searchsorted(edges, values)
