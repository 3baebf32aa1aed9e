"""Finds where a training turned non-finite: the batch once more, with every module watched."""

import math
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pytest_mltrainer.training.observation.observer import NonFiniteTraining

if TYPE_CHECKING:
    import numpy as np

    from pytest_mltrainer.training.session import TrainingSession

LIMIT_SHOWN_IDS = 64


def describe_fault(
    session: "TrainingSession", error: NonFiniteTraining, rows: "np.ndarray[Any, Any]"
) -> dict[str, Any]:
    """Step, batch, module and direction of the first non-finite value, and what came before.

    The weights are those before the update that would have used it, so the replay meets it again.
    """
    inputs, targets = session.batch
    module, kind, direction = first_non_finite(session, inputs, targets)
    last = rows[rows["step"] < error.step]
    finite = {
        "loss": float(last["loss"][-1]) if last.size else None,
        "gradient_norm": float(last["gradient_norm"][-1]) if last.size else None,
    }
    tensors = list(tensors_in(inputs))
    return {
        "step": error.step,
        "epoch": session.observer.epoch,
        "what": error.what,
        "loss": str(error.loss),
        "gradient_norm": str(error.gradient_norm),
        "batch_ids": session.batch_indices()[:LIMIT_SHOWN_IDS],
        "module": module,
        "module_type": kind,
        "direction": direction,
        "learning_rate": float(session.optimizer.param_groups[0]["lr"]),
        "last_finite": {name: value for name, value in finite.items() if value is not None},
        "inputs_finite": all(is_finite(tensor) for tensor in tensors),
        "targets_finite": all(is_finite(tensor) for tensor in tensors_in(targets)),
        "max_abs_input": max((max_abs(tensor) for tensor in tensors), default=0.0),
    }


def first_non_finite(
    session: "TrainingSession", inputs: Any, targets: torch.Tensor
) -> tuple[str, str, str]:
    """Name, type and direction of the first module whose result is not finite, or three blanks.

    Forward: finite inputs and a non-finite output. Backward: a finite gradient in, not out. Inputs
    or targets that are not finite themselves are no module's fault.
    """
    with warnings.catch_warnings():
        # The first module's inputs want no gradient, which torch warns of for each hook on it.
        warnings.simplefilter("ignore")
        try:
            return _watched(session, inputs, targets, backward_hooks=True)
        except RuntimeError:
            # Hooks forbid model code that changes a result in place: parameters tell as well.
            return _watched(session, inputs, targets, backward_hooks=False)


def _watched(
    session: "TrainingSession", inputs: Any, targets: torch.Tensor, *, backward_hooks: bool
) -> tuple[str, str, str]:
    found: list[tuple[str, str, str]] = []
    names = {module: name or "(model)" for name, module in session.model.named_modules()}

    def forward(module: nn.Module, given: Any, output: Any) -> None:
        if not found and all_finite(given) and not all_finite(output):
            found.append((names[module], type(module).__name__, "forward"))

    def backward(module: nn.Module, grad_input: Any, grad_output: Any) -> None:
        if not found and all_finite(grad_output) and not all_finite(grad_input):
            found.append((names[module], type(module).__name__, "backward"))

    handles = []
    for module in names:
        handles.append(module.register_forward_hook(forward))
        if backward_hooks and not any(True for _ in module.children()):
            handles.append(module.register_full_backward_hook(backward))
    in_place = [module for module in names if getattr(module, "inplace", False) is True]
    for module in in_place:
        module.inplace = False
    try:
        session.model.zero_grad()
        outputs = session.task.predict(session.model, inputs)
        loss = session.task.loss(outputs, targets, session.config)
        is_sound = is_finite(loss)
        if not found and not is_sound and all_finite([outputs, targets]):
            found.append(("(loss)", f"{type(session.task).__name__}.loss", "forward"))
        if not found and is_sound:
            loss.backward()
            found.extend(_spoiled_parameter(session.model))
    finally:
        for handle in handles:
            handle.remove()
        for module in in_place:
            module.inplace = True
    return found[0] if found else ("", "", "")


def is_finite(tensor: torch.Tensor) -> bool:
    """Whether every element is finite; integers always are."""
    return not tensor.is_floating_point() or bool(torch.isfinite(tensor).all())


def _spoiled_parameter(model: nn.Module) -> list[tuple[str, str, str]]:
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not is_finite(parameter.grad):
            owner = name.rpartition(".")[0]
            return [(owner or "(model)", type(model.get_submodule(owner)).__name__, "backward")]
    return []


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Every tensor of a nesting of mappings, lists and tuples."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [tensor for part in value for tensor in tensors_in(part)]
    return []


def all_finite(value: Any) -> bool:
    """Whether every tensor of a nesting is finite."""
    return all(is_finite(tensor) for tensor in tensors_in(value))


def max_abs(tensor: torch.Tensor) -> float:
    """The largest finite size of an element; 0 for integers and without any."""
    if not tensor.is_floating_point() or not tensor.numel():
        return 0.0
    largest = float(torch.nan_to_num(tensor, nan=0.0, posinf=0.0, neginf=0.0).abs().max())
    return largest if math.isfinite(largest) else 0.0
