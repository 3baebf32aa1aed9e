"""What goes through the single modules of a model in one forward pass, in order of execution."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import torch
from torch import nn

from pytest_mltrainer.training.probes.bench import first_tensor

T = TypeVar("T")
ATOMS = (nn.MultiheadAttention,)
"""Have children whose forward is never called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(Generic[T]):
    """A measured tensor on its way into or out of a module."""

    name: str
    kind: str
    direction: Literal["input", "output"]
    value: T

    @property
    def module(self) -> str:
        """The module as people read it: `net.2 (Linear)`."""
        return f"{self.name} ({self.kind})"


def leaves(model: nn.Module) -> dict[nn.Module, str]:
    """The modules that compute, by name; containers are left out."""
    inside = {
        child
        for module in model.modules()
        if isinstance(module, ATOMS)
        for child in module.modules()
        if child is not module
    }
    return {
        module: name or "(model)"
        for name, module in model.named_modules()
        if module not in inside
        and (isinstance(module, ATOMS) or not any(True for _ in module.children()))
    }


@contextmanager
def traced(
    model: nn.Module, measure: Callable[[torch.Tensor], T | None]
) -> Iterator[list[Event[T]]]:
    """The events of the passes made inside the block; tensors measured as None are left out.

    Tensors are measured at once and not kept, so that a large model costs no memory.
    """
    events: list[Event[T]] = []
    names = leaves(model)

    def record(module: nn.Module, direction: Literal["input", "output"], value: Any) -> None:
        tensor = first_tensor(value)
        measured = None if tensor is None else measure(tensor.detach())
        if measured is not None:
            events.append(
                Event(
                    name=names[module],
                    kind=type(module).__name__,
                    direction=direction,
                    value=measured,
                )
            )

    def before(module: nn.Module, given: Any, options: Any) -> None:
        record(module, "input", [given, options])

    def after(module: nn.Module, given: Any, output: Any) -> None:
        record(module, "output", output)

    handles: list[Any] = []
    for module in names:
        handles.append(module.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(module.register_forward_hook(after))
    try:
        yield events
    finally:
        for handle in handles:
            handle.remove()
