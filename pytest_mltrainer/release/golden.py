"""Requests with the answers that the tested model gave: what a deployment must repeat."""

from typing import Any

import numpy as np

from pytest_mltrainer.export.served import served_predictor
from pytest_mltrainer.release.inputs import batch_of, leaves_of, request_of
from pytest_mltrainer.training.data.samples import evenly
from pytest_mltrainer.training.run import TrainingRun

REQUESTS = 8
LIMIT_VALUES = 200_000
"""Numbers of all requests together: a few megabytes of text."""
TOLERANCE = 1e-4
"""Of the outputs' scale: float32 on another processor, far below what flips a decision."""


def golden_requests(run: TrainingRun) -> dict[str, Any]:
    """Single validation samples, evenly spaced, with the outputs of the best checkpoint.

    Where a format is served whose outputs cannot be compared with those of the checkpoint one by
    one (int8), with the outputs of that file. Samples that hold no finite numbers, or whose outputs
    are not finite, are left out.
    """
    predict, precision = served_predictor(run)
    dataset: Any = run.splits.validation
    requests: list[dict[str, Any]] = []
    values, scale = 0, 1.0
    for row in evenly(len(dataset), REQUESTS):
        inputs = batch_of(run.task, dataset, [row])
        leaves, outputs = leaves_of(inputs), predict(inputs)
        finite = all(np.isfinite(leaf.values).all() for leaf in leaves)
        values += sum(leaf.values.size for leaf in leaves)
        if not leaves or not finite or not np.isfinite(outputs).all():
            continue
        if requests and values > LIMIT_VALUES:
            break
        scale = max(scale, float(np.abs(outputs).max()))
        requests.append(
            {
                "row": row,
                "inputs": request_of(inputs),
                "outputs": outputs.tolist(),
            }
        )
    tolerance = precision.tolerance(scale) if precision else TOLERANCE * scale
    return {"split": "validation", "tolerance": tolerance, "requests": requests}
