"""ONNX graphs, edited and measured: what quantisation leaves to be done, and what it has done."""

from collections import Counter
from pathlib import Path
from typing import Any

from pytest_mltrainer.export.external_data import tensors_of

GUARD = "pytest_mltrainer_guard"
"""How the names of added nodes begin."""


def stored_bytes(path: Path) -> Counter[str]:
    """The bytes of the weights of an ONNX file by dtype, in ONNX's words (`FLOAT16`, `INT8`)."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    found: Counter[str] = Counter()
    for tensor in tensors_of(model.graph):
        if tensor.data_type == onnx.TensorProto.UNDEFINED:  # of an attribute that is no tensor
            continue
        name = onnx.TensorProto.DataType.Name(tensor.data_type)
        width = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        found[name] += width * _product(tensor.dims)
    return found


def give_outputs_in_full(graph: Any) -> None:
    """Take the last rounding off the outputs.

    256 steps between the extremes of the calibration would be all that a regression can say, and
    nothing beyond them.
    """
    made_by = {name: node for node in graph.node for name in node.output}
    for output in graph.output:
        last = made_by[output.name]
        before = made_by.get(last.input[0]) if last.op_type == "DequantizeLinear" else None
        if before is None or before.op_type != "QuantizeLinear":
            continue
        kept = [node for node in graph.node if node is not last and node is not before]
        for node in kept:
            for names in (node.input, node.output):
                names[:] = [output.name if name == before.input[0] else name for name in names]
        del graph.node[:]
        graph.node.extend(kept)


def let_nan_through(graph: Any) -> None:
    """Add 0 x the sum of each sample's inputs to its outputs, so that NaN stays NaN.

    Eight bits have no NaN: a whole number comes out of it, and a service would answer nonsense.
    """
    from onnx import TensorProto, helper

    floats = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
    given = [value for value in graph.input if value.type.tensor_type.elem_type in floats]
    (output,) = graph.output
    kind = output.type.tensor_type
    if not given or kind.elem_type not in floats:
        return
    nodes, sums = [], []
    for number, value in enumerate(given):
        zeros, axes = _name("zeros", number), len(value.type.tensor_type.shape.dim)
        nodes.append(_constant(f"{zeros}_one", value.type.tensor_type.elem_type, [], [0.0]))
        nodes.append(helper.make_node("Mul", [value.name, f"{zeros}_one"], [zeros]))
        if axes > 1:
            behind = list(range(1, axes))
            nodes.append(_constant(f"{zeros}_axes", TensorProto.INT64, [axes - 1], behind))
            nodes.append(
                helper.make_node(
                    "ReduceSum", [zeros, f"{zeros}_axes"], [f"{zeros}_sum"], keepdims=0
                )
            )
            zeros = f"{zeros}_sum"
        nodes.append(helper.make_node("Cast", [zeros], [_name("sum", number)], to=kind.elem_type))
        sums.append(_name("sum", number))
    whole, shape = _name("whole", 0), [-1] + [1] * (len(kind.shape.dim) - 1)
    nodes.append(helper.make_node("Sum", sums, [f"{whole}_sum"]))
    nodes.append(_constant(f"{whole}_shape", TensorProto.INT64, [len(shape)], shape))
    nodes.append(helper.make_node("Reshape", [f"{whole}_sum", f"{whole}_shape"], [whole]))
    _rename(graph, output.name, _name("outputs", 0))
    nodes.append(helper.make_node("Add", [_name("outputs", 0), whole], [output.name]))
    graph.node.extend(nodes)


def _name(what: str, number: int) -> str:
    return f"{GUARD}_{what}_{number}"


def _constant(name: str, kind: int, shape: list[int], values: list[Any]) -> Any:
    from onnx import helper

    tensor = helper.make_tensor(name, kind, shape, values)
    return helper.make_node("Constant", [], [name], value=tensor)


def _rename(graph: Any, old: str, new: str) -> None:
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [new if name == old else name for name in names]


def _product(sizes: Any) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product
