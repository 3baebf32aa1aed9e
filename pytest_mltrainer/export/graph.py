"""The model as a graph with named inputs, from which every format is made.

What torch.export refuses (a branch on data, a size that became a constant) no format gets to see.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from pytest_mltrainer.export.format import PredictModule
from pytest_mltrainer.export.refusal import listening, refusal
from pytest_mltrainer.export.signature import TensorSpec, named_leaves
from pytest_mltrainer.training.task import Task


class LeavesModule(nn.Module):
    """`task.predict` as a module whose arguments are the tensors of the inputs, in their order."""

    def __init__(self, task: Task, model: nn.Module, inputs: Any) -> None:
        """`model` must be in evaluation mode; `inputs` show how the tensors are nested.

        With `passes_nan` set, NaN in a sample's inputs makes its outputs NaN whatever the operators
        of a runtime do with it.
        """
        super().__init__()
        self.predict = PredictModule(task, model)
        self.passes_nan = False
        self._nesting = _without_tensors(inputs)

    def forward(self, *leaves: torch.Tensor) -> torch.Tensor:
        """Outputs for a batch."""
        outputs: torch.Tensor = self.predict(_with_tensors(self._nesting, iter(leaves)))
        if self.passes_nan:
            for leaf in filter(torch.is_floating_point, leaves):
                nothing = (0 * leaf).reshape(leaf.shape[0], -1).sum(1).to(outputs.dtype)
                outputs = outputs + nothing.reshape(-1, *[1] * (outputs.ndim - 1))
        return outputs


class _Place:
    """Where a tensor stood."""


_PLACE = _Place()


def graph_of(
    format_name: str,
    task: Task,
    model: nn.Module,
    inputs: Any,
    wanted: tuple[TensorSpec, ...],
    *,
    swallows_nan: tuple[type[nn.Module], ...] = (),
) -> Any:
    """The `ExportedProgram` of the model in evaluation mode; the free axes of `wanted` are dynamic.

    Only the shapes and dtypes of `inputs` count: no sample of the user's gets into the graph.
    Where the model has modules that the format's runtime gives a finite answer to NaN by, as no
    model of PyTorch does, the graph passes NaN on beside them. Raises ExportError that names
    operator and line.
    """
    pairs = list(zip(named_leaves(inputs).values(), wanted, strict=True))
    leaves = tuple(_zeros_like(leaf, spec) for leaf, spec in pairs)
    free = tuple(dict.fromkeys(spec.free_axes, torch.export.Dim.DYNAMIC) for _, spec in pairs)
    module = LeavesModule(task, model.eval(), inputs).eval()
    if any(isinstance(part, swallows_nan) for part in model.modules()):
        module.passes_nan = _is_lost_to_nan(module, leaves)
    with listening() as log:
        try:
            return torch.export.export(
                module, leaves, dynamic_shapes={"leaves": free}, strict=False
            )
        except Exception as error:  # torch has dozens of types for it, RuntimeError among them
            raise refusal(format_name, error, log) from error


def _is_lost_to_nan(module: LeavesModule, leaves: tuple[torch.Tensor, ...]) -> bool:
    """Whether the model itself answers NaN with NaN; one that masks missing values does not."""
    missing = [
        torch.full_like(leaf, torch.nan) if leaf.is_floating_point() else leaf for leaf in leaves
    ]
    try:
        with torch.no_grad():
            return bool(module(*missing).isnan().all())
    except Exception:  # a model that refuses NaN in its own words: nothing to pass on
        return False


def _zeros_like(leaf: torch.Tensor, spec: TensorSpec) -> torch.Tensor:
    """As the tensor, with two at least along free axes: torch takes one for a constant."""
    sizes = [
        max(size, 2) if axis in spec.free_axes else size for axis, size in enumerate(leaf.shape)
    ]
    return leaf.new_zeros(sizes)


def _without_tensors(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return _PLACE
    return _rebuilt(value, _without_tensors)


def _with_tensors(value: Any, leaves: Iterator[torch.Tensor]) -> Any:
    if isinstance(value, _Place):
        return next(leaves)
    return _rebuilt(value, lambda part: _with_tensors(part, leaves))


def _rebuilt(value: Any, change: Any) -> Any:
    """The same nesting of changed parts."""
    if isinstance(value, dict):
        return {key: change(part) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(change(part) for part in value))
    if isinstance(value, list | tuple):
        return type(value)(change(part) for part in value)
    return value
