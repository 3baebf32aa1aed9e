"""One pass over the splits: digests and identities of samples, their values as rows of features.

Inputs may be an array, a number, or any nesting of them in mappings, tuples and lists. Rows of
features need one layout for all samples; what has none is digested and counted all the same.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from pytest_mltrainer.training.data.columns import Array, Moments, NonFinite
from pytest_mltrainer.training.reproducibility import digest_nested
from pytest_mltrainer.training.task import Task

LIMIT_SAMPLES = 20_000
LIMIT_VALUES = 20_000_000
LIMIT_COLUMNS = 1_024
BLOCKS = 256
CHUNK_VALUES = 100_000
NO_ARRAYS = "inputs are no arrays"
RAGGED = "inputs differ in shape from sample to sample"
AGAIN = 8

Layout = tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(slots=True, kw_only=True)
class Samples:
    """What was read of one split.

    `features` has one row a sample: the values of a table, or, of larger arrays, the means of 256
    blocks of neighbouring values with mean and deviation of the whole. None with a `reason` where
    inputs are no arrays of one layout. `targets` are arrays, or None where there is none.
    """

    name: str
    n: int
    rows: list[int]
    contents: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    targets: list[Array | None] = field(default_factory=list)
    digest: str = ""
    layout: Layout | None = None
    dtype: str = ""
    moments: Moments | None = None
    nonfinite: NonFinite = field(default_factory=NonFinite)
    features: Array | None = None
    reason: str = ""
    random: bool = False

    @property
    def tabular(self) -> bool:
        """Whether each value of a sample is a column of its own: vectors, numbers by name."""
        shapes = [shape for _, shape in self.layout or ()]
        nested = len(shapes) > 1
        vectors = all(len(shape) == 1 or (nested and not shape) for shape in shapes)
        return bool(shapes) and vectors and not self.reason

    @property
    def width(self) -> int:
        """Values in a sample."""
        return sum(int(np.prod(shape)) for _, shape in self.layout or ())

    def columns(self) -> list[str]:
        """The names of a table's columns; empty for other inputs."""
        return column_names(self.layout or ()) if self.tabular else []


def read_split(task: Task, name: str, dataset: Dataset[Any]) -> Samples:
    """Read a split once, at evenly spaced rows beyond 20,000.

    At last the first samples are read again: `random` says whether they came out different, as
    under augmentation.
    """
    n = len(dataset)  # type: ignore[arg-type]
    read = Samples(name=name, n=n, rows=evenly(n, LIMIT_SAMPLES))
    gather = _Gather(read)
    state = hashlib.sha256()
    for row in read.rows:
        value, target = _pair(dataset[row])
        content, key = digest_nested(value), task.sample_key(name, row)
        state.update(f"{content}{digest_nested(target)}{key}".encode())
        read.contents.append(content)
        read.keys.append(key)
        wanted = as_array(target)
        # A copy: an array that shares memory keeps its tensor alive, many times its size.
        read.targets.append(None if wanted is None else wanted.copy())
        gather.add(row, value)
    gather.finish()
    read.digest = state.hexdigest()
    again = (digest_nested(_pair(dataset[row])[0]) for row in read.rows[:AGAIN])
    read.random = any(one != two for one, two in zip(read.contents, again, strict=False))
    return read


def evenly(count: int, limit: int) -> list[int]:
    """At most `limit` of `count` indices, evenly spaced, in order."""
    if count <= limit:
        return list(range(count))
    return [int(row) for row in np.linspace(0, count - 1, limit)]


def as_array(value: Any) -> Array | None:
    """A number, array or tensor as a real array; None for anything else."""
    if isinstance(value, torch.Tensor):
        plain = value.detach().cpu()
        if plain.is_complex() or plain.layout is not torch.strided or plain.is_quantized:
            return None
        return (plain.float() if plain.dtype is torch.bfloat16 else plain).numpy()
    if isinstance(value, np.ndarray | np.generic | float | int):
        array = np.asarray(value)
        return array if array.dtype.kind in "biuf" else None
    if isinstance(value, list | tuple) and value and all(isinstance(v, float | int) for v in value):
        return np.asarray(value)
    return None


