"""What goes into an exported file and what comes out: names, dtypes, shapes, and its origin.

The same metadata stand in every file and in `model.json`. Needs neither torch nor user code.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mltrainer.core.errors import StorageError, UserError

Array = np.ndarray[Any, Any]

METADATA = "pytest_mltrainer"
"""The key of the metadata in a file."""
SCHEMA = 1
FREE = -1
"""The size of an axis that takes any: the batch, and what differs between samples."""
ONLY = "inputs"
"""The name of an input that is the only one, and the first part of names in a tuple."""
OUTPUTS = "outputs"


class InputError(UserError):
    """Inputs are not what an export takes; the text says which one, found and wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One tensor: its name, its dtype in NumPy's words, and its shape, where -1 is any size."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def free_axes(self) -> tuple[int, ...]:
        """The axes that take any size, the batch among them."""
        return tuple(axis for axis, size in enumerate(self.shape) if size == FREE)

    def check(self, array: Array) -> None:
        """Raise InputError unless `array` is such a tensor."""
        shown = ", ".join(size_text(axis, size) for axis, size in enumerate(self.shape))
        if str(array.dtype) != self.dtype:
            raise InputError(
                f"input '{self.name}': found {array.dtype}, wanted {self.dtype}: convert it first"
            )
        # Some runtimes end their process over an empty batch (ONNX Runtime in a GRU).
        if 0 in array.shape:
            raise InputError(f"input '{self.name}': found shape {array.shape}: it is empty")
        if len(array.shape) != len(self.shape) or any(
            wanted not in (FREE, found)
            for found, wanted in zip(array.shape, self.shape, strict=True)
        ):
            raise InputError(
                f"input '{self.name}': found shape {array.shape}, wanted ({shown}), as the "
                "samples had it that the model was exported with"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What an export takes and gives, and what it was made from.

    `checkpoint` and `weights`: sha256 of the checkpoint that was exported, and of the file of
    weights that lies beside the export. `quantised`: the dtype that its numbers were rounded to,
    and `calibration` the samples from which their ranges were taken; None for an exact file.
    """

    kind: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    checkpoint: str
    weights: str
    quantised: str | None = None
    calibration: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The metadata as they are stored; what an exact file has none of is left out."""
        # Through JSON, so that tuples are lists as they are when they are read.
        stored: dict[str, Any] = json.loads(json.dumps({"schema": SCHEMA, **asdict(self)}))
        return {key: value for key, value in stored.items() if value is not None}

    def text(self) -> str:
        """The metadata as they stand in a file."""
        return json.dumps(self.to_json(), sort_keys=True)

    @classmethod
    def from_text(cls, text: str | None, path: Path) -> "Metadata":
        """The metadata of a file. Raises StorageError when there are none of ours."""
        try:
            stored = json.loads(text or "")
            if stored.pop("schema") != SCHEMA:
                raise ValueError(f"its schema is not {SCHEMA}")
            for side in ("inputs", "outputs"):
                stored[side] = tuple(
                    TensorSpec(**{**spec, "shape": tuple(spec["shape"])}) for spec in stored[side]
                )
            return cls(**stored)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StorageError(
                f"{path}: no metadata of pytest-mltrainer in it ({error}); export the model again"
            ) from error

    def arrays(self, inputs: Any) -> dict[str, Array]:
        """Inputs by name, as arrays. Raises InputError unless names, dtypes and shapes fit.

        `inputs` is nested as the task's inputs are, or a mapping from names to arrays.
        """
        given = {name: as_array(leaf) for name, leaf in named_leaves(inputs).items()}
        names = [spec.name for spec in self.inputs]
        if given.keys() != set(names):
            raise InputError(
                f"inputs: found {', '.join(given) or 'none'}; wanted {', '.join(names)}"
            )
        for spec in self.inputs:
            spec.check(given[spec.name])
        return {name: given[name] for name in names}


class ServedModel:
    """A file as a service uses it: any batch in, an array out. One subclass a format."""

    metadata: Metadata

    def __call__(self, inputs: Any) -> Array:
        """Outputs for a batch. Raises InputError for inputs that the file does not take."""
        return self.run(self.metadata.arrays(inputs))

    def run(self, arrays: Mapping[str, Array]) -> Array:
        """Outputs for arrays that fit, in the order of the metadata."""
        raise NotImplementedError


def specs(value: Any, only: str) -> tuple[TensorSpec, ...]:
    """The tensors of a nesting; `only` names one that stands alone."""
    return tuple(
        TensorSpec(
            name=name,
            dtype=str(leaf.dtype).removeprefix("torch."),
            shape=(FREE, *map(int, leaf.shape[1:])) if len(leaf.shape) else (),
        )
        for name, leaf in named_leaves(value, only).items()
    )


def merged(every: Sequence[tuple[TensorSpec, ...]]) -> tuple[TensorSpec, ...]:
    """The tensors of all nestings at once: an axis whose size differs between them is free.

    Raises InputError when they differ in names, dtypes or the number of axes.
    """
    first, *others = every
    for other in others:
        if _kinds(other) != _kinds(first):
            raise InputError(
                f"samples differ: one has {_kinds_text(first)}, another {_kinds_text(other)}; "
                "wanted the same names, dtypes and numbers of axes: convert them in `collate`"
            )
    return tuple(_joined(alike) for alike in zip(*every, strict=True))


def _joined(alike: tuple[TensorSpec, ...]) -> TensorSpec:
    axes = zip(*(spec.shape for spec in alike), strict=True)
    shape = tuple(sizes[0] if len(set(sizes)) == 1 else FREE for sizes in axes)
    return replace(alike[0], shape=shape)


def _kinds(specs: tuple[TensorSpec, ...]) -> list[tuple[str, str, int]]:
    return [(spec.name, spec.dtype, len(spec.shape)) for spec in specs]


def _kinds_text(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"{name} ({dtype}, {axes} axes)" for name, dtype, axes in _kinds(specs))


def size_text(axis: int, size: int) -> str:
    """A size as people read it: `batch`, `any` for another free axis, or the number."""
    if size != FREE:
        return str(size)
    return "any" if axis else "batch"


def named_leaves(value: Any, only: str = ONLY) -> dict[str, Any]:
    """The tensors and arrays of a nesting, by name; what else is in it is left out.

    A key of a mapping names what it holds; in a tuple the number does: `tokens`, `pair.0`.
    """
    return {name or only: leaf for name, leaf in _leaves(value, only)}


def _leaves(value: Any, only: str, name: str = "") -> list[tuple[str, Any]]:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return [(name, value)]
    if isinstance(value, Mapping):
        parts = [(f"{name}.{key}" if name else str(key), part) for key, part in value.items()]
    elif isinstance(value, list | tuple):
        parts = [(f"{name or only}.{number}", part) for number, part in enumerate(value)]
    else:
        return []
    return [leaf for path, part in parts for leaf in _leaves(part, only, path)]


def as_array(leaf: Any) -> Array:
    """A tensor or array as an array of NumPy."""
    return leaf.detach().cpu().numpy() if hasattr(leaf, "detach") else np.asarray(leaf)
