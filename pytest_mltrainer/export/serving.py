"""An export as a service would use it: elsewhere, in any batch size, timed, and ill-treated."""

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.export.format import Array, Exported
from pytest_mltrainer.training.batches import evaluation_batches
from pytest_mltrainer.training.run import TrainingRun

WARM_UP, CALLS = 5, 50
TIMEOUT_S = 120.0

_ELSEWHERE = """
import importlib, json, sys
import numpy as np
from pathlib import Path
loader, path, inputs = sys.argv[1:]
module, _, name = loader.partition(":")
model = getattr(importlib.import_module(module), name)(Path(path))
found = {}
for size, batch in np.load(inputs).items():
    outputs = model(batch)
    found[size] = {"rows": len(outputs), "finite": bool(np.isfinite(outputs).all())}
print(json.dumps(found))
"""


class RefusedElsewhere(UserError):
    """An export could not be loaded, or not asked, where the project is not there."""


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


def load_elsewhere(run: TrainingRun, loader: str, path: Path) -> dict[int, dict[str, Any]]:
    """Load the file in a process without the project and predict; what came out, by batch size.

    Raises RefusedElsewhere with that process's error.
    """
    batches = {str(size): _array(first_inputs(run, size)) for size in batch_sizes(run)}
    with tempfile.TemporaryDirectory(prefix="mltrainer-export-") as folder:
        inputs = Path(folder) / "inputs.npz"
        np.savez(inputs, allow_pickle=False, **batches)
        done = subprocess.run(
            [sys.executable, "-P", "-c", _ELSEWHERE, loader, str(path), str(inputs)],
            cwd=folder,
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    if done.returncode:
        why = _last_error(done.stderr) or f"the process ended with exit status {done.returncode}"
        raise RefusedElsewhere(f"{path.name}: {why}")
    return {int(size): found for size, found in json.loads(done.stdout).items()}


def _last_error(stderr: str) -> str:
    """What stands behind the last frame of a traceback, in one line: a message may have several."""
    lines = reversed(stderr.rstrip().splitlines())
    behind = list(itertools.takewhile(lambda line: not line.startswith("  "), lines))
    return " ".join(line.strip() for line in reversed(behind))


def latency(predict: Exported, run: TrainingRun, size: int) -> Latency:
    """Times of single calls on real inputs."""
    inputs = first_inputs(run, size)
    for _ in range(WARM_UP):
        predict(inputs)
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        predict(inputs)
        times.append(time.perf_counter() - start)
    p50, p95, p99 = (float(value) * 1e3 for value in np.percentile(times, [50, 95, 99]))
    return Latency(p50_ms=p50, p95_ms=p95, p99_ms=p99, samples_per_s=size / (p50 / 1e3))


def reactions(predict: Exported, run: TrainingRun) -> dict[str, Reaction]:
    """What the export does with NaN, a wrong shape, a wrong dtype and an empty batch."""
    inputs = first_inputs(run, min(2, len(run.splits.test)))  # type: ignore[arg-type]
    if not isinstance(inputs, torch.Tensor):
        return {}
    array = _array(inputs)
    refused = Reaction(is_defined=True, text="refused", wanted="refused")
    found: dict[str, Reaction] = {}
    if array.dtype.kind == "f":
        outputs = _outputs(predict, np.full_like(array, np.nan))
        hidden = outputs is not None and bool(np.isfinite(outputs).all())
        found["NaN in the inputs"] = Reaction(
            is_defined=not hidden,
            text="a finite answer" if hidden else "refused or not finite",
            wanted="refused or not finite",
        )
    wrong: dict[str, Array] = {
        "an additional dimension": array[..., None],
        "another dtype": array.astype(np.float64 if array.dtype != np.float64 else np.float32),
    }
    for fault, value in wrong.items():
        outputs = _outputs(predict, value)
        found[fault] = (
            refused
            if outputs is None
            else Reaction(is_defined=False, text=f"outputs {outputs.shape}", wanted="refused")
        )
    outputs = _outputs(predict, array[:0])
    rows = 0 if outputs is None else len(outputs)
    found["an empty batch"] = Reaction(
        is_defined=rows == 0, text=f"{rows} outputs", wanted="refused or 0 outputs"
    )
    return found


def _outputs(predict: Callable[[Any], Array], inputs: Array) -> Array | None:
    """The outputs, or None when the export refuses the inputs."""
    try:
        return predict(inputs)
    except Exception:  # each runtime has exceptions of its own; all of them are refusals
        return None


def _array(inputs: Any) -> Array:
    if not isinstance(inputs, torch.Tensor):
        raise UserError("the export is tried elsewhere with a single tensor as input only")
    return inputs.numpy()
