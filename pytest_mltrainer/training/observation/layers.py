"""Records single layers on sampled steps: gradients, weights, updates and activations."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, cast

import numpy as np
import torch
from torch import nn

from pytest_mltrainer.training.observation.activations import (
    NAN,
    ActivationHooks,
    Values,
    watched_modules,
)
from pytest_mltrainer.training.observation.layer_records import (
    OUTPUT_FIELDS,
    LayerName,
    LayerRecords,
    layer_rows,
)
from pytest_mltrainer.training.observation.sampling import Governor

BLOCK_SAMPLES = 16
LARGEST_PART = 1_000_000
"""Elements of one parameter that the update ratio is computed from; bounds the snapshot."""


@dataclass(slots=True)
class _Held:
    """What one optimizer trains: parts of parameters, their layers, the snapshot of them."""

    parameters: list[torch.Tensor]
    owners: list[str]
    scales: list[float]
    snapshot: list[torch.Tensor]


@dataclass(slots=True)
class _Sample:
    """One sampled step on the device: three norms a parameter, then four numbers a layer."""

    step: int
    owners: list[int]
    scales: list[float]
    values: torch.Tensor


class LayerRecorder:
    """A watcher of updates that records every layer on the steps that its governor picks.

    Norms are euclidean, over all parameters that a module owns itself. Of a parameter with over a
    million elements the update and the weight are measured on its first rows. With several
    optimizers a sample holds the gradients of the one that stepped.
    """

    def __init__(self, model: nn.Module, folder: Path) -> None:
        """`folder` is the phase's output; a resumed training goes on in its files."""
        self._modules = watched_modules(model)
        self._device = next(model.parameters()).device
        self._records = LayerRecords(folder)
        self._governor = Governor(on_cuda=self._device.type == "cuda")
        self._hooks = ActivationHooks(model, self._modules)
        self._owners = self._owners_of_parameters()
        self._order: list[str] = []
        self._numel: list[int] = []
        self._held: dict[tuple[int, int], _Held] = {}
        self._present: tuple[_Held, list[int], list[torch.Tensor]] | None = None
        self._pending: list[_Sample] = []
        self._is_armed = False

    def __enter__(self) -> Self:
        """Watch the first step."""
        self._arm()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Take the hooks away and write what is left."""
        self._hooks.disarm()
        self._is_armed = False
        self.flush()

    def before_update(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """On a sampled step: norms of the gradients, a copy of the weights."""
        if not self._is_armed:
            return
        with self._governor.timed(), torch.no_grad():
            self._hooks.disarm()
            held = self._held_by(optimizer)
            rows = [
                row
                for row, part in enumerate(held.parameters)
                if part.grad is not None and part.grad.layout == torch.strided
            ]
            if not rows:
                return
            gradients = [cast("torch.Tensor", held.parameters[row].grad) for row in rows]
            norms = torch._foreach_norm(gradients)
            snapshot = [held.snapshot[row] for row in rows]
            torch._foreach_copy_(snapshot, [_part(held.parameters[row]) for row in rows])
            self._present = (held, rows, [*norms, *torch._foreach_norm(snapshot)])

    def after_update(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """On a sampled step: norms of the update. On each: arm the hooks if the next is due."""
        was_armed = self._is_armed
        if was_armed:
            with self._governor.timed(), torch.no_grad():
                self._finish_sample(step)
                if len(self._pending) >= BLOCK_SAMPLES or self._device.type == "cpu":
                    self.flush()
            self._is_armed = False
        self._governor.finish_step(step, sampled=was_armed)
        if self._governor.is_due(step + 1):
            self._arm()

    def flush(self) -> None:
        """Fetch the pending samples from the device and write them."""
        if not self._pending:
            return
        whole = torch.cat([sample.values for sample in self._pending]).cpu().numpy()
        rows, start = [], 0
        for sample in self._pending:
            stop = start + len(sample.values)
            count = len(sample.owners)
            norms = whole[start : start + 3 * count].reshape(3, count)
            norms[1:] *= sample.scales
            outputs = whole[start + 3 * count : stop].reshape(-1, len(OUTPUT_FIELDS))
            rows.append(layer_rows(sample.step, self._numel, sample.owners, norms, outputs))
            start = stop
        self._pending.clear()
        self._records.append(np.concatenate(rows))

    def _arm(self) -> None:
        self._governor.start_sample()
        with self._governor.timed():
            self._hooks.arm(self._governor.timed)
        self._is_armed = True

    def _finish_sample(self, step: int) -> None:
        if self._present is None:
            return
        if not self._order:
            self._order = self._depth()
            self._numel = [self._named(name).numel for name in self._order]
        held, rows, norms = self._present
        self._present = None
        snapshot = [held.snapshot[row] for row in rows]
        torch._foreach_sub_(snapshot, [_part(held.parameters[row]) for row in rows])
        nothing: Values = (NAN,) * len(OUTPUT_FIELDS)
        measured = [part for name in self._order for part in self._hooks.seen.get(name, nothing)]
        numbers = [*norms, *torch._foreach_norm(snapshot), *measured]
        self._pending.append(
            _Sample(
                step=step,
                owners=[self._order.index(held.owners[row]) for row in rows],
                scales=[held.scales[row] for row in rows],
                values=_stacked(numbers, self._device),
            )
        )

    def _owners_of_parameters(self) -> dict[int, str]:
        """The module of each parameter; the first one where several share it."""
        owners: dict[int, str] = {}
        for name, module in self._modules.items():
            for parameter in module.parameters(recurse=False):
                owners.setdefault(id(parameter), name)
        return owners

    def _named(self, name: str) -> LayerName:
        own = self._modules[name].parameters(recurse=False)
        trained = (p for p in own if p.requires_grad and self._owners[id(p)] == name)
        kind = type(self._modules[name]).__name__
        return LayerName(name=name, type=kind, numel=sum(part.numel() for part in trained))

    def _depth(self) -> list[str]:
        """Modules in the order of their calls, written once; uncalled ones behind their neighbour.

        A resumed training keeps the order that its files already count in.
        """
        stored = [entry.name for entry in self._records.names()]
        if set(stored) == set(self._modules):
            return stored
        called = {name: float(place) for place, name in enumerate(self._hooks.seen)}
        places, last = {}, -1.0
        for name in self._modules:
            last = called.get(name, last)
            places[name] = last if name in called else last + 0.5
        order = sorted(self._modules, key=lambda name: places[name])
        self._records.write_names([self._named(name) for name in order])
        return order

    def _held_by(self, optimizer: torch.optim.Optimizer) -> _Held:
        """What this optimizer trains of the model; looked up once."""
        parameters = [part for group in optimizer.param_groups for part in group["params"]]
        key = id(optimizer), len(parameters)
        if key not in self._held:
            known = [part for part in parameters if id(part) in self._owners]
            self._held[key] = _Held(
                parameters=known,
                owners=[self._owners[id(part)] for part in known],
                scales=[(part.numel() / max(1, _part(part).numel())) ** 0.5 for part in known],
                snapshot=[torch.empty_like(_part(part)) for part in known],
            )
        return self._held[key]


def _part(parameter: torch.Tensor) -> torch.Tensor:
    """A view of the parameter's first rows, up to a million elements, and at least one row."""
    if parameter.numel() <= LARGEST_PART or parameter.ndim == 0:
        return parameter.detach()
    per_row = parameter.numel() // len(parameter)
    return parameter.detach()[: max(1, LARGEST_PART // per_row)]


def _stacked(numbers: Sequence[torch.Tensor | float], device: torch.device) -> torch.Tensor:
    """Numbers of any type and device as one vector there; on cuda nothing waits."""
    if device.type == "cpu":
        return torch.tensor([float(part) for part in numbers], dtype=torch.float32)
    unknown = torch.full((), NAN, device=device)
    return torch.stack(
        [part.to(device, torch.float32) if isinstance(part, torch.Tensor) else unknown
         for part in numbers]
    )  # fmt: skip
