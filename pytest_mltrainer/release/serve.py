"""The final model as a service: predict, check its health, answer its golden requests.

This file is copied into the folder of the final model and needs that folder, NumPy and the runtime
of the export (ONNX Runtime; torch for the other formats) only, not the code that trained the model.
Every command prints one JSON object; the exit status is 0 when all is well and 1 when not.

    python serve.py --health         have the files the bytes of model.json, does the model answer
    python serve.py --golden         are the recorded requests answered as the tested model did
    python serve.py --predict FILE   outputs for {"inputs": [[...], ...]}; - reads standard input
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
Array = np.ndarray[Any, Any]
Leaf = dict[str, Any]
"""One array of a request: `name`, `dtype`, `values`."""


class Refused(Exception):
    """The folder or the request cannot be served; the text says why."""


class Predictor:
    """The exported model of a folder. Raises Refused when it is damaged or cannot be loaded."""

    def __init__(self, folder: Path = HERE) -> None:
        """Load the export that `model.json` says is served.

        Nothing is loaded before every file has the bytes that `model.json` names.
        """
        self.folder = folder
        self.manifest = _read(folder / "model.json")
        if damaged := self.damaged():
            raise Refused(f"not the files that model.json names: {', '.join(damaged)}")
        self.file = self.manifest["served"]
        if Path(self.file).suffix not in LOADERS:
            raise Refused(f"{self.file} cannot be served: wanted {', '.join(LOADERS)}")
        try:
            self._run = LOADERS[Path(self.file).suffix](folder / self.file)
        except Exception as error:  # each runtime has exceptions of its own
            raise Refused(f"{self.file} cannot be loaded: {_line(error)}") from error

    def __call__(self, leaves: Sequence[Leaf]) -> Array:
        """Outputs for a batch. Raises Refused for inputs that the model does not accept."""
        given = {leaf["name"]: leaf for leaf in leaves}
        names = [spec["name"] for spec in self.manifest["inputs"]]
        if sorted(given) != sorted(names):
            raise Refused(f"inputs: found {', '.join(given)}; wanted {', '.join(names)}")
        arrays = {name: _array(given[name]) for name in names}
        # Some runtimes end their process over an empty batch.
        if empty := [name for name, array in arrays.items() if not array.size]:
            raise Refused(f"empty inputs: {', '.join(empty)}")
        try:
            return self._run(arrays)
        except Exception as error:
            raise Refused(f"the model refused the request: {_line(error)}") from error

    def damaged(self) -> list[str]:
        """Files that are missing, or whose bytes are not those that `model.json` names."""
        return [
            name
            for name, digest in self.manifest["files"].items()
            if not (self.folder / name).is_file() or _sha256(self.folder / name) != digest
        ]

    def golden(self) -> dict[str, Any]:
        """Answer the recorded requests; differences beyond their tolerance are failures."""
        recorded = _read(self.folder / "golden_requests.json")
        differences = []
        for request in recorded["requests"]:
            wanted = np.asarray(request["outputs"])
            found = self(request["inputs"])
            same_shape = found.shape == wanted.shape and bool(np.isfinite(found).all())
            apart = float(np.abs(found - wanted).max()) if same_shape else None
            differences.append(apart)
        failed = [
            index
            for index, apart in enumerate(differences)
            if apart is None or apart > recorded["tolerance"]
        ]
        return {
            "ok": bool(differences) and not failed,
            "requests": len(differences),
            "failed": failed,
            "largest_difference": max((a for a in differences if a is not None), default=None),
            "tolerance": recorded["tolerance"],
        }

    def health(self) -> dict[str, Any]:
        """Does the model, whose files are whole, answer its first golden request?"""
        requests = _read(self.folder / "golden_requests.json")["requests"]
        if not requests:
            raise Refused("golden_requests.json holds no request")
        outputs = self(requests[0]["inputs"])
        answers = outputs.shape == np.shape(requests[0]["outputs"])
        return {"ok": answers and bool(np.isfinite(outputs).all()), "model": self.file}

    def answer(self, request: Any) -> dict[str, Any]:
        """Outputs for `{"inputs": ...}`: rows of an only input, or arrays as in golden requests."""
        inputs = request.get("inputs") if isinstance(request, dict) else None
        if not isinstance(inputs, list) or not inputs:
            raise Refused('wanted {"inputs": [row, ...]} with at least one row')
        if not isinstance(inputs[0], dict):
            only, *others = self.manifest["inputs"]
            if others:
                raise Refused("the model has several inputs: give them as in golden_requests.json")
            inputs = [{"name": only["name"], "dtype": only["dtype"], "values": inputs}]
        outputs = self(inputs)
        if not np.isfinite(outputs).all():
            raise Refused("the outputs are not finite")
        return {"ok": True, "outputs": outputs.tolist()}


Run = Callable[[dict[str, Array]], Array]


def _onnx(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(arrays: dict[str, Array]) -> Array:
        return np.asarray(session.run(None, arrays)[0])

    return run


def _torch(path: Path) -> Run:
    import torch

    if path.suffix == ".pt2":
        model = torch.export.load(path).module(check_guards=False)
    else:
        model = torch.jit.load(path, map_location="cpu")

    def run(arrays: dict[str, Array]) -> Array:
        with torch.no_grad():
            outputs = model(*(torch.from_numpy(array) for array in arrays.values()))
        return np.asarray(outputs.numpy())

    return run


LOADERS = {".onnx": _onnx, ".pt2": _torch, ".pt": _torch}


def _array(leaf: Leaf) -> Array:
    try:
        return np.asarray(leaf["values"], dtype=leaf["dtype"])
    except (ValueError, TypeError, KeyError) as error:
        raise Refused(
            f"input {leaf['name']} is no array of one shape: pad requests of different length to "
            f"one, or send them one by one ({_line(error)})"
        ) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Refused(f"{path.name} is not readable: {_line(error)}") from error


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def main() -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(description="Serve the model of this folder.")
    command = parser.add_mutually_exclusive_group(required=True)
    command.add_argument("--health", action="store_true", help="files whole, model answers")
    command.add_argument("--golden", action="store_true", help="recorded requests answered alike")
    command.add_argument("--predict", metavar="FILE", help="JSON with inputs; - is standard input")
    given = parser.parse_args()
    try:
        predictor = Predictor()
        if given.health:
            said = predictor.health()
        elif given.golden:
            said = predictor.golden()
        else:
            text = sys.stdin.read() if given.predict == "-" else Path(given.predict).read_text()
            said = predictor.answer(json.loads(text))
    except (Refused, OSError, ValueError, KeyError, TypeError) as error:
        said = {"ok": False, "error": str(error) if isinstance(error, Refused) else _line(error)}
    print(json.dumps(said))
    return 0 if said["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
