"""One step with everything it drew, read and computed, so that two of them can be compared."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pytest_mltrainer.training.checkpoints import load_safely
from pytest_mltrainer.training.observation.generators import Generators
from pytest_mltrainer.training.observation.observer import named_gradients
from pytest_mltrainer.training.observation.replay import tensors_in
from pytest_mltrainer.training.repetition.tensor_difference import (
    TensorDifference,
    tensor_difference,
)
from pytest_mltrainer.training.reproducibility import RngState

if TYPE_CHECKING:
    from pytest_mltrainer.training.session import TrainingSession

GROUPS = {
    "batch": "batch",
    "activations": "loss",
    "loss": "loss",
    "gradients": "gradients",
    "parameters": "parameters",
    "optimizer": "optimizer",
}
"""Groups of tensors in the order in which a step computes them, with the part each belongs to."""


@dataclass(slots=True)
class KeptStep:
    """The tensors of a step by group and name, each in the order in which it was computed.

    Gradients come in the reverse order of the parameters, as `backward` makes them. `generators`
    holds the states at the end of the step; `draws` a digest of all of them behind each module's
    forward pass. `types` names the class of each module.
    """

    groups: dict[str, dict[str, torch.Tensor]] = field(
        default_factory=lambda: {name: {} for name in GROUPS}
    )
    generators: dict[str, torch.Tensor] = field(default_factory=dict)
    draws: dict[str, int] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write a torch file that `load` reads without running any code in it."""
        stored = {name: getattr(self, name) for name in self.__slots__}
        # As text: a torch file holds no integers beyond 63 bits.
        stored["draws"] = {name: str(digest) for name, digest in self.draws.items()}
        torch.save(stored, path)

    @classmethod
    def load(cls, path: Path) -> "KeptStep":
        """The step that `save` wrote. Raises StorageError."""
        stored = load_safely(path)
        stored["draws"] = {name: int(digest) for name, digest in stored["draws"].items()}
        return cls(**stored)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """The first tensor of a step that differs, or the generator that was drawn from.

    `module` is the module that it belongs to, behind whose forward pass it was seen, or blank.
    """

    part: str
    name: str
    module: str
    module_type: str
    difference: TensorDifference | None

    def text(self) -> str:
        """`gradients of 0.weight (Linear) first at [3, 4]: ...`."""
        kind = f" ({self.module_type})" if self.module_type else ""
        if self.part == "rng":
            where = f", first behind the forward pass of {self.module}{kind}" if self.module else ""
            return f"the generator of {self.name} was drawn from differently{where}"
        detail = f" {self.difference.text()}" if self.difference else ""
        return f"{self.part} of {self.name}{kind}{detail}"

    def to_json(self) -> dict[str, Any]:
        """The cause as it is stored."""
        return asdict(self)


class StepKeeper:
    """Watches a session and keeps one of its steps."""

    def __init__(self, session: "TrainingSession", step: int) -> None:
        """Hooks are on from now on, and look only while `step` is computed."""
        self.kept = KeptStep()
        self.step = step
        self._session = session
        self._names = {id(module): name for name, module in session.model.named_modules()}
        for module in session.model.modules():
            module.register_forward_hook(self._forward)
            name = self._names[id(module)] or "(model)"
            self.kept.types[name] = type(module).__name__

    def before_update(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Keep batch, loss and gradients."""
        if step != self.step:
            return
        session, groups = self._session, self.kept.groups
        groups["batch"] = dict(_named("batch", session.batch))
        groups["loss"] = dict(_named("loss", torch.as_tensor(session.observer.last_loss)))
        named = reversed(named_gradients(session.model, optimizer).items())
        groups["gradients"] = {name: _copied(gradient) for name, gradient in named}

    def after_update(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Keep parameters, buffers, the optimizer's state and the generators."""
        if step != self.step:
            return
        groups = self.kept.groups
        named = list(self._session.model.named_parameters())
        groups["parameters"] = _all_copied([*named, *self._session.model.named_buffers()])
        names = {id(part): name for name, part in named}
        groups["optimizer"] = _all_copied(
            (f"{names.get(id(part), 'parameter')}.{key}", value)
            for part, state in optimizer.state.items()
            for key, value in state.items()
            if isinstance(value, torch.Tensor)
        )
        self.kept.generators = _generators()

    def _forward(self, module: nn.Module, _: Any, output: Any) -> None:
        # Between epochs the observer stands at the next step already, but the model evaluates.
        if self._session.observer.step != self.step or not self._session.model.training:
            return
        name = self._names[id(module)] or "(model)"
        call = sum(key.partition(" call ")[0] == name for key in self.kept.draws)
        called = f"{name} call {call + 1}" if call else name
        self.kept.draws[called] = Generators().digest()
        self.kept.groups["activations"] |= dict(_named(called, output))


def first_cause(one: KeptStep, other: KeptStep) -> Cause | None:
    """The first thing that differs between two records of a step, or None.

    Generators first, then batch, activations as the modules computed them, loss, gradients,
    parameters and buffers, the state of the optimizer.
    """
    for name, state in one.generators.items():
        if tensor_difference(state, other.generators.get(name, state[:0])) is not None:
            drawn = (call for call in one.draws if one.draws[call] != other.draws.get(call))
            module, kind = _module(next(drawn, ""), one)
            return Cause(part="rng", name=name, module=module, module_type=kind, difference=None)
    for group, part in GROUPS.items():
        for name, tensor in one.groups[group].items():
            beside = other.groups[group].get(name)
            if beside is None:
                found: TensorDifference | None = TensorDifference(mismatch="is not in the other")
            else:
                found = tensor_difference(tensor, beside)
            if found is not None:
                module, kind = _module(name, one, is_tensor=group not in ("activations", "batch"))
                shown = f"output of {name}" if group == "activations" else name
                return Cause(
                    part=part, name=shown, module=module, module_type=kind, difference=found
                )
    return None


def _module(name: str, kept: KeptStep, *, is_tensor: bool = False) -> tuple[str, str]:
    """The module of a call or of a tensor, with its class; blanks for none."""
    owner = name.partition(" call ")[0].partition("[")[0]
    while is_tensor and owner and owner not in kept.types:
        owner = owner.rpartition(".")[0]
    return (owner, kept.types[owner]) if owner in kept.types else ("", "")


def _named(name: str, value: Any) -> Iterator[tuple[str, torch.Tensor]]:
    tensors = tensors_in(value)
    for number, tensor in enumerate(tensors):
        yield f"{name}[{number}]" if len(tensors) > 1 else name, _copied(tensor)


def _all_copied(named: Iterable[tuple[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    return {name: _copied(tensor) for name, tensor in named}


def _copied(tensor: torch.Tensor) -> torch.Tensor:
    plain = tensor.detach()
    return (plain if plain.layout is torch.strided else plain.to_dense()).cpu().clone()


def _generators() -> dict[str, torch.Tensor]:
    state = RngState.capture()
    found = {
        "Python": state.python[1],
        "NumPy": torch.tensor([*state.numpy[1].tolist(), *state.numpy[2:4]]),
    }
    found["torch"] = state.torch_cpu
    return found | {f"cuda:{index}": part for index, part in enumerate(state.accelerator)}
