"""Inputs of every layout that the data have, so that an axis whose size varies is known as such."""

from collections.abc import Callable, Iterable
from typing import Any

from pytest_mltrainer.export.signature import (
    ONLY,
    OUTPUTS,
    InputError,
    TensorSpec,
    merged,
    named_leaves,
    specs,
)
from pytest_mltrainer.training.data.samples import evenly
from pytest_mltrainer.training.task import Task

SAMPLES = 64
"""Of each data set; one that is longer than all of them is served as well, any size is any size."""


def layouts(task: Task, datasets: Iterable[Any], first: Any = None) -> list[Any]:
    """Inputs of single samples, one of each layout, behind `first` where there is one.

    Read are 64 samples of each data set, evenly spaced, each collated by itself.
    """
    found = {} if first is None else {specs(first, ONLY): first}
    for dataset in datasets:
        for row in evenly(len(dataset), SAMPLES):
            inputs = task.collate([dataset[row]])[0]
            found.setdefault(specs(inputs, ONLY), inputs)
    return list(found.values())


def signature_of(
    predict: Callable[[Any], Any], every: list[Any]
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """What goes in and what comes out, over inputs of every layout.

    Raises InputError when they differ in more than the sizes of axes, or hold no tensor at all.
    """
    if not named_leaves(every[0]):
        raise InputError(
            f"the model cannot be exported: its inputs are {type(every[0]).__name__} without a "
            "tensor: make tensors of them in `data` or `collate` of the task (of a text its tokens)"
        )
    taken = merged([specs(inputs, ONLY) for inputs in every])
    given = merged([specs(predict(inputs), OUTPUTS) for inputs in every])
    return taken, given
