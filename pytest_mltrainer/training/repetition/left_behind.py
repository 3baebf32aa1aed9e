"""What a training leaves behind in the user's modules and objects, where no checkpoint holds it."""

import ast
import hashlib
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from pytest_mltrainer.training.repetition.sightings import Sighting, Watch
from pytest_mltrainer.training.reproducibility import digest_nested, digest_tensors

if TYPE_CHECKING:
    from pytest_mltrainer.training.session import TrainingSession

LIMIT_ELEMENTS = 1_000_000
"""Larger arrays and tensors are data; they are not digested."""
LIMIT_WRAPPERS = 4
"""A data set inside a data set, such as `Subset` makes them, is followed so deep."""

Names = Mapping[tuple[str, str], str]
"""Digests by owner (module or class) and name."""


class Remains:
    """What one training changes in the user's modules (`again`) and in its objects (`resume`)."""

    def __init__(self, watch: Watch) -> None:
        """Made before the training's data and model are."""
        self._watch = watch
        self._modules = module_state(watch)
        self._objects: Names = {}

    def before(self, session: "TrainingSession") -> None:
        """Task and data are made, and nothing is trained yet."""
        self._objects = _objects(session)

    def after(self, session: "TrainingSession") -> list[Sighting]:
        """Where the names that hold something else now are first assigned."""
        modules = _changed(self._modules, module_state(self._watch), self._watch)
        objects = _changed(self._objects, _objects(session), self._watch)
        found = [replace(place, kind="again") for place in modules]
        return found + [replace(place, kind="resume") for place in objects]


def module_state(watch: Watch) -> Names:
    """Digests of what the user's modules, and the classes in them, hold by name."""
    found: dict[tuple[str, str], str] = {}
    for module in watch.modules():
        found |= _digests(module.__name__, vars(module))
        for name, value in list(vars(module).items()):
            if isinstance(value, type) and value.__module__ == module.__name__:
                found |= _digests(name, dict(vars(value)))
    return found


def object_state(*objects: Any) -> Names:
    """Digests of the attributes of task and data sets, and of the data sets inside them."""
    found: dict[tuple[str, str], str] = {}
    for value in objects:
        for part in islice(_unwrapped(value), LIMIT_WRAPPERS):
            found |= _digests(type(part).__name__, getattr(part, "__dict__", {}))
    return found


def _objects(session: "TrainingSession") -> Names:
    return object_state(session.task, session.splits.train)


def _changed(before: Names, after: Names, watch: Watch) -> list[Sighting]:
    names = [name for name in after if before.get(name) != after[name]]
    return [place for name in names for place in _assignments(*name, watch)]


def iterated_sets(watch: Watch) -> list[Sighting]:
    """Sets and hashes in the user's modules, but for sets that are sorted on the spot."""
    return [
        _sighting("hash", path, node, lines, watch)
        for path, tree, lines in _sources(watch)
        for node in _unordered(tree)
    ]


def _unwrapped(value: Any) -> Iterator[Any]:
    while value is not None:
        yield value
        value = getattr(value, "dataset", None)


def _digests(owner: str, values: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    found = {}
    for name, value in list(values.items()):
        if name.startswith("__") or isinstance(value, type | ModuleType):
            continue
        digest = _digest(value)
        if digest:
            found[owner, name] = digest
    return found


def _digest(value: Any) -> str:
    """The state of a value; blank for what cannot be read, and for what is too large."""
    if hasattr(value, "cache_info"):
        return repr(value.cache_info().currsize)
    if isinstance(value, nn.Module):
        return digest_tensors(value.state_dict())
    if isinstance(value, torch.Generator):
        return digest_nested(value.get_state())
    if isinstance(value, torch.Tensor | np.ndarray):
        elements = value.numel() if isinstance(value, torch.Tensor) else value.size
        return digest_nested(value) if elements <= LIMIT_ELEMENTS else ""
    if callable(value):
        return ""
    try:
        return hashlib.sha256(pickle.dumps(value)).hexdigest()
    except Exception:  # whatever the user's own classes raise when they are pickled
        return ""


def _sources(watch: Watch) -> Iterator[tuple[Path, ast.Module, list[str]]]:
    for module in watch.modules():
        path = Path(str(module.__file__))
        text = path.read_text(encoding="utf-8")
        yield path, ast.parse(text), text.splitlines()


def _assignments(owner: str, name: str, watch: Watch) -> Iterator[Sighting]:
    """The first assignment to `name`, or to `self.name`, inside the class or module `owner`."""
    for path, tree, lines in _sources(watch):
        classes = [
            part for part in tree.body if isinstance(part, ast.ClassDef) and part.name == owner
        ]
        inside: list[ast.ClassDef | ast.Module] = [*classes]
        if any(
            module.__name__ == owner and str(path) == module.__file__ for module in watch.modules()
        ):
            inside.append(tree)
        for part in inside:
            for node in ast.walk(part):
                if _assigns(node, name):
                    yield _sighting("state", path, node, lines, watch, about=f"{owner}.{name}")
                    return


def _assigns(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.FunctionDef):
        return node.name == name
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    if not isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return False
    return any(name in (getattr(part, "id", ""), getattr(part, "attr", "")) for part in targets)


def _unordered(tree: ast.Module) -> Iterator[ast.expr]:
    ordered = {
        id(part)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _called(node) in ("sorted", "len", "min", "max")
        for part in ast.walk(node)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call | ast.Set | ast.SetComp) or id(node) in ordered:
            continue
        if not isinstance(node, ast.Call) or _called(node) in ("set", "frozenset", "hash"):
            yield node


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _sighting(
    kind: str, path: Path, node: Any, lines: list[str], watch: Watch, about: str = ""
) -> Sighting:
    return Sighting(
        kind=kind,
        file=path.relative_to(watch.root).as_posix(),
        line=node.lineno,
        code=lines[node.lineno - 1].strip(),
        about=about,
    )
