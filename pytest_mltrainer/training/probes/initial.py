"""The model before its first update: its loss, the scale of its layers, weights that are alike."""

from typing import Any, TypeGuard

import torch
from torch import nn

from pytest_mltrainer.training.probes.bench import (
    Bench,
    CannotProbe,
    map_tensors,
    number,
    without_dropout,
)
from pytest_mltrainer.training.probes.loss import undecided_loss
from pytest_mltrainer.training.probes.trace import leaves, traced

LOOKED_UP = (nn.Embedding, nn.EmbeddingBag)
LIMIT_LAYERS = 200


def initial_facts(bench: Bench) -> dict[str, Any]:
    """Initial loss beside that of undecided outputs, and each weighted layer in order of execution.

    Inputs are standardised first, so that raw data do not pass for a bad initialisation
    (`standardised` says whether that left the outputs finite; else they are as they are). Each
    layer has `input_std`, `row_std` of its outputs between samples, `bias` (median size), `gain`
    (how much its weights enlarge independent inputs), `common` (how much more they enlarge what all
    inputs have in common; of a recurrent layer the most of its matrices), `zero` (all weights 0)
    and `alike`, `alike_after`: all rows of its weights and biases equal, before and after the
    rehearsed updates, None where rows are no units. `dropout`: the largest share of units that a
    module of the model drops.
    """
    model = bench.fresh()
    inputs, is_standardised = standardised(bench.inputs), True
    with without_dropout(model):
        outputs = bench.predict(model, inputs)
        if not bool(torch.isfinite(outputs).all()):
            inputs, is_standardised = bench.inputs, False
    model = bench.fresh()
    with without_dropout(model), traced(model, _scales) as events:
        outputs = bench.predict(model, inputs)
    weighted = {
        name: module
        for module, name in leaves(model).items()
        if not isinstance(module, LOOKED_UP) and _matrices(module)
    }
    scales: dict[str, dict[str, float]] = {}
    for event in events:
        if event.name in weighted:
            scales.setdefault(event.name, {}).setdefault(event.direction, 0.0)
            scales[event.name][event.direction] = event.value
    after = dict(bench.stepped().named_modules())
    order = list(scales)[:LIMIT_LAYERS]
    return {
        "loss": number(bench.loss(outputs)),
        "undecided": _undecided(bench, outputs),
        "standardised": is_standardised,
        "stepped": bench.state is not None,
        "layers": [
            {
                "name": name,
                "kind": type(weighted[name]).__name__,
                "input_std": number(scales[name].get("input", 0.0)),
                "row_std": number(scales[name].get("output", 0.0)),
                **_weights(weighted[name], after.get("" if name == "(model)" else name)),
            }
            for name in order
        ],
        "output_std": number(_scales(outputs) or 0.0),
        "dropout": max((module.p for module in model.modules() if _drops(module)), default=0.0),
    }


def _drops(module: nn.Module) -> TypeGuard[nn.Dropout]:
    return isinstance(module, nn.modules.dropout._DropoutNd)


def _undecided(bench: Bench, outputs: torch.Tensor) -> float | None:
    try:
        return number(undecided_loss(bench, outputs))
    except CannotProbe:
        return None


def standardised(inputs: Any) -> Any:
    """Floating-point inputs with mean 0 and deviation 1: tables column by column, others whole."""

    def change(tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point() or tensor.numel() < 2:
            return tensor
        over = [0] if tensor.ndim == 2 and len(tensor) > 1 else list(range(tensor.ndim))
        std = tensor.std(over, correction=0, keepdim=True)
        centred = tensor - tensor.mean(over, keepdim=True)
        return torch.where(std > 0, centred / std.clamp_min(1e-12), centred)

    return map_tensors(inputs, change)


def _scales(tensor: torch.Tensor) -> float | None:
    """Standard deviation between samples, pooled over elements; None for integers."""
    if not tensor.is_floating_point() or not tensor.ndim or len(tensor) < 2:
        return None
    return float(tensor.double().reshape(len(tensor), -1).var(0, correction=0).mean().sqrt())


def _matrices(module: nn.Module) -> list[torch.Tensor]:
    """The trainable weights whose rows are units, those of inputs first; norms have none."""
    return [
        part
        for name, part in module.named_parameters(recurse=False)
        if part.ndim >= 2 and name.startswith(("weight", "in_proj_weight")) and part.requires_grad
    ]


def _weights(module: nn.Module, after: nn.Module | None) -> dict[str, Any]:
    matrices = _matrices(module)
    weight = matrices[0] if matrices else None
    bias = getattr(module, "bias", None)
    is_units = weight is not None and len(weight) > 1 and getattr(module, "groups", 1) == 1
    return {
        "gain": None if weight is None else _gain(weight),
        "common": max(map(_common, matrices), default=None),
        "zero": weight is not None and not bool(weight.any()),
        "bias": number(bias.detach().abs().median())
        if isinstance(bias, torch.Tensor) and bias.numel()
        else 0.0,
        "alike": _alike(module) if is_units else None,
        "alike_after": _alike(after) if is_units and after is not None else None,
    }


def _gain(weight: torch.Tensor) -> float | None:
    """Root mean square times the root of the fan-in."""
    numbers = weight.detach().double()
    return number(float(numbers.square().mean().sqrt()) * numbers[0].numel() ** 0.5)


def _common(weight: torch.Tensor) -> float:
    """The mean over the error of a mean of as many numbers as a unit has inputs."""
    numbers = weight.detach().double()
    spread = float(numbers.std(correction=0)) or 1e-12
    return number(abs(float(numbers.mean())) * numbers[0].numel() ** 0.5 / spread) or 0.0


def _alike(module: nn.Module) -> bool:
    """Whether every unit of the layer has the same weights and the same bias."""
    parts = [part for _, part in module.named_parameters(recurse=False) if len(part) > 1]
    return all(bool((part == part[:1]).all()) for part in parts)
