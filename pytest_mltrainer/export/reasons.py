"""Why a file says something else than the model: found by asking both again, in other batches."""

from typing import Any

import numpy as np

from pytest_mltrainer.export.generated import changed
from pytest_mltrainer.export.parity import Predict, compare
from pytest_mltrainer.export.precision import Precision
from pytest_mltrainer.export.signature import Array, named_leaves

SIZES = (1, 2, 3, 5, 8)


def why_they_differ(
    eager: Predict, exported: Predict, rows: Any, precision: Precision | None = None
) -> str:
    """What the disagreement comes from, in words; tried on the first of `rows`."""
    samples = len(next(iter(named_leaves(rows).values())))
    most = first(rows, min(max(SIZES), samples))
    ours, theirs = eager(most), _answer(exported, most)
    if not np.isfinite(ours).all():
        return "the model's outputs are not finite"
    if compare(ours, eager(most)).differs:
        return "the model answers the same inputs twice differently: dropout that is never off"
    if theirs is not None and not np.isfinite(theirs).all():
        overflow = precision.overflow if precision else ""
        return f"the file's outputs are not finite{overflow and ': '}{overflow}"
    if theirs is not None and compare(theirs, exported(most)).differs:
        return "the file answers the same inputs twice differently: exported in training mode"
    sizes = [size for size in SIZES if size <= samples]
    agreeing = [size for size in sizes if _agree(eager, exported, first(rows, size), precision)]
    if agreeing and len(agreeing) < len(sizes):
        found = ", ".join(map(str, agreeing))
        return f"they agree in batches of {found} only: the size of the batch became a constant"
    return _by_one_sample(exported, rows, theirs, precision)


def _by_one_sample(
    exported: Predict, rows: Any, together: Array | None, precision: Precision | None
) -> str:
    """What the answer to the first sample alone says, beside that within a batch."""
    alone = _answer(exported, first(rows, 1))
    if together is None or alone is None:
        return "the file refuses batches"
    if compare(alone, together[:1], precision=precision).differs:
        return (
            "in the file a sample's answer depends on the others of its batch: exported in "
            "training mode (batch normalisation), or a reduction over the batch"
        )
    rounding = f", or numbers that {precision.name} cannot hold" if precision else ""
    return (
        "the file agrees with itself: other weights, or an attribute that changed since the export"
        f"{rounding}"
    )


def first(rows: Any, size: int) -> Any:
    """The first `size` samples of a batch."""
    return changed(rows, lambda leaf: leaf[:size] if leaf.ndim else leaf)


def _agree(eager: Predict, exported: Predict, inputs: Any, precision: Precision | None) -> bool:
    theirs = _answer(exported, inputs)
    return theirs is not None and not compare(eager(inputs), theirs, precision=precision).differs


def _answer(exported: Predict, inputs: Any) -> Array | None:
    """The outputs, or None: a runtime refuses a batch whose size it does not know."""
    try:
        return exported(inputs)
    except Exception:  # each runtime has exceptions of its own
        return None
