"""Where an ONNX file keeps weights that do not fit into it: in files of its own folder only."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytest_mltrainer.core.errors import StorageError


def external_files(path: Path) -> tuple[str, ...]:
    """The names of the data files of an ONNX file; the bytes of the weights are not read.

    Raises StorageError for a file that is damaged, for data that are missing, and for a location
    that is not a plain name in the model's own folder: ONNX Runtime would read whatever it names.
    """
    import onnx

    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf raises DecodeError, which is no public name of onnx
        raise StorageError(f"{path}: not loadable as ONNX ({error})") from error
    graphs = [model.graph, *model.functions]
    tensors = [tensor for graph in graphs for tensor in tensors_of(graph)]
    found = {
        entry.value for tensor in tensors for entry in tensor.external_data
        if entry.key == "location"
    }  # fmt: skip
    for name in sorted(found):
        _check(path, name)
    return tuple(sorted(found))


def _check(path: Path, name: str) -> None:
    target = path.parent / name
    if "\\" in name or "\0" in name or name != Path(name).name or target.is_symlink():
        raise StorageError(
            f"{path}: its external data are at {name[:100]!r}, wanted a file beside the model; "
            "it is refused unread"
        )
    if not target.is_file():
        raise StorageError(f"{target}: the weights of {path.name} are missing")


def tensors_of(graph: Any) -> Iterator[Any]:
    """Every tensor of a graph or function, and of the graphs that its nodes hold."""
    yield from getattr(graph, "initializer", ())
    for sparse in getattr(graph, "sparse_initializer", ()):
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from tensors_of(inner)
