"""Parts of the model that no update reaches."""

import fnmatch
from collections.abc import Mapping
from typing import Any

from pytest_mltrainer.diagnostics.layer_readings import flat_at_first
from pytest_mltrainer.diagnostics.probed import listed, names_in, probed
from pytest_mltrainer.diagnostics.readings import number_in, setting

from pytest_mltrainer.core.evidence import (
    Cause,
    Diagnosis,
    Evidence,
    Recommendation,
    Symptom,
)

REPEATED = 3
"""Updates in a row without any gradient: a zero-initialised layer lets one through after one."""
THINGS = ("part of the model is", "parts of the model are")
KINDS = {
    "unregistered": (
        "kept in a plain list, where neither the optimizer nor a checkpoint finds them",
        "keep modules in nn.ModuleList or nn.ModuleDict, parameters in nn.ParameterList: {names}",
    ),
    "not_in_optimizer": (
        "in no optimizer",
        "pass {names} to the optimizer (model.parameters()), or set requires_grad_(False) on what "
        "shall stay as it is",
    ),
    "rate_zero": (
        "trained at learning rate 0",
        "give the optimizer's group of {names} a learning rate above 0",
    ),
    "without_gradient": (
        "not reached by a gradient",
        "look for detach(), .data, torch.no_grad() or an unused branch between {names} and the "
        "loss; remove what is not used, or declare it in training.unused_parameters",
    ),
    "zero_gradient": (
        "reached by gradients that are exactly 0",
        "look for round, sign, argmax, a product with 0 or units that never fire between {names} "
        "and the loss",
    ),
}


def detect(evidence: Evidence) -> Diagnosis | None:
    """Speaks when a trainable parameter got no update, by one of five causes in this order.

    Modules in plain containers that a gradient reached; parameters in no optimizer; rate 0 in every
    update; never a gradient; exactly zero gradients in three updates or more. Layers with
    requires_grad False, and names that `training.unused_parameters` declares, are silent; so are
    rows of an embedding that no sample names, and biases whose gradient is 0 while that of their
    layer's weight is not: such a bias cancels out, as in the difference of two passes through one
    tower. Raises NotJudged without the probe.
    """
    facts = probed(evidence, "updates")
    faults = {kind: _undeclared(evidence, names_in(facts, kind)) for kind in KINDS}
    if (number_in(facts, "updates") or 0) < REPEATED or _is_dead(evidence):
        faults["zero_gradient"] = []
    kind = next((kind for kind in KINDS if faults[kind]), None)
    if kind is None:
        return None
    what, fix = KINDS[kind]
    names = faults[kind]
    return Diagnosis(
        id="params_not_updated",
        # Gradients may also be 0 by numbers: whatever makes those is nearer to the root.
        cause=Cause.GRADIENTS if kind == "zero_gradient" else Cause.WIRING,
        summary=f"{_counted(kind, names)} {what}.",
        confidence=0.75 if kind == "zero_gradient" else 0.95,
        symptoms=(Symptom(what=kind.replace("_", " "), measured=float(len(names)), limit=0.0),),
        where=listed(names),
        details=tuple(
            f"{KINDS[other][0]}: {listed(found)}"
            for other, found in faults.items()
            if found and other != kind
        ),
        recommendations=(
            Recommendation(instruction=fix.format(names=listed(names)), impact="high"),
        ),
    )


def _undeclared(evidence: Evidence, names: list[str]) -> list[str]:
    patterns = setting(evidence, "training.unused_parameters")
    declared = patterns if isinstance(patterns, (list, tuple)) else []
    return [name for name in names if not any(fnmatch.fnmatch(name, str(p)) for p in declared)]


def _is_dead(evidence: Evidence) -> bool:
    """Whether units that are dead, flat or alike on all samples explain gradients of 0."""
    if flat_at_first(evidence):
        return True
    initial: Mapping[str, Any] = (evidence.probes or {}).get("initial") or {}
    layers = initial.get("layers") if isinstance(initial, Mapping) else None
    found = layers if isinstance(layers, list) else []
    return any(number_in(layer, "input_std") == 0 for layer in found[1:])


def _counted(kind: str, names: list[str]) -> str:
    one, several = THINGS if kind == "unregistered" else ("parameter is", "parameters are")
    return f"{len(names)} {one if len(names) == 1 else several}"
