"""A .pt2 or a TorchScript file as a service runs it: with torch, without the user's code."""

import io
import json
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.export.signature import METADATA, Array, Metadata, ServedModel, as_array

PLAIN = ("weight_", "tensor_")
"""How torch names the payloads of a .pt2 file that are tensors."""

LIMIT_EXPANSION = 20
"""Weights are stored as they are; only TorchScript's code is compressed, some fivefold."""


class TorchExportModel(ServedModel):
    """A .pt2 file."""

    def __init__(self, path: Path) -> None:
        """Raises StorageError when the file is missing, damaged, or would run code when loaded."""
        import torch

        _refuse_code(path)
        extra: dict[str, Any] = {METADATA: ""}
        try:
            with _quiet():
                program = torch.export.load(path, extra_files=extra)
                self._module = program.module(check_guards=False)
        except Exception as error:  # a damaged file fails anywhere between zip and schema
            raise _not_loadable(path, error) from error
        self.metadata = Metadata.from_text(extra[METADATA], path)

    def run(self, arrays: Mapping[str, Array]) -> Array:
        """Outputs for arrays in the order of the metadata."""
        return _run(self._module, arrays)


class TorchScriptModel(ServedModel):
    """A TorchScript file."""

    def __init__(self, path: Path) -> None:
        """Raises StorageError when the file is missing or damaged."""
        import torch

        _archive(path).close()
        extra: dict[str, Any] = {METADATA: ""}
        try:
            with _quiet():
                self._module = torch.jit.load(str(path), map_location="cpu", _extra_files=extra)
        except Exception as error:  # RuntimeError for most of it, and UnicodeDecodeError
            raise _not_loadable(path, error) from error
        text = extra[METADATA]
        self.metadata = Metadata.from_text(
            text.decode(errors="replace") if isinstance(text, bytes) else text, path
        )

    def run(self, arrays: Mapping[str, Array]) -> Array:
        """Outputs for arrays in the order of the metadata."""
        return _run(self._module, arrays)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's warnings about a format: who reads a file has not chosen its loader."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _run(module: Any, arrays: Mapping[str, Array]) -> Array:
    import torch

    with torch.no_grad():
        return as_array(module(*map(torch.from_numpy, arrays.values())))


def _archive(path: Path) -> zipfile.ZipFile:
    """The file as an archive. Raises StorageError when it is none, or claims more than it holds."""
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise _not_loadable(path, error) from error
    claimed = sum(entry.file_size for entry in archive.infolist())
    if claimed > LIMIT_EXPANSION * path.stat().st_size:
        archive.close()
        raise StorageError(f"{path}: its parts claim to be larger than the file; it is refused")
    return archive


def _refuse_code(path: Path) -> None:
    """Raise StorageError when loading would unpickle objects or load a compiled library.

    torch reads what a payload marks as pickled without restriction, and sample inputs too when
    the restricted way fails.
    """
    import torch

    with _archive(path) as archive:
        names = archive.namelist()
        try:
            pickled = [
                entry["path_name"]
                for name in names if name.endswith("_config.json")
                for entry in json.loads(archive.read(name))["config"].values()
                if entry["use_pickle"] or not entry["path_name"].startswith(PLAIN)
            ]  # fmt: skip
            pickled += [name for name in names if "/data/aotinductor/" in name]
            for name in names:
                if name.endswith(".pt"):
                    torch.load(io.BytesIO(archive.read(name)), weights_only=True)
        except Exception as error:  # UnpicklingError, or whatever a damaged part makes of it
            raise _not_loadable(path, error) from error
    if pickled:
        raise StorageError(
            f"{path}: it holds objects that would run code when loaded ({', '.join(pickled)[:200]})"
            "; it is refused"
        )


def _not_loadable(path: Path, error: BaseException) -> StorageError:
    reason = " ".join(str(error).split())[:200]
    return StorageError(f"{path}: not loadable by torch ({reason or type(error).__name__})")
