"""How far back gradients reach in recurrent layers, and what activations do before training."""

from typing import Any

import torch
from torch import nn

from pytest_mltrainer.training.activation_facts import activation_facts
from pytest_mltrainer.training.probes.bench import Bench, first_tensor, number, without_dropout
from pytest_mltrainer.training.probes.trace import leaves

RECURRENT = (nn.RNN, nn.LSTM, nn.GRU)
LEAST_TIMES = 8
SHARE = 8
"""An eighth of the times at either end is compared."""


def reach_facts(bench: Bench) -> dict[str, Any]:
    """For each recurrent layer of the fresh model, how its gradients change on the way back.

    `reach`: by name, the gradient at the first eighth of the times over that at the last eighth:
    far below 1 where it fades, far above where it explodes. Layers of under 8 times, packed
    sequences and layers without a gradient are left out. `dead`, `saturated`: by place, what
    `activation_facts` says of the fresh model.
    """
    model = bench.fresh()
    with without_dropout(model):
        facts = activation_facts(model, lambda: bench.predict(model, bench.inputs))
    return {
        "dead": facts.dead,
        "saturated": facts.saturated,
        "reach": _reach(bench),
    }


def _reach(bench: Bench) -> dict[str, float]:
    model = bench.fresh()
    layers = {module: name for module, name in leaves(model).items()
              if isinstance(module, RECURRENT)}  # fmt: skip
    if not layers:
        return {}
    given: dict[str, torch.Tensor] = {}
    handles = [
        module.register_forward_pre_hook(_tracked(given, name)) for module, name in layers.items()
    ]
    try:
        with without_dropout(model):
            bench.rng.restore()
            outputs = bench.task.predict(model, bench.inputs)
            bench.task.loss(outputs, bench.targets, bench.config).backward()
    finally:
        for handle in handles:
            handle.remove()
    found = {}
    for module, name in layers.items():
        batch_first = bool(getattr(module, "batch_first", False))
        ratio = _first_over_last(given.get(name), batch_first=batch_first)
        if ratio is not None:
            found[name] = ratio
    return found


def _tracked(given: dict[str, torch.Tensor], name: str) -> Any:
    """A hook that lets the series that goes into a layer keep its gradient."""

    def track(_module: nn.Module, inputs: Any) -> Any:
        series = inputs[0]
        if not isinstance(series, torch.Tensor) or series.ndim != 3 or name in given:
            return None
        given[name] = series if series.requires_grad else series.detach().requires_grad_()
        given[name].retain_grad()
        return (given[name], *inputs[1:])

    return track


def _first_over_last(series: torch.Tensor | None, *, batch_first: bool) -> float | None:
    gradient = first_tensor(series.grad) if series is not None else None
    if gradient is None:
        return None
    by_time = gradient.double().transpose(0, 1) if batch_first else gradient.double()
    part = len(by_time) // SHARE
    if len(by_time) < LEAST_TIMES:
        return None
    first, last = float(by_time[:part].norm()), float(by_time[-part:].norm())
    return number(first / last) if last > 0 else None