def column_names(layout: Layout) -> list[str]:
    """`0`, `1`, ... of a vector; `age`, `history[3]` of parts with names."""
    names = []
    for part, shape in layout:
        indices = range(int(np.prod(shape)))
        if not part:
            names += [str(index) for index in indices]
        else:
            names += [f"{part}[{index}]" for index in indices] if shape else [part]
    return names


def _pair(sample: Any) -> tuple[Any, Any]:
    """Input and target; a sample that is no pair is all input."""
    if isinstance(sample, tuple | list) and len(sample) == 2:
        return sample[0], sample[1]
    if isinstance(sample, tuple | list) and len(sample) == 1:
        return sample[0], None
    return sample, None


def _parts(value: Any, name: str = "") -> Iterator[tuple[str, Array | None]]:
    array = as_array(value)
    if array is not None:
        yield name, array
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield from _parts(value[key], f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield from _parts(part, f"{name}.{index}" if name else str(index))
    else:
        yield name, None


class _Gather:
    """Collects samples into chunks, so that the statistics run over tables and not over rows."""

    def __init__(self, read: Samples) -> None:
        self.read = read
        self.rows: list[int] = []
        self.chunk: list[Array] = []
        self.size = 0
        self.counted = 0
        self.features: list[Array] = []

    def add(self, row: int, value: Any) -> None:
        parts = list(_parts(value))
        arrays = [array for _, array in parts if array is not None]
        if not parts or len(arrays) < len(parts):
            self.read.reason = NO_ARRAYS
        if not arrays:
            return
        layout = tuple((name, array.shape) for (name, _), array in zip(parts, arrays, strict=False))
        if self.read.layout is None:
            self.read.layout = layout
            self.read.dtype = str(np.result_type(*arrays))
        elif layout != self.read.layout:
            self.read.reason = self.read.reason or RAGGED
        if len(arrays) == 1:
            flat = arrays[0].reshape(-1)
        else:
            flat = np.concatenate([array.reshape(-1) for array in arrays])
        if self.chunk and (self.size + flat.size > CHUNK_VALUES or len(flat) != len(self.chunk[0])):
            self._flush()
        self.rows.append(row)
        self.chunk.append(flat)
        self.size += flat.size

    def finish(self) -> None:
        """Take in what is left, and put the features together where every sample has them."""
        self._flush()
        if self.features and not self.read.reason:
            self.read.features = np.concatenate(self.features)
        self.features = []

    def _flush(self) -> None:
        if not self.chunk:
            return
        read, raw = self.read, np.stack(self.chunk)
        fits = not read.reason
        if raw.dtype.kind == "f":
            read.nonfinite.add(raw, self.rows)
        self.rows, self.chunk, self.size = [], [], 0
        if self.counted < LIMIT_VALUES and raw.size:
            self.counted += raw.size
            table = raw.astype(np.float64)
            moments = Moments.of(table if fits and read.tabular else table.reshape(-1, 1))
            self._merge(moments)
        if fits:
            self.features.append(_features(raw, tabular=read.tabular))

    def _merge(self, moments: Moments) -> None:
        known = self.read.moments
        if known is None:
            self.read.moments = moments
        elif len(known.count) == len(moments.count):
            known.merge(moments)
        else:
            whole = known.pooled()
            whole.merge(moments.pooled())
            self.read.moments = whole


def _features(raw: Array, *, tabular: bool) -> Array:
    width = raw.shape[1]
    if tabular:
        return raw[:, evenly(width, LIMIT_COLUMNS)].astype(np.float32)
    values = raw.astype(np.float32)
    if width <= BLOCKS:
        return values
    starts = [width * block // BLOCKS for block in range(BLOCKS)]
    sizes = np.diff([*starts, width])
    means = np.add.reduceat(values, starts, axis=1) / sizes
    spread = [values.mean(axis=1, keepdims=True), values.std(axis=1, keepdims=True)]
    return np.concatenate([means, *spread], axis=1).astype(np.float32)
