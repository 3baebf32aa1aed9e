"""Dead and saturated units of a model, however it calls its activations.

Modules (`nn.ReLU`), functions (`torch.relu`, `F.sigmoid`, `x.tanh()`) and the gates inside
recurrent layers, which neither of both shows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from pytest_mltrainer.training.observation.activations import (
    CHANNELS_FIRST,
    SATURATED,
    first_tensor,
    zero_units,
)

RECTIFIERS = frozenset({"relu", "relu_", "relu6", "threshold", "threshold_"})
SQUASHERS = frozenset({"sigmoid", "sigmoid_", "tanh", "tanh_"})
NAMED = (nn.ReLU, nn.ReLU6, nn.Threshold, nn.Sigmoid, nn.Tanh)
MOST_TIMES = 64
"""Times of a series that the gates of a recurrent layer are computed for."""


@dataclass(slots=True)
class ActivationFacts:
    """By place, in the order of the calls: shares of units that are zero on all rows, of inputs
    beyond 5 of a sigmoid or tanh. A place is the name of a module or `relu behind layer1`.

    A sigmoid or tanh behind the last layer with weights is the output, which is right to be sure:
    it is left out.
    """

    dead: dict[str, float] = field(default_factory=dict)
    saturated: dict[str, float] = field(default_factory=dict)


def activation_facts(model: nn.Module, run: Callable[[], object]) -> ActivationFacts:
    """The facts of one pass; `run` sends all rows at once through `model`.

    A place that is passed several times counts its first call; a rectifier that is given the same
    on every row does not count, for others lost the difference. Modules in TorchScript and
    compiled ones are not seen.
    """
    watch = _Watch()
    names = {module: name or "(model)" for name, module in model.named_modules()}
    handles: list[Any] = []
    for module, name in names.items():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        handles.append(module.register_forward_pre_hook(watch.entering(name)))
        handles.append(module.register_forward_hook(watch.leaving(name)))
    try:
        with torch.no_grad(), watch:
            run()
    finally:
        for handle in handles:
            handle.remove()
    watch.drop_outputs()
    return watch.facts


def dead_units(model: nn.Module, run: Callable[[], object]) -> dict[str, float]:
    """Share of units by place that are zero on every row that `run` sends through `model`."""
    return activation_facts(model, run).dead


class _Watch(TorchFunctionMode):
    """Sees each activation that is called and knows between which modules."""

    def __init__(self) -> None:
        super().__init__()
        self.facts = ActivationFacts()
        self._last = "the inputs"
        self._channels_first = False
        self._inside: list[str] = []
        self._is_looking = False
        self._passed = 0
        self._behind: dict[str, int] = {}

    def drop_outputs(self) -> None:
        """Forget the sigmoids and tanhs that no layer with weights came behind."""
        for place, passed in self._behind.items():
            if passed == self._passed:
                self.facts.saturated.pop(place, None)

    def entering(self, name: str) -> Callable[[nn.Module, Any], None]:
        def enter(module: nn.Module, _given: Any) -> None:
            self._inside.append(name if isinstance(module, NAMED) else "")

        return enter

    def leaving(self, name: str) -> Callable[[nn.Module, Any, Any], None]:
        def leave(module: nn.Module, given: Any, output: Any) -> None:
            self._inside.pop()
            if any(True for _ in module.parameters(recurse=False)):
                self._last = name
                self._passed += 1
                self._channels_first = type(module).__name__.startswith(CHANNELS_FIRST)
            if isinstance(module, nn.RNN | nn.LSTM | nn.GRU):
                self._note_gates(name, module, first_tensor(given))

        return leave

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Calls the function, and measures what goes into a squasher or out of a rectifier."""
        called = getattr(func, "__name__", "")
        if self._is_looking:
            return func(*args, **(kwargs or {}))
        if called in SQUASHERS and (given := first_tensor(args)) is not None:
            share = (given.abs() > SATURATED).float().mean()
            self.facts.saturated.setdefault(self._place(called), float(share))
            self._behind[self._place(called)] = self._passed
        given = first_tensor(args) if called in RECTIFIERS else None
        varies = given is not None and (len(given) < 2 or bool((given != given[:1]).any()))
        output = func(*args, **(kwargs or {}))
        if varies and (made := first_tensor(output)) is not None:
            zero = zero_units(made, channels_first=self._channels_first)
            self.facts.dead.setdefault(self._place(called), float(zero.float().mean()))
        return output

    def _place(self, called: str) -> str:
        own = self._inside[-1] if self._inside else ""
        return own or f"{called.rstrip('_')} behind {self._last}"

    def _note_gates(self, name: str, module: Any, series: torch.Tensor | None) -> None:
        if series is None or series.ndim != 3 or module.proj_size or module.mode == "RNN_RELU":
            return
        self._is_looking = True
        share = saturated_gates(module, series if module.batch_first else series.transpose(0, 1))
        self._is_looking = False
        if math.isfinite(share):
            self.facts.saturated.setdefault(name, share)


def saturated_gates(module: Any, series: torch.Tensor) -> float:
    """The share of the sums before the gates beyond 5, in the first layer of a recurrent module.

    `series` is (batch, time, columns); at most 64 times are looked at, from a state of zeros.
    """
    part, hidden = module._parameters, module.hidden_size
    w_in, w_state = part["weight_ih_l0"], part["weight_hh_l0"]
    b_in, b_state = part.get("bias_ih_l0", 0.0), part.get("bias_hh_l0", 0.0)
    state = cell = torch.zeros(len(series), hidden, dtype=series.dtype, device=series.device)
    beyond, count = 0.0, 0
    for time in range(min(series.shape[1], MOST_TIMES)):
        given, kept = series[:, time] @ w_in.T + b_in, state @ w_state.T + b_state
        if module.mode == "GRU":
            reset, update = (given + kept)[:, : 2 * hidden].chunk(2, 1)
            new = given[:, 2 * hidden :] + reset.sigmoid() * kept[:, 2 * hidden :]
            sums = torch.cat([reset, update, new], 1)
            state = update.sigmoid() * state + (1 - update.sigmoid()) * new.tanh()
        elif module.mode == "LSTM":
            sums = given + kept
            enter, keep, new, out = sums.chunk(4, 1)
            cell = keep.sigmoid() * cell + enter.sigmoid() * new.tanh()
            state = out.sigmoid() * cell.tanh()
        else:
            sums = given + kept
            state = sums.tanh()
        beyond += float((sums.abs() > SATURATED).float().sum())
        count += sums.numel()
    return beyond / count if count else math.nan
