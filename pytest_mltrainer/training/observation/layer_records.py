"""What is recorded of single layers: fixed-width records beside a list of the layers.

`layers.rec` is append-only and numpy reads it in one line: `np.fromfile(path, LAYER)`. A torn last
record is dropped. `layers.json` lists the layers in order of depth; records count in it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mltrainer.core import files
from pytest_mltrainer.core.errors import StorageError

LAYER = np.dtype(
    [
        ("step", "<u4"),
        ("layer", "<u4"),
        ("numel", "<u8"),
        ("gradient_norm", "<f4"),
        ("weight_norm", "<f4"),
        ("update_ratio", "<f4"),
        ("output_mean", "<f4"),
        ("output_std", "<f4"),
        ("zero_share", "<f4"),
        ("saturated_share", "<f4"),
    ]
)
"""One layer on one sampled step; NaN where the quantity does not exist or was not seen.

`numel` counts the parameters that training moves, `update_ratio` is |dw| / |w|, `zero_share` the
share of units of a ReLU that are zero on the whole batch, `saturated_share` the share of the inputs
of a sigmoid or tanh that lie beyond 5.
"""
OUTPUT_FIELDS = ("output_mean", "output_std", "zero_share", "saturated_share")
LAYERS_FILE = "telemetry/layers.rec"
LAYER_NAMES_FILE = "telemetry/layers.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerName:
    """A layer as the model names it, the type of its module, its trained parameters."""

    name: str
    type: str
    numel: int


class LayerRecords:
    """The two files of one training."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the phase's output; the files are made when first written."""
        self._rows = folder / LAYERS_FILE
        self._names = folder / LAYER_NAMES_FILE

    def names(self) -> list[LayerName]:
        """The layers in order of depth; none when nothing was recorded. Raises StorageError."""
        if not self._names.exists():
            return []
        try:
            return [LayerName(**entry) for entry in files.read_json(self._names)]
        except TypeError as error:
            raise StorageError(f"{self._names}: an entry is not a layer ({error!r})") from error

    def write_names(self, names: Sequence[LayerName]) -> None:
        """Write the list of layers."""
        files.write_json(self._names, [asdict(entry) for entry in names])

    def append(self, rows: "np.ndarray[Any, Any]") -> None:
        """Append records (dtype LAYER)."""
        try:
            self._rows.parent.mkdir(parents=True, exist_ok=True)
            with self._rows.open("ab") as stream:
                stream.write(rows.tobytes())
        except OSError as error:
            raise files.storage_error("append to", self._rows, error) from error

    def read(self) -> "np.ndarray[Any, Any]":
        """All whole records; none when nothing was recorded."""
        try:
            whole = self._rows.stat().st_size // LAYER.itemsize
            return np.fromfile(self._rows, LAYER, count=whole)
        except FileNotFoundError:
            return np.empty(0, LAYER)
        except OSError as error:
            raise files.storage_error("read", self._rows, error) from error

    def truncate(self, *, steps: int) -> None:
        """Forget the records of updates from number `steps` on."""
        rows = self.read()
        if rows.size:
            files.write_bytes(self._rows, rows[rows["step"] < steps].tobytes())


def layer_rows(
    step: int,
    numel: Sequence[int],
    owners: Sequence[int],
    norms: "np.ndarray[Any, Any]",
    outputs: "np.ndarray[Any, Any]",
) -> "np.ndarray[Any, Any]":
    """The records of one sample: parameters summed up over their layers.

    `numel` by layer; `owners` the layer of each parameter; `norms` three rows (gradient, weight,
    update) with a column a parameter; `outputs` a row a layer, the last four fields. The update
    ratio of weights that are all zero is NaN.
    """
    rows = np.zeros(len(numel), LAYER)
    rows["step"], rows["layer"], rows["numel"] = step, np.arange(len(numel)), numel
    squares = norms.astype(np.float64) ** 2
    sums = [np.bincount(owners, weights=row, minlength=len(numel)) for row in squares]
    is_seen = np.bincount(owners, minlength=len(numel)) > 0
    gradient, weight, update = np.where(is_seen, np.sqrt(sums), np.nan)
    rows["gradient_norm"], rows["weight_norm"] = gradient, weight
    with np.errstate(all="ignore"):
        rows["update_ratio"] = np.where(weight > 0, update / weight, np.nan)
    for name, column in zip(OUTPUT_FIELDS, outputs.T, strict=True):
        rows[name] = column
    return rows
