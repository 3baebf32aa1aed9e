"""An export as a service would use it: asked for the test set, timed, and ill-treated."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pytest_mltrainer.export.parity import Parity, Predict, compare, decides_by
from pytest_mltrainer.export.precision import Precision
from pytest_mltrainer.export.signature import Array, as_array, named_leaves
from pytest_mltrainer.training.batches import evaluation_batches
from pytest_mltrainer.training.run import TrainingRun

WARM_UP, CALLS, LIMIT_S = 5, 50, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Percentiles over repeated calls, in milliseconds, and samples a second."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    samples_per_s: float

    def text(self) -> str:
        """One line."""
        return (
            f"p50 {self.p50_ms:.3f}, p95 {self.p95_ms:.3f}, p99 {self.p99_ms:.3f} ms, "
            f"{self.samples_per_s:,.0f} samples/s"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reaction:
    """What an export did with a bad input, beside what would be defined."""

    is_defined: bool
    text: str
    wanted: str


def batch_sizes(run: TrainingRun) -> list[int]:
    """1, 2 and the training batch size, as far as the test set reaches."""
    samples = len(run.splits.test)  # type: ignore[arg-type]
    return sorted({1, min(2, samples), min(run.config.training.batch_size, samples)})


def test_batches(run: TrainingRun) -> Iterator[Any]:
    """The inputs of the whole test set, batch by batch."""
    for inputs, _ in evaluation_batches(run.task, run.splits.test, run.config):
        yield inputs


test_batches.__test__ = False  # type: ignore[attr-defined]  # a name for people, not for pytest


def first_inputs(run: TrainingRun, size: int) -> Any:
    """The inputs of the first `size` test samples, as a batch."""
    return run.task.collate([run.splits.test[index] for index in range(size)])[0]


def parities(
    run: TrainingRun, eager: Predict, exported: Predict, precision: Precision | None = None
) -> Iterator[Parity]:
    """How far both agree on each batch of the test set; no batch is kept."""
    decides = decides_by(run.task.kind)
    for inputs in test_batches(run):
        yield compare(eager(inputs), exported(inputs), decides=decides, precision=precision)


def latency(predict: Predict, inputs: Any) -> Latency:
    """Times of 50 single calls, fewer where they take more than 5 s in all."""
    size = len(next(iter(named_leaves(inputs).values())))
    for _ in range(WARM_UP):
        predict(inputs)
    times: list[float] = []
    while len(times) < CALLS and sum(times) < LIMIT_S:
        start = time.perf_counter()
        predict(inputs)
        times.append(time.perf_counter() - start)
    p50, p95, p99 = (float(value) * 1e3 for value in np.percentile(times, [50, 95, 99]))
    return Latency(p50_ms=p50, p95_ms=p95, p99_ms=p99, samples_per_s=size / (p50 / 1e3))


def reactions(predict: Predict, run: TrainingRun) -> dict[str, Reaction]:
    """What the export does with NaN, a wrong shape, a wrong dtype and an empty batch.

    Each fault is in every input at once; NaN is tried where an input is of floating point.
    """
    inputs = first_inputs(run, min(2, len(run.splits.test)))  # type: ignore[arg-type]
    arrays = {name: as_array(leaf) for name, leaf in named_leaves(inputs).items()}
    found: dict[str, Reaction] = {}
    if any(array.dtype.kind == "f" for array in arrays.values()):
        outputs = _outputs(predict, arrays, _all_nan)
        hidden = outputs is not None and bool(np.isfinite(outputs).all())
        found["NaN in the inputs"] = Reaction(
            is_defined=not hidden,
            text="a finite answer" if hidden else "refused or not finite",
            wanted="refused or not finite",
        )
    for fault, spoil in {
        "an additional dimension": lambda array: array[..., None],
        "another dtype": _of_another_dtype,
    }.items():
        outputs = _outputs(predict, arrays, spoil)
        text = "refused" if outputs is None else f"outputs {outputs.shape}"
        found[fault] = Reaction(is_defined=outputs is None, text=text, wanted="refused")
    outputs = _outputs(predict, arrays, lambda array: array[:0])
    rows = 0 if outputs is None else len(outputs)
    found["an empty batch"] = Reaction(
        is_defined=rows == 0, text=f"{rows} outputs", wanted="refused or 0 outputs"
    )
    return found


def _all_nan(array: Array) -> Array:
    return np.full_like(array, np.nan) if array.dtype.kind == "f" else array


def _of_another_dtype(array: Array) -> Array:
    return array.astype(np.float64 if array.dtype != np.float64 else np.float32)


def _outputs(
    predict: Predict, arrays: dict[str, Array], spoil: Callable[[Array], Array]
) -> Array | None:
    """The outputs for spoiled inputs, or None when the export refuses them."""
    try:
        return predict({name: spoil(array) for name, array in arrays.items()})
    except Exception:  # each runtime has exceptions of its own; all of them are refusals
        return None
