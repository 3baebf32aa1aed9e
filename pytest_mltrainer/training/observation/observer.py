"""Watches any training loop through torch's own hooks, without the loop's knowledge.

The loss is taken from the root of `backward`, the rest around `optimizer.step`. Values stay on
the device and are fetched in blocks; on the CPU, where looking is free, each step is checked
before it can spoil the weights.
"""

import math
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Protocol, Self, cast

import numpy as np
import torch
from torch import nn
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from pytest_mltrainer.training.observation.telemetry import BLOCK_STEPS, STEP

Scalar = torch.Tensor | float
UNSCALED = "_mltrainer_unscaled"
"""The attribute by which a loss that was scaled for mixed precision holds the loss itself."""
SMALL_MODEL = 100_000
"""Elements of gradients that are quicker copied to one tensor than looked at one by one."""
_flatten = torch._C._nn.flatten_dense_tensors
Rows = Callable[["np.ndarray[Any, Any]"], None]


class NonFiniteTraining(Exception):
    """A loss or a gradient is not finite; raised before the update that would have used it."""

    def __init__(self, what: str, step: int, loss: float, gradient_norm: float) -> None:
        """`what` is `loss` or `gradient`; `step` counts updates from 0."""
        super().__init__(f"{what} is not finite at step {step}")
        self.what = what
        self.step = step
        self.loss = loss
        self.gradient_norm = gradient_norm


class StepsDone(Exception):
    """The steps that a rehearsal is allowed are done."""


