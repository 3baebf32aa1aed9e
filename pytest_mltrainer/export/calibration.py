"""Inputs from which a format learns how large the values inside a model get."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pytest_mltrainer.export.signature import Array, as_array, named_leaves
from pytest_mltrainer.training.data.samples import evenly
from pytest_mltrainer.training.reproducibility import (
    RngState,
    derive_seed,
    digest_nested,
    fix_seeds,
)
from pytest_mltrainer.training.task import Task

SAMPLES = 256
LIMIT_BYTES = 2**28


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Inputs of single training samples, by name."""

    inputs: tuple[dict[str, Array], ...]

    def to_json(self) -> dict[str, Any]:
        """Where the samples are from, how many, and the digest of their inputs."""
        return {
            "split": "train",
            "samples": len(self.inputs),
            "sha256": digest_nested(self.inputs),
        }


def calibration_of(task: Task, training: Any) -> Calibration:
    """256 samples of the training split, evenly spaced, each collated by itself.

    The test set is never looked at: the file is judged on it. As many as fit into 256 MiB, one at
    least. What the data set draws at random is drawn from a seed of this purpose, so that the same
    data give the same samples again.
    """
    before = RngState.capture()
    fix_seeds(derive_seed(0, "calibration"))
    try:
        return Calibration(inputs=tuple(_within_limit(_inputs(task, training))))
    finally:
        before.restore()


def _inputs(task: Task, training: Any) -> Iterable[dict[str, Array]]:
    for row in evenly(len(training), SAMPLES):
        inputs = task.collate([training[row]])[0]
        yield {name: as_array(leaf) for name, leaf in named_leaves(inputs).items()}


def _within_limit(every: Iterable[dict[str, Array]]) -> Iterable[dict[str, Array]]:
    size = 0
    for inputs in every:
        size += sum(array.nbytes for array in inputs.values())
        if size > LIMIT_BYTES and size > sum(array.nbytes for array in inputs.values()):
            return
        yield inputs
