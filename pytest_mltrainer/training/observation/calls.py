"""What a model was last called with, kept by reference so that a fault can be replayed."""

import warnings
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import torch
from torch import nn

from pytest_mltrainer.training.observation.replay import all_finite, is_finite, max_abs, tensors_in
from pytest_mltrainer.training.reproducibility import RngState

MOST_KEPT = 16
"""Calls kept between two updates; of more, which accumulation and LBFGS make, the last ones."""


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One call of a module, and the precision it ran in."""

    module: nn.Module
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    autocast: torch.dtype | None


class KeptCalls:
    """Keeps the inputs of a model's calls since the last update; nothing is copied.

    A container that is never called itself (ModuleList, a LightningModule whose `training_step`
    calls its parts) is watched through its children. Calls inside compiled code are not seen.
    """

    def __init__(self, model: nn.Module) -> None:
        """Nothing is attached yet."""
        self._calls: deque[Call] = deque(maxlen=MOST_KEPT)
        self._device = next(model.parameters()).device.type
        self._watched = list(model.children()) if _is_container(model) else [model]
        self._handles: list[Any] = []
        self.paused = False

    def __enter__(self) -> Self:
        """Attach to the model."""
        self._handles = [
            module.register_forward_pre_hook(self._keep, with_kwargs=True)
            for module in self._watched
        ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Detach, and let go of the inputs."""
        for handle in self._handles:
            handle.remove()
        self._calls.clear()

    def __iter__(self) -> Any:
        """The calls since the last update, oldest first."""
        return iter(tuple(self._calls))

    def before_update(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Nothing: the fault, if there is one, was found before."""

    def after_update(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Let go of the inputs of this update."""
        self._calls.clear()

    def _keep(self, module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        # Inside compiled code a hook with an effect would break the graph, or forbid fullgraph.
        if torch.compiler.is_compiling() or self.paused or not torch.is_grad_enabled():
            return
        is_cast = torch.is_autocast_enabled(self._device)
        dtype = torch.get_autocast_dtype(self._device) if is_cast else None
        self._calls.append(Call(module, arguments, options, dtype))


def locate(model: nn.Module, calls: KeptCalls, what: str) -> dict[str, Any]:
    """Where a value that is not finite (`what`: loss or gradient) first appeared, as far as seen.

    Each kept call is made once more without gradients, with every module watched: the first that
    makes something not finite of finite inputs is named. Behind a finite forward, a loss is the
    loss function's own fault, and a gradient that of the last module whose parameters it spoiled.
    Generators, buffers and gradients are afterwards as they were. Blank when no call was seen.
    """
    plain = getattr(model, "_orig_mod", model)
    given = [tensor for call in calls for tensor in tensors_in([call.arguments, call.options])]
    if not given:
        return {"module": "", "module_type": "", "direction": ""}
    replay = _Replay(plain)
    for call in calls:
        replay.run(call)
    kind = ""
    if replay.found:
        name, direction = replay.found, "forward"
    elif what == "loss":
        name, direction = ("(loss)", "forward") if all_finite(given) else ("", "")
    else:
        name, direction = replay.last_spoiled(), "backward"
    if name not in ("", "(loss)"):
        kind = type(plain.get_submodule("" if name == "(model)" else name)).__name__
    return {
        "module": name,
        "module_type": kind,
        "direction": direction if name else "",
        "inputs_finite": all_finite(given),
        "max_abs_input": max(max_abs(tensor) for tensor in given),
    }


class _Replay:
    """Calls of a model made again with every module watched."""

    def __init__(self, model: nn.Module) -> None:
        self.found = ""
        self._model = model
        self._names = {module: name or "(model)" for name, module in model.named_modules()}
        self._order: list[nn.Module] = []

    def run(self, call: Call) -> None:
        """Make one call; a call that raises this time tells nothing."""
        rng = RngState.capture()
        buffers = [(buffer, buffer.clone()) for buffer in self._model.buffers()]
        handles = [module.register_forward_hook(self._look) for module in self._names]
        device = next(self._model.parameters()).device.type
        cast = torch.autocast(device, call.autocast, enabled=call.autocast is not None)
        module = getattr(call.module, "_orig_mod", call.module)
        try:
            with torch.no_grad(), warnings.catch_warnings(), cast:
                warnings.simplefilter("ignore")
                module(*call.arguments, **call.options)
        except Exception:  # the user's code, called when it did not expect it
            return
        finally:
            for handle in handles:
                handle.remove()
            for buffer, value in buffers:
                buffer.detach().copy_(value)
            rng.restore()

    def last_spoiled(self) -> str:
        """The module nearest to the loss that has a parameter with a non-finite gradient."""
        order = self._order or list(self._names)
        for module in reversed(order):
            own = module.parameters(recurse=False)
            if any(part.grad is not None and not is_finite(part.grad) for part in own):
                return self._names[module]
        return ""

    def _look(self, module: nn.Module, given: Any, output: Any) -> None:
        self._order.append(module)
        if not self.found and all_finite(given) and not all_finite(output):
            self.found = self._names[module]


def _is_container(model: nn.Module) -> bool:
    return hasattr(model, "training_step") or isinstance(model, nn.ModuleList | nn.ModuleDict)
