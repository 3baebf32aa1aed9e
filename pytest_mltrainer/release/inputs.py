"""Batches of inputs as plain arrays by name, and as a service is asked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pytest_mltrainer.export.signature import ONLY, as_array, named_leaves
from pytest_mltrainer.training.task import Task

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Leaf:
    """One array of a batch, by the name that the exports know it by."""

    name: str
    values: Array


def leaves_of(inputs: Any) -> list[Leaf]:
    """The arrays of a batch in the order in which exports take them."""
    return [Leaf(name=name, values=as_array(leaf)) for name, leaf in named_leaves(inputs).items()]


def request_of(inputs: Any) -> list[dict[str, Any]]:
    """A batch as `serve.py` is asked: name, dtype and values of each array."""
    return [
        {"name": leaf.name, "dtype": str(leaf.values.dtype), "values": leaf.values.tolist()}
        for leaf in leaves_of(inputs)
    ]


def nested(leaves: Sequence[Leaf]) -> Any:
    """The arrays as the monitor takes them: one by itself, several by name."""
    if [leaf.name for leaf in leaves] == [ONLY]:
        return leaves[0].values
    return {leaf.name: leaf.values for leaf in leaves}


def batch_of(task: Task, dataset: Any, rows: Sequence[int]) -> Any:
    """The collated inputs of some rows of a data set."""
    return task.collate([dataset[row] for row in rows])[0]
