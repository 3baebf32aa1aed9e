"""Does evaluation repeat itself, and can BatchNorm learn what evaluation needs?"""

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from pytest_mltrainer.training.probes.bench import Bench, number, seeded
from pytest_mltrainer.training.probes.mixing import (
    CHANGED,
    Pass,
    distance,
    first_difference,
    rows_through,
)
from pytest_mltrainer.training.probes.trace import traced


def mode_facts(bench: Bench) -> dict[str, Any]:
    """Whether evaluation repeats itself, and what BatchNorm can learn of the data.

    `repeat_difference`: two evaluations of the same rows, relative to the largest output, and
    `where` it begins; `still_training`: modules that `eval()` leaves in training mode; `norms`:
    each BatchNorm in training with its momentum and how many values a batch gives one channel.
    """
    model = bench.fresh()
    model.eval()
    still = [
        f"{name} ({type(module).__name__})"
        for name, module in model.named_modules()
        if module.training and not any(True for _ in module.children())
    ]
    one = rows_through(bench, model, bench.inputs)
    other = _again(bench, model)
    difference = distance(one.outputs, other.outputs)
    every = slice(None)
    return {
        "repeat_difference": number(difference),
        "where": first_difference(one.events, other.events, every) if difference > CHANGED else "",
        "still_training": still,
        "norms": _norms(bench, model),
        "updates": bench.updates_per_epoch * bench.config.training.epochs,
    }


def _again(bench: Bench, model: nn.Module) -> Pass:
    """The pass once more, with whatever draws numbers drawing others."""
    changed = replace(bench, rng=seeded(bench.config.seed, "probe", "again"))
    return rows_through(changed, model, bench.inputs)


def _norms(bench: Bench, model: nn.Module) -> list[dict[str, Any]]:
    kinds = nn.modules.batchnorm._BatchNorm
    model.train()
    training = {id(module) for module in model.modules() if module.training}

    def per_sample(tensor: torch.Tensor) -> float:
        values: int = tensor[0, 0].numel() if tensor.ndim > 1 else 1
        return values * len(tensor) / bench.size

    model.eval()
    with traced(model, per_sample) as events:
        bench.predict(model, bench.inputs)
    modules = dict(model.named_modules())
    return [
        {
            "name": event.name,
            "momentum": norm.momentum,
            "values": event.value * bench.config.training.batch_size,
        }
        for event in events
        if event.direction == "input"
        and isinstance(norm := modules.get(event.name), kinds)
        and id(norm) in training
        and norm.track_running_stats
    ]
