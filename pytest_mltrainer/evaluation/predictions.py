"""Raw model outputs beside their targets: what every score, interval and plot is computed from."""

import io
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pytest_mltrainer.core.digests import sha256_bytes
from pytest_mltrainer.core.errors import StorageError, UserError
from pytest_mltrainer.core.files import storage_error, write_bytes

Array = NDArray[Any]

MEMBERS = ("outputs", "targets")
EPOCH = (1980, 1, 1, 0, 0, 0)
NUMERIC = "biuf"


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Outputs of a model and the targets of the same samples, in the same order.

    Shapes by kind: classification (n, C) logits and (n,) labels; multilabel (n, L) logits and
    (n, L) zeros and ones; regression (n,) or (n, k) on both sides; sequence (n, T, C) logits and
    (n, T) tokens, where the target -100 is ignored. Raises UserError when the arrays are not
    numeric or their lengths differ; NaN is kept, it is evidence.
    """

    outputs: Array
    targets: Array

    def __post_init__(self) -> None:
        """Refuse what no metric could read."""
        for name in MEMBERS:
            array = getattr(self, name)
            if array.ndim == 0 or array.dtype.kind not in NUMERIC:
                raise UserError(
                    f"predictions: {name} have shape {array.shape} and dtype {array.dtype}, "
                    "wanted a numeric array with one entry a sample: convert them in the task"
                )
        if len(self.outputs) != len(self.targets):
            raise UserError(
                f"predictions: {len(self.outputs)} outputs for {len(self.targets)} targets, wanted "
                "one output a target: return one row a sample from the model"
            )

    def __len__(self) -> int:
        """The number of samples (of sequences, not of tokens)."""
        return len(self.targets)

    def digest(self) -> str:
        """Hexadecimal sha256 of dtypes, shapes and values: that of the file `save` writes."""
        return sha256_bytes(self._to_bytes())

    def save(self, path: Path) -> None:
        """Write an .npz file; equal arrays give equal bytes. Raises StorageError."""
        write_bytes(path, self._to_bytes())

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        """The predictions that `save` wrote. Raises StorageError for anything else, in one line.

        Nothing is unpickled, and no memory is taken on the word of a header: sizes are compared
        with the size of the file first, so that a zip bomb is refused unread.
        """
        try:
            with zipfile.ZipFile(path) as archive:
                _refuse_bomb(archive, path.stat().st_size)
                outputs, targets = (_array(archive.read(f"{name}.npy")) for name in MEMBERS)
            return cls(outputs, targets)
        except OSError as error:
            raise storage_error("read", path, error) from error
        except Exception as error:
            # zipfile and numpy raise a dozen types on damaged bytes, SyntaxError among them.
            reason = " ".join(str(error).split())[:200]
            raise StorageError(
                f"{path}: not readable as predictions ({reason}), wanted an .npz file with "
                "outputs and targets: run the phase again"
            ) from error

    def _to_bytes(self) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for name in MEMBERS:
                content = io.BytesIO()
                array = np.ascontiguousarray(getattr(self, name))
                np.lib.format.write_array(content, array, allow_pickle=False)
                # Not compressed: zlib's output differs between its versions.
                archive.writestr(zipfile.ZipInfo(f"{name}.npy", EPOCH), content.getvalue())
        return buffer.getvalue()


def _refuse_bomb(archive: zipfile.ZipFile, file_bytes: int) -> None:
    claimed = sum(member.file_size for member in archive.infolist())
    if claimed > file_bytes:
        raise ValueError(f"its members claim {claimed} bytes in a file of {file_bytes}")


def _array(content: bytes) -> Array:
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    if version != (1, 0):
        raise ValueError(f"array format {version}, wanted (1, 0)")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.kind not in NUMERIC:
        raise ValueError(f"dtype {dtype}, wanted numbers")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(
        content[stream.tell() :]
    ):
        raise ValueError(f"shape {shape} does not fit the stored bytes")
    flat = np.frombuffer(content, dtype=dtype, offset=stream.tell())
    return flat.reshape(shape, order="F" if fortran else "C").copy()
