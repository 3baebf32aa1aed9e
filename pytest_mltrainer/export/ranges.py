"""The largest number that a file computes with: whether its dtype holds it, on any processor.

ONNX Runtime on a CPU calculates in float32 where it has no kernel for float16, and may leave out
the rounding between two of them: what overflows on an accelerator gives good answers there.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pytest_mltrainer.export.onnx_model import session_of
from pytest_mltrainer.export.signature import Array, Metadata

FOUND = "pytest_mltrainer_largest_"
FLOATS = (1, 10)
"""FLOAT and FLOAT16 of ONNX."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Largest:
    """A value of the graph, the operator that makes it, and its largest absolute number."""

    name: str
    operator: str
    value: float

    def text(self) -> str:
        """`6.55e+04 ('linear_1' of Gemm)`."""
        return f"{self.value:.3g} ('{self.name}' of {self.operator})"


def largest_inside(path: Path, metadata: Metadata, batches: Iterable[Any]) -> Largest | None:
    """The largest float16 number inside a file over all batches; NaN counts as the largest.

    Left out is what a constant makes infinite on purpose: a mask. None where no operator gives
    float16.
    """
    model, nodes = _watched(path)
    if not nodes:
        return None
    session = session_of(model.SerializeToString(), path)
    most = np.zeros(len(nodes))
    names = [f"{FOUND}{number}" for number in range(len(nodes))]
    for inputs in batches:
        found = session.run(names, metadata.arrays(inputs))
        most = np.maximum(most, np.nan_to_num(np.array(found, dtype=np.float64), nan=np.inf))
    # Infinity goes on from operator to operator; the first has no other before it.
    worst = {
        name: node for (name, node), value in zip(nodes, most, strict=True) if value == most.max()
    }
    first = next(name for name in worst if worst.keys().isdisjoint(worst[name].input))
    return Largest(name=first, operator=worst[first].op_type, value=float(most.max()))


def _watched(path: Path) -> tuple[Any, list[tuple[str, Any]]]:
    """The graph with the largest of each float16 value as an output, and what makes the values."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.shape_inference.infer_shapes(onnx.load(str(path)))
    kinds = {value.name: value.type.tensor_type.elem_type for value in model.graph.value_info}
    masked = _masked(model.graph)
    nodes = [
        (name, node)
        for node in model.graph.node for name in node.output
        if kinds.get(name) == TensorProto.FLOAT16 and name not in masked
    ]  # fmt: skip
    for number, (name, _) in enumerate(nodes):
        found = f"{FOUND}{number}"
        model.graph.node.extend(
            (
                helper.make_node("Cast", [name], [f"{found}_exact"], to=TensorProto.FLOAT),
                helper.make_node("Abs", [f"{found}_exact"], [f"{found}_size"]),
                helper.make_node("ReduceMax", [f"{found}_size"], [found], keepdims=0),
            )
        )
        model.graph.output.append(helper.make_tensor_value_info(found, TensorProto.FLOAT, []))
    return model, nodes


def _masked(graph: Any) -> set[str]:
    """The values that a constant of the model makes infinite, as a mask does before a softmax."""
    from onnx import numpy_helper

    constants = {tensor.name: tensor for tensor in graph.initializer}
    constants |= {
        node.output[0]: attribute.t
        for node in graph.node for attribute in node.attribute
        if node.op_type == "Constant" and attribute.name == "value"
    }  # fmt: skip
    masked = {
        name for name, tensor in constants.items()
        if tensor.data_type in FLOATS and _beyond(numpy_helper.to_array(tensor))
    }  # fmt: skip
    before = -1
    while len(masked) > before:
        before = len(masked)
        for node in graph.node:
            if node.op_type != "Softmax" and not masked.isdisjoint(node.input):
                masked.update(node.output)
    return masked


def _beyond(values: Array) -> bool:
    return bool(values.size and np.abs(values).max() >= np.finfo(np.float16).max)
