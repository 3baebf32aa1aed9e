"""What one forward pass tells of the modules that it goes through."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from pytest_mltrainer.training.observation.layer_records import OUTPUT_FIELDS

RECTIFIERS = (nn.ReLU, nn.ReLU6)
SQUASHERS = (nn.Sigmoid, nn.Tanh)
SATURATED = 5.0
"""Beyond it the slope of a sigmoid is under 0.7 % of 1, that of tanh under 0.02 %."""
CHANNELS_FIRST = ("Conv", "BatchNorm", "InstanceNorm", "GroupNorm")
NAN = float("nan")
Values = tuple[torch.Tensor | float, ...]


def watched_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Modules that own parameters, and activations; those in TorchScript take no hooks."""
    return {
        name or "(model)": module
        for name, module in model.named_modules()
        if (
            any(True for _ in module.parameters(recurse=False))
            or isinstance(module, RECTIFIERS + SQUASHERS)
        )
        and not isinstance(module, torch.jit.ScriptModule)
    }


class ActivationHooks:
    """Forward hooks that measure each module at its first call of a training step.

    Later calls (a module used twice, the next part of an accumulated batch) and passes without
    gradients (validation) are not measured. A unit is a channel behind convolutions and their
    norms, else an entry of the last dimension. Nothing here waits for the device, draws random
    numbers or changes an output. Activations called as functions are no modules: not seen.
    """

    def __init__(self, model: nn.Module, modules: Mapping[str, nn.Module]) -> None:
        """`modules` by name, as `watched_modules` finds them."""
        self._model = model
        self._modules = modules
        self._handles: list[Any] = []
        self._channels_first = False
        self.seen: dict[str, Values] = {}
        """Quantities by module, in the order of the calls."""

    def arm(self, timed: Callable[[], Any]) -> None:
        """Watch the next pass; `timed` makes a context that each look runs in."""
        self.seen = {}
        for name, module in self._modules.items():
            hook = self._hook(name, module, timed)
            self._handles.append(module.register_forward_hook(hook))

    def disarm(self) -> None:
        """Take the hooks away; what was seen stays."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _hook(
        self, name: str, module: nn.Module, timed: Callable[[], Any]
    ) -> Callable[[nn.Module, Any, Any], None]:
        has_parameters = any(True for _ in module.parameters(recurse=False))
        puts_channels_first = type(module).__name__.startswith(CHANNELS_FIRST)

        def look(_: nn.Module, given: Any, output: Any) -> None:
            if torch.compiler.is_compiling() or name in self.seen:
                return
            is_training = self._model.training and torch.is_grad_enabled()
            if not is_training:
                return
            with timed(), torch.no_grad():
                if has_parameters:
                    self._channels_first = puts_channels_first
                self.seen[name] = self._measure(module, given, first_tensor(output))

        return look

    def _measure(self, module: nn.Module, given: Any, output: torch.Tensor | None) -> Values:
        if output is None:
            return (NAN,) * len(OUTPUT_FIELDS)
        std, mean = torch.std_mean(output, correction=0)
        zero: torch.Tensor | float = NAN
        saturated: torch.Tensor | float = NAN
        if isinstance(module, RECTIFIERS):
            zero = zero_units(output, channels_first=self._channels_first).float().mean()
        before = first_tensor(given) if isinstance(module, SQUASHERS) else None
        if before is not None:
            saturated = (before.abs() > SATURATED).float().mean()
        return mean, std, zero, saturated


def zero_units(output: torch.Tensor, *, channels_first: bool) -> torch.Tensor:
    """Which units of a rectifier's output are zero everywhere in the batch."""
    axis = 1 if channels_first and output.ndim > 1 else output.ndim - 1
    others = [dim for dim in range(output.ndim) if dim != axis]
    return (output.amax(others) if others else output) <= 0


def first_tensor(value: Any) -> torch.Tensor | None:
    """The tensor of numbers that a module puts out (recurrent ones: the first of several)."""
    while isinstance(value, tuple | list) and value:
        value = value[0]
    is_plain = (
        isinstance(value, torch.Tensor)
        and value.is_floating_point()
        and value.layout == torch.strided
        and value.numel() > 0
    )
    return value.detach() if is_plain else None