class StepWatcher(Protocol):
    """Looks at single updates; what it costs is paid by every step."""

    def before_update(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Gradients are complete and clipped, the weights still those that made them."""
        ...

    def after_update(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """The optimizer has stepped; gradients are still there."""
        ...


class AfterUpdate:
    """A watcher that calls a function with the step and its optimizer behind each update."""

    def __init__(self, look: Callable[[int, torch.optim.Optimizer], None]) -> None:
        """`look` finds the gradients of the update still there."""
        self._look = look

    def before_update(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Wait for the update."""

    def after_update(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Look."""
        self._look(step, optimizer)


class Observer:
    """Records every update of the optimizers that train `model`."""

    def __init__(self, model: nn.Module, write: Rows, *, first_step: int = 0) -> None:
        """`write` takes blocks of step records; `first_step` is the number of the next update."""
        self.step = first_step
        self.epoch = 0
        self.wait_s = 0.0
        """Seconds of the present step spent waiting for data; the session adds them up."""
        self.last_loss: Scalar = math.nan
        """The loss of the latest update, still on the device."""
        self.limit_steps: int | None = None
        self.watchers: list[StepWatcher] = []
        self.on_non_finite: Callable[[NonFiniteTraining], None] = _stop
        """What follows on a value that is not finite; the training goes on when it returns."""
        self._write = write
        self._parameters = {id(parameter) for parameter in model.parameters()}
        self._on_cpu = next(model.parameters()).device.type == "cpu"
        self._losses: list[torch.Tensor] = []
        self._clipped_norm: torch.Tensor | None = None
        self._held: dict[tuple[int, int, int], tuple[list[torch.Tensor], int]] = {}
        self._block: list[tuple[int, int, Scalar, Scalar, float, float, float]] = []
        self._current: tuple[Scalar, Scalar, float] | None = None
        self._since = time.perf_counter()
        self._handles: list[Any] = []
        self._backward = torch.autograd.backward

    def __enter__(self) -> Self:
        """Attach to torch."""
        self._handles = [
            register_optimizer_step_pre_hook(self._before_step),
            register_optimizer_step_post_hook(self._after_step),
        ]
        torch.autograd.backward = self._observed_backward
        self._since = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Detach and write what is left."""
        torch.autograd.backward = self._backward
        for handle in self._handles:
            handle.remove()
        self.flush()

    def clipped(self, total_norm: torch.Tensor) -> None:
        """Reuse the gradient norm that clipping has computed already."""
        self._clipped_norm = total_norm.detach()

    def skipped(self) -> None:
        """An update was left out (a loss scaler met an overflow): its losses are no step's."""
        self._losses.clear()

    def average_losses(self, mean: Callable[[torch.Tensor], torch.Tensor]) -> None:
        """Put the mean over several processes in place of the losses since the last update."""
        if self._losses:
            self._losses = [mean(sum(self._losses[1:], self._losses[0]))]

    def flush(self) -> None:
        """Fetch the block from the device and write it."""
        if not self._block:
            return
        rows = np.empty(len(self._block), STEP)
        steps, epochs, losses, norms, rates, durations, waits = zip(*self._block, strict=True)
        rows["step"], rows["epoch"], rows["learning_rate"] = steps, epochs, rates
        rows["step_s"], rows["wait_s"] = durations, waits
        rows["loss"], rows["gradient_norm"] = self._fetched(losses), self._fetched(norms)
        self._block.clear()
        self._write(rows)
        if not self._on_cpu:
            self._check_block(rows)

    def _fetched(self, values: Sequence[Scalar]) -> "np.ndarray[Any, Any]":
        """Numbers as they are; tensors in one copy, since each copy waits for the device."""
        if self._on_cpu:
            return np.array(values, dtype=np.float64)
        device = next((part.device for part in values if isinstance(part, torch.Tensor)), None)
        tensors = [torch.as_tensor(value, device=device).reshape(()) for value in values]
        return torch.stack(tensors).double().cpu().numpy()

    def _observed_backward(self, tensors: Any, *args: Any, **options: Any) -> None:
        root = tensors if isinstance(tensors, torch.Tensor) else tensors[0]
        if root.numel() == 1:
            self._losses.append(getattr(root, UNSCALED, root).detach())
        self._backward(tensors, *args, **options)

    def _before_step(
        self, optimizer: torch.optim.Optimizer, arguments: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Look at the update; where a closure computes it (LBFGS), at its first evaluation."""
        closure = (
            options.get("closure") or next(iter(arguments[1:]), None)
            if options or len(arguments) > 1
            else None
        )
        if not callable(closure):
            self._look(optimizer)
            return None
        self._losses.clear()
        others = {name: value for name, value in options.items() if name != "closure"}
        return (arguments[0], self._observed_closure(optimizer, closure), *arguments[2:]), others

    def _observed_closure(
        self, optimizer: torch.optim.Optimizer, closure: Callable[[], Any]
    ) -> Callable[[], Any]:
        is_first = True

        def evaluate() -> Any:
            nonlocal is_first
            loss = closure()
            if is_first:
                is_first = False
                self._look(optimizer)
            self._losses.clear()
            return loss

        return evaluate

    def _look(self, optimizer: torch.optim.Optimizer) -> None:
        watched, elements = self._watched(optimizer)
        gradients = [grad for part in watched if (grad := part.grad) is not None]
        if not gradients:
            if not watched:
                self._losses.clear()  # They were those of another model.
            return
        if self.limit_steps is not None and self.step >= self.limit_steps:
            raise StepsDone
        norm: Scalar = (
            self._clipped_norm
            if self._clipped_norm is not None
            else total_norm(gradients, elements=elements)
        )
        self._clipped_norm = None
        if getattr(optimizer, "found_inf", None) is not None:
            norm = _unscaled(optimizer, norm)
        # An accumulated loss is the sum of its parts: each part was divided by their number.
        loss: Scalar = sum(self._losses[1:], self._losses[0]) if self._losses else math.nan
        if self._on_cpu:
            loss, norm = float(loss), float(norm)
            self._check(self.step, loss, norm, bool(self._losses))
        self._losses.clear()
        self.last_loss = loss
        self._current = (loss, norm, float(optimizer.param_groups[0]["lr"]))
        for watcher in self.watchers:
            watcher.before_update(self.step, optimizer)

    def _after_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if self._current is None:
            return
        now = time.perf_counter()
        duration, self._since = now - self._since, now
        loss, norm, rate = self._current
        self._block.append((self.step, self.epoch, loss, norm, rate, duration, self.wait_s))
        self._current, self.wait_s = None, 0.0
        for watcher in self.watchers:
            watcher.after_update(self.step, optimizer)
        self.step += 1
        if len(self._block) >= BLOCK_STEPS:
            self.flush()

    def _watched(self, optimizer: torch.optim.Optimizer) -> tuple[list[torch.Tensor], int]:
        """The parameters of the model that this optimizer holds, their size; looked up once."""
        groups = optimizer.param_groups
        key = id(optimizer), len(groups), len(groups[-1]["params"])
        watched = self._held.get(key)
        if watched is None:
            held = [part for group in groups for part in group["params"]]
            own = [part for part in held if id(part) in self._parameters]
            watched = self._held[key] = (own, sum(part.numel() for part in own))
        return watched

    def restart_clock(self) -> None:
        """Leave out of the next step's time what was done since the last one (validation)."""
        self._since = time.perf_counter()

    def _check(self, step: int, loss: float, norm: float, has_loss: bool) -> None:
        if has_loss and not math.isfinite(loss):
            self.on_non_finite(NonFiniteTraining("loss", step, loss, norm))
        elif not math.isfinite(norm):
            self.on_non_finite(NonFiniteTraining("gradient", step, loss, norm))

    def _check_block(self, rows: "np.ndarray[Any, Any]") -> None:
        bad = np.flatnonzero(~(np.isfinite(rows["loss"]) & np.isfinite(rows["gradient_norm"])))
        if bad.size:
            row = rows[bad[0]]
            self._check(int(row["step"]), float(row["loss"]), float(row["gradient_norm"]), True)


def named_gradients(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """The gradients that an update of this optimizer uses, by the names of their parameters.

    Those of other parameters may be left over from any earlier step, and change nothing.
    """
    held = {id(part) for group in optimizer.param_groups for part in group["params"]}
    return {
        name: part.grad
        for name, part in model.named_parameters()
        if part.grad is not None and id(part) in held
    }


def total_norm(gradients: list[torch.Tensor], *, elements: int) -> Scalar:
    """Euclidean norm over all gradients; it is finite if and only if every element is.

    Looking at the elements themselves costs 25 % of a step, the norms of the tensors about 1 %.
    Where a step takes a few milliseconds the number of calls is what counts: the gradients of a
    small model (`elements` in all) are copied to one tensor first.
    """
    if elements <= SMALL_MODEL:
        try:
            return cast("torch.Tensor", torch.linalg.vector_norm(_flatten(gradients)))
        except RuntimeError:  # Sparse ones, or of several devices.
            pass
    dense = [part.coalesce().values() if part.is_sparse else part for part in gradients]
    norms = [norm.to(dense[0].device) for norm in torch._foreach_norm(dense)]
    return cast("torch.Tensor", torch.linalg.vector_norm(torch.stack(norms)))


def _unscaled(optimizer: torch.optim.Optimizer, norm: Scalar) -> torch.Tensor:
    """The norm where a loss scaler leaves unscaling to a fused step; 0 where it skips the step."""
    skips: torch.Tensor = optimizer.found_inf  # type: ignore[attr-defined]
    scale = getattr(optimizer, "grad_scale", None)
    true_norm = torch.as_tensor(norm, device=skips.device) / (1.0 if scale is None else scale)
    return torch.where(skips > 0, 0.0, true_norm)


def _stop(error: NonFiniteTraining) -> None:
    raise error
