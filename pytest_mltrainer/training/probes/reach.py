"""Which parameters the rehearsed updates did not reach, and why."""

from typing import Any

import torch
from torch import nn

from pytest_mltrainer.training.probes.bench import Bench, CannotProbe
from pytest_mltrainer.training.probes.updates import NONE, ZERO, UpdateWatcher


def update_facts(
    bench: Bench, watcher: UpdateWatcher | None, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Names of parameters that the rehearsed updates did not reach, each kind in a list.

    `not_in_optimizer`, `rate_zero`, `without_gradient` (never one), `zero_gradient` (exactly 0 in
    every update; not of a bias while the weight beside it is reached: it cancels out, as in the
    difference of two passes through one tower), `unchanged`; `unregistered`, modules that the model
    uses but does not list, whose parameters a backward pass reached. Raises CannotProbe when no
    update was watched.
    """
    if watcher is None or not watcher.updates:
        raise CannotProbe("no update was watched")
    trainable = [name for name, part in watcher._model.named_parameters() if part.requires_grad]
    names = {id(part): name for name, part in watcher._model.named_parameters()}
    held = {
        names[id(part)]
        for group in optimizer.param_groups
        for part in group["params"]
        if id(part) in names
    } | set(watcher.rates)
    reached = [name for name in trainable if name in watcher.rates]
    zero = [name for name in reached if watcher.gradients[name] == ZERO]
    return {
        "updates": watcher.updates,
        "trainable": len(trainable),
        "frozen": len(names) - len(trainable),
        "not_in_optimizer": [name for name in trainable if name not in held],
        "rate_zero": [name for name in reached if watcher.rates[name] == 0],
        "without_gradient": [name for name in reached if watcher.gradients[name] == NONE],
        "zero_gradient": [name for name in zero if not _cancels(name, watcher)],
        "unchanged": watcher.unchanged(),
        "unregistered": _unregistered(bench),
    }


def _cancels(name: str, watcher: UpdateWatcher) -> bool:
    layer, _, kind = name.rpartition(".")
    return kind == "bias" and watcher.gradients.get(f"{layer}.weight", ZERO) not in (ZERO, NONE)


def _unregistered(bench: Bench) -> list[str]:
    """Paths of modules and parameters in plain containers that a backward pass gives gradients.

    A frozen teacher or an average of the weights is kept out of the model in the same way, on
    purpose; no gradient reaches those.
    """
    model = bench.fresh().train()
    listed = {id(part) for part in model.parameters()}
    hidden = {
        path: [part for part in parts if part.requires_grad and id(part) not in listed]
        for path, parts in _contained(model)
    }
    hidden = {path: parts for path, parts in hidden.items() if parts}
    if hidden:
        outputs = bench.task.predict(model, bench.inputs)
        bench.task.loss(outputs, bench.targets, bench.config).backward()
    return [path for path, parts in hidden.items() if any(part.grad is not None for part in parts)]


def _contained(model: nn.Module) -> list[tuple[str, list[nn.Parameter]]]:
    """Modules and parameters inside the lists, tuples and dicts that are attributes of modules."""
    found = []
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            if attribute.startswith("_") and attribute in vars(nn.Module()):
                continue
            path = f"{name}.{attribute}" if name else attribute
            found += _inside(path, value) if isinstance(value, list | tuple | dict) else []
    return found


def _inside(path: str, value: Any) -> list[tuple[str, list[nn.Parameter]]]:
    if isinstance(value, nn.Module):
        return [(f"{path} ({type(value).__name__})", list(value.parameters()))]
    if isinstance(value, nn.Parameter):
        return [(f"{path} (Parameter)", [value])]
    if isinstance(value, dict):
        items = [(repr(key), part) for key, part in value.items()]
    elif isinstance(value, list | tuple):
        items = [(str(index), part) for index, part in enumerate(value)]
    else:
        return []
    return [entry for key, part in items for entry in _inside(f"{path}[{key}]", part)]
