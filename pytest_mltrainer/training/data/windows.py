"""Windows cut from one recording that overlap across splits: the same values, further along."""

from typing import Any

import numpy as np

from pytest_mltrainer.training.data.columns import LIMIT_SHOWN, Array
from pytest_mltrainer.training.data.samples import BLOCKS, LIMIT_COLUMNS, Samples, evenly

RUN = 8
"""So many values that follow one another, all different and no whole numbers, seldom meet twice."""
LIMIT_ROWS = 2_000
_FACTORS = np.random.default_rng(0).integers(2**62, size=RUN, dtype=np.uint64) * 2 + 1


def window_facts(splits: dict[str, Samples]) -> dict[str, Any]:
    """Samples in the midst of which a training sample begins, by pair of splits.

    Bit for bit, in all that both hold: a channel that repeats by nature, such as the time of day,
    is no overlap. From the second value on: equal beginnings are copies, or what rows of one origin
    share in the same columns. A later split of one recording begins behind all of training and has
    none. Up to 2,000 rows are looked at. Not judged under 16 values of real numbers.
    """
    rows = {name: split.features for name, split in splits.items()}
    train, width = rows["train"], splits["train"].width
    most = LIMIT_COLUMNS if splits["train"].tabular else BLOCKS
    if train is None or not 2 * RUN <= width <= most:
        return {"judged": False, "reason": f"no samples of {2 * RUN} to {most} values"}
    begins = np.ascontiguousarray(train[:, :RUN])
    telling = np.flatnonzero(_tell(begins))
    if not telling.size:
        return {"judged": False, "reason": f"no sample begins with {RUN} different real numbers"}
    known = dict(zip(_runs(begins[telling])[:, 0].tolist(), telling.tolist(), strict=True))
    return {
        "judged": True,
        "pairs": {
            f"train/{name}": _overlapping(splits, name, part, known)
            for name, part in rows.items()
            if name != "train" and part is not None
        },
    }


def _tell(begins: Array) -> Array:
    """Which of them are all different, finite, and no whole numbers."""
    is_real = np.isfinite(begins) & (begins != np.round(begins))
    are_different = np.diff(np.sort(begins, axis=1), axis=1) != 0
    return np.asarray(is_real.all(axis=1) & are_different.all(axis=1))


def _overlapping(
    splits: dict[str, Samples], name: str, part: Array, known: dict[int, int]
) -> dict[str, Any]:
    looked_at = evenly(len(part), LIMIT_ROWS)
    runs = _runs(part[looked_at])[:, 1:]
    found = np.isin(runs, np.fromiter(known, dtype=np.uint64))
    begun = [(int(row), int(found[row].argmax())) for row in np.flatnonzero(found.any(axis=1))]
    length = (splits["train"].layout or [("", (1,))])[0][1][-1]
    begins = splits["train"].features
    hits = [
        (row, place)
        for row, place in begun
        if begins is not None
        and _goes_on(part[looked_at[row]], begins[known[int(runs[row, place])]], place + 1, length)
    ]
    return {
        "overlapping": len(hits),
        "of": len(looked_at),
        "share": len(hits) / max(len(looked_at), 1),
        "examples": [
            [
                "train",
                splits["train"].rows[known[int(runs[row, place])]],
                name,
                splits[name].rows[looked_at[row]],
                place + 1,
            ]
            for row, place in hits[:LIMIT_SHOWN]
        ],
    }


def _goes_on(sample: Array, train: Array, place: int, length: int) -> bool:
    """Whether all that follows is the training sample: of each channel in turn, or of all steps."""
    if np.array_equal(sample[place:], train[: len(train) - place]):
        return True
    if place >= length or len(sample) % length:
        return False
    channels, others = sample.reshape(-1, length), train.reshape(-1, length)
    return np.array_equal(channels[:, place:], others[:, : length - place])


def _runs(rows: Array) -> Array:
    """A number for every run of values, by sample and by where the run begins."""
    bits = np.ascontiguousarray(rows).view(np.uint32)
    places = bits.shape[1] - RUN + 1
    hashed = np.zeros((len(bits), places), dtype=np.uint64)
    for step in range(RUN):
        hashed += bits[:, step : step + places] * _FACTORS[step]
    return hashed
