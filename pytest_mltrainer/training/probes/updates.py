"""What single updates of a training reach and leave behind, watched through any loop."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from pytest_mltrainer.training.probes.bench import CannotProbe, number
from pytest_mltrainer.training.reproducibility import digest_tensor

WATCHED_PARAMETERS = 4
LARGEST_WATCHED = 200_000
LEAST_UPDATES = 3
SURVIVED = 0.5
UNEXPLAINED = 0.01
"""Share of a gradient that its own backward passes must leave unexplained before others may."""
FEWEST_ELEMENTS = 8
NONE, ZERO, SOME = "none", "zero", "some"
LIMIT_SHOWN = 20


class UpdateWatcher:
    """A StepWatcher: which parameters get a gradient and a rate, and whether gradients survive.

    Put it into `observer.watchers` before training and call `detach` afterwards. Hooks on four
    parameters add up what each backward pass contributes, so that accumulation over several
    passes, clipping and loss scaling are no survival.
    """

    def __init__(self, model: nn.Module) -> None:
        """Takes digests of the weights as they are now."""
        self._names = {id(part): name for name, part in model.named_parameters()}
        self._model = model
        self._before = {name: digest_tensor(part) for name, part in model.named_parameters()}
        self.gradients = {name: NONE for name, part in model.named_parameters()}
        self.rates: dict[str, float] = {}
        self.updates = 0
        self.backwards = 0
        self.norms: list[float] = []
        self._survived: dict[int, list[float]] = {}
        self._watched = _spread(model)
        self._own = [torch.zeros_like(part) for part in self._watched]
        self._left: dict[int, torch.Tensor] = {}
        self._handles = [
            part.register_hook(self._adding(index)) for index, part in enumerate(self._watched)
        ]

    def detach(self) -> None:
        """Take the hooks off the parameters."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def before_update(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Note who has a gradient and a rate; compare the gradient with what was contributed."""
        for group in optimizer.param_groups:
            for part in group["params"]:
                name = self._names.get(id(part))
                if name is not None:
                    self.rates[name] = max(self.rates.get(name, 0.0), float(group["lr"]))
                    self._note_gradient(name, part.grad)
        if held := self._held(optimizer):
            self._compare(held)

    def after_update(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Remember the gradients that the update leaves."""
        self.updates += 1
        for index in self._held(optimizer):
            self._left[index] = _gradient(self._watched[index]).clone()
            self._own[index].zero_()

    def _held(self, optimizer: torch.optim.Optimizer) -> list[int]:
        """Places of the watched parameters that the optimizer holds."""
        held = {id(part) for group in optimizer.param_groups for part in group["params"]}
        return [index for index, part in enumerate(self._watched) if id(part) in held]

    def unchanged(self) -> list[str]:
        """Names of the trainable parameters whose bits are those before the first update."""
        return [
            name
            for name, part in self._model.named_parameters()
            if part.requires_grad and digest_tensor(part) == self._before[name]
        ]

    def survival(self) -> dict[str, Any]:
        """In how many updates the last update's gradient was still there, in one parameter.

        Of the parameter that kept most: `survived_share` of the `compared` updates of its
        optimizer, and `ratio`, the median part of the old gradient that is left in the new one (1:
        nothing was cleared). `norms` of the watched gradients of each update. Raises CannotProbe
        below three updates, for a first one has nothing behind it.
        """
        kept = [
            sorted(ratios) for ratios in self._survived.values() if len(ratios) >= LEAST_UPDATES - 1
        ]
        if not kept:
            raise CannotProbe(f"{self.updates} updates; a survival shows from {LEAST_UPDATES} on")
        ordered = max(kept, key=lambda ratios: ratios[len(ratios) // 2])
        return {
            "compared": len(ordered),
            "survived_share": sum(ratio > SURVIVED for ratio in ordered) / len(ordered),
            "ratio": number(ordered[len(ordered) // 2]),
            "norms": [number(norm) for norm in self.norms[:LIMIT_SHOWN]],
            "backwards_per_update": self.backwards / max(self.updates, 1),
            "parameters": [self._names[id(part)] for part in self._watched],
        }

    def _adding(self, index: int) -> Callable[[torch.Tensor], None]:
        def add(gradient: torch.Tensor) -> None:
            if not gradient.is_sparse:
                self._own[index].add_(gradient)
            self.backwards += index == 0

        return add

    def _note_gradient(self, name: str, gradient: torch.Tensor | None) -> None:
        if gradient is None or self.gradients[name] == SOME:
            return
        values = gradient.coalesce().values() if gradient.is_sparse else gradient
        self.gradients[name] = SOME if bool(values.count_nonzero()) else ZERO

    def _compare(self, watched: list[int]) -> None:
        """Note the part of its old gradient that is in the new one of each parameter.

        Each by itself, since an optimizer may clear one group of parameters and forget another.
        """
        now = {index: _flat(_gradient(self._watched[index])) for index in watched}
        self.norms.append(math.hypot(*[float(part.norm()) for part in now.values()]))
        for index, part in now.items():
            if index not in self._left:
                continue
            group = part, _flat(self._own[index]), _flat(self._left[index])
            if all(bool(each.isfinite().all()) for each in group):
                self._survived.setdefault(index, []).append(_survived(*group))


def _survived(now: torch.Tensor, own: torch.Tensor, old: torch.Tensor) -> float:
    """How much of the old gradient is in the new: least squares, now = a own + b old; b / a.

    a takes in clipping and unscaling. Where own alone explains 99 % of the new gradient, b is
    0: two gradients that are nearly parallel would make any b fit, and so would few elements. So
    it is where own takes no part: each element was clipped to the same value as before.
    """
    if len(now) < FEWEST_ELEMENTS or not now.any() or not old.any():
        return 0.0
    alone = float(now @ own) / (float(own @ own) or 1.0)
    if float((now - alone * own).norm()) <= UNEXPLAINED * float(now.norm()):
        return 0.0
    basis = torch.stack([own, old], dim=1)
    solution = torch.linalg.lstsq(basis, now[:, None], driver="gelsd").solution
    a, b = (float(value) for value in solution.flatten())
    rest = now - basis @ torch.tensor([a, b], dtype=basis.dtype)
    is_explained = float(rest.norm()) <= UNEXPLAINED * float(now.norm())
    takes_part = a * float(own.norm()) > UNEXPLAINED * float(now.norm())
    return b / a if is_explained and takes_part else 0.0


def _spread(model: nn.Module) -> list[nn.Parameter]:
    """Up to four trainable parameters of moderate size, spread over the model."""
    fitting = [
        part
        for part in model.parameters()
        if part.requires_grad and part.numel() <= LARGEST_WATCHED
    ]
    count = min(len(fitting), WATCHED_PARAMETERS)
    return [fitting[(len(fitting) - 1) * i // max(count - 1, 1)] for i in range(count)]


def _gradient(part: torch.Tensor) -> torch.Tensor:
    """The gradient; zeros in place of one that is missing or sparse."""
    grad = part.grad
    return torch.zeros_like(part) if grad is None or grad.is_sparse else grad.detach()


def _flat(part: torch.Tensor) -> torch.Tensor:
    return part.detach().double().cpu().flatten()
