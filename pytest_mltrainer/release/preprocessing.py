"""What a service must hand to the model, measured on the data that trained it."""

from typing import Any

import numpy as np

from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.release.inputs import batch_of, leaves_of
from pytest_mltrainer.training.data.samples import evenly
from pytest_mltrainer.training.run import TrainingRun

LIMIT_ROWS = 2_000

DUTIES = (
    "Do to each request what the training data went through before the model: the same code for "
    "scaling, encoding and tokens, with the constants of the training split.",
    "Send arrays of the dtype and shape below, the batch first; another dtype is refused.",
    "Refuse a request with a value that is not finite.",
)
PADDING = (
    "Pad the requests of one batch to one size as the training did, or send them one by one: an "
    "axis whose size is any differs from request to request."
)


def preprocessing_contract(run: TrainingRun) -> dict[str, Any]:
    """`preprocessing.json`: dtype, shape and range of each input over up to 2,000 training samples.

    The range says what was seen, not what is allowed; a sample at a time is read, so the memory
    does not grow with the data.
    """
    dataset: Any = run.splits.train
    rows = evenly(len(dataset), LIMIT_ROWS)
    parts: dict[str, dict[str, Any]] = {}
    sums: dict[str, np.ndarray[Any, Any]] = {}
    for row in rows:
        for leaf in leaves_of(batch_of(run.task, dataset, [row])):
            values = leaf.values.astype(np.float64)
            finite = values[np.isfinite(values)]
            known = parts.setdefault(
                leaf.name,
                {"name": leaf.name, "dtype": str(leaf.values.dtype)}
                | {"shape": [-1, *leaf.values.shape[1:]], "minimum": np.inf, "maximum": -np.inf},
            )
            known["shape"] = _either(known["shape"], leaf.values.shape)
            if finite.size:
                known["minimum"] = min(known["minimum"], float(finite.min()))
                known["maximum"] = max(known["maximum"], float(finite.max()))
            moments = np.array([finite.size, finite.sum(), (finite**2).sum()])
            sums[leaf.name] = sums.get(leaf.name, np.zeros(3)) + moments
    return {
        "measured_on": "train",
        "rows": len(rows),
        "inputs": [_with_moments(part, sums[name]) for name, part in parts.items()],
        "duties": [*DUTIES, *([PADDING] if any(map(_varies, parts.values())) else [])],
    }


def _either(known: list[int], shape: tuple[int, ...]) -> list[int]:
    """-1 for the batch and wherever samples differ."""
    if len(known) != len(shape):
        raise UserError(
            f"samples of the training split have {len(known)} axes or {len(shape)} after "
            "`collate`, wanted one number of axes"
        )
    pairs = zip(known[1:], shape[1:], strict=True)
    return [-1, *(one if one == other else -1 for one, other in pairs)]


def _varies(part: dict[str, Any]) -> bool:
    return -1 in part["shape"][1:]


def _with_moments(part: dict[str, Any], sums: "np.ndarray[Any, Any]") -> dict[str, Any]:
    count, total, squares = (float(value) for value in sums)
    if not count:
        return part | {"minimum": None, "maximum": None, "mean": None, "standard_deviation": None}
    mean = total / count
    deviation = max(squares / count - mean**2, 0.0) ** 0.5
    return part | {"mean": mean, "standard_deviation": deviation}
