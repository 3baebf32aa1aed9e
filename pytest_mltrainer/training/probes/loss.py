"""Do the outputs suit the loss? Measured by asking the loss about outputs made for the purpose."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch.nn import functional

from pytest_mltrainer.training.probes.bench import Bench, CannotProbe, number
from pytest_mltrainer.training.probes.stress import are_free, stressed_outputs
from pytest_mltrainer.training.task import IGNORED_TARGET

SCALES = (1.0, 3.0, 10.0, 30.0)
SHIFT = 10.0
NEARLY = 1e-4
"""How far a probability stays from 0 and 1, so that its logarithm is finite."""
EXACT = 1e-3
ALIKE = 1e-5
"""Rounding of a mean in single precision stays below."""


def loss_facts(bench: Bench) -> dict[str, Any]:
    """Shapes, the outputs' range, and the loss of the best, of undecided and of swapped outputs.

    `floor`: the least loss of outputs that match the targets, over any outputs; `reachable`: the
    same over outputs within the range that the model can reach; `undecided`: the least loss of
    constant outputs. `shift`: how much the loss falls for each 1 added to all outputs (1 for a
    loss on log-probabilities). `paired`, `swapped`: the loss of outputs that follow the targets,
    and of the same outputs given to other samples, for those outputs that it matters to most.
    `free`: whether the outputs follow whatever the last layer says upwards without limit, as plain
    scores do and densities cannot. `unheard`: of several labels, the targets (0 or 1) whose outputs
    the loss pays no heed to.
    Raises CannotProbe for outputs that no target says the best of.
    """
    model = bench.fresh().eval()
    outputs = bench.predict(model, bench.inputs).float()
    dimension = _class_dimension(bench, outputs)
    stressed = stressed_outputs(bench, model, outputs)
    facts: dict[str, Any] = {
        "output_shape": list(outputs.shape),
        "target_shape": list(bench.targets.shape),
        "target_dtype": str(bench.targets.dtype).removeprefix("torch."),
        "classes": None if dimension is None else outputs.shape[dimension],
        **_range(stressed),
        **_normalisation(stressed[0] if stressed else outputs, dimension),
    }
    ideal = list(_ideal(bench, outputs, dimension))
    within = [_within(candidate, facts, dimension) for candidate in ideal]
    paired, swapped = _most_moved(bench, ideal)
    return facts | {
        "floor": number(min(_ask(bench, candidate) for candidate in ideal)),
        "reachable": number(min(_ask(bench, candidate) for candidate in within)),
        "undecided": number(min(_undecided(bench, outputs))),
        "shift": number(_shift(bench, outputs)) if dimension else None,
        "paired": number(paired),
        "swapped": number(swapped),
        "free": are_free(bench, model, outputs),
        "unheard": _unheard(bench, outputs) if bench.task.kind == "multilabel" else [],
        "targets_vary": bool((bench.targets != bench.targets[:1]).any()),
    }


def _class_dimension(bench: Bench, outputs: torch.Tensor) -> int | None:
    """Where the classes are in the outputs; None where each output has a target of its own."""
    if not isinstance(bench.targets, torch.Tensor):
        raise CannotProbe("targets are no tensor")
    kind, targets = bench.task.kind, bench.targets
    if kind in ("regression", "multilabel") and outputs.numel() == targets.numel():
        return None
    integers = not targets.is_floating_point()
    if kind == "classification" and integers and outputs.ndim == targets.ndim + 1:
        return 1
    if kind == "sequence" and integers and outputs.ndim == targets.ndim + 1:
        return outputs.ndim - 1
    raise CannotProbe(
        f"a {kind} with outputs {list(outputs.shape)} for targets {list(targets.shape)}"
    )


def _ideal(bench: Bench, outputs: torch.Tensor, dimension: int | None) -> Iterator[torch.Tensor]:
    """Outputs that match the targets: logits of several sizes, probabilities, their logarithm."""
    targets = bench.targets
    if bench.task.kind == "regression":
        yield targets.reshape(outputs.shape).float()
        return
    if dimension is None:
        chosen = targets.reshape(outputs.shape).float()
    else:
        classes = outputs.shape[dimension]
        # The loss refuses a class beyond the outputs by itself.
        known = torch.where(targets == IGNORED_TARGET, 0, targets).long().clamp(0, classes - 1)
        chosen = functional.one_hot(known, classes).float().movedim(-1, dimension)
    for scale in SCALES:
        yield scale * (2 * chosen - 1)
    count = 2 if dimension is None else outputs.shape[dimension]
    share = chosen * (1 - NEARLY * count) + NEARLY
    yield share
    yield share.log()


def undecided_loss(bench: Bench, outputs: torch.Tensor) -> float:
    """The loss of outputs that know nothing of their sample; the highest for a regression.

    There a model that starts at 0 is as undecided as one at the mean. Raises CannotProbe.
    """
    found = _undecided(bench, outputs)
    return max(found) if bench.task.kind == "regression" else min(found)


def _undecided(bench: Bench, outputs: torch.Tensor) -> list[float]:
    """The loss of constant outputs: equal logits, probabilities or their logarithms; 0 and mean."""
    dimension = _class_dimension(bench, outputs)
    if bench.task.kind == "regression":
        mean = next(_ideal(bench, outputs, None)).mean(dim=0, keepdim=True)
        constants = [torch.zeros_like(outputs), torch.zeros_like(outputs) + mean]
        return [_ask(bench, constant) for constant in constants]
    share = 0.5 if dimension is None else 1 / outputs.shape[dimension]
    if dimension and math.isclose(_shift(bench, outputs), 1.0, rel_tol=0.1):
        return [_ask(bench, torch.full_like(outputs, math.log(share)))]
    return [_ask(bench, torch.full_like(outputs, value)) for value in (0.0, share)]


def _shift(bench: Bench, outputs: torch.Tensor) -> float:
    """How far the loss falls for each 1 added to all outputs; NaN where it has no value."""
    zero = torch.zeros_like(outputs)
    return (_ask(bench, zero) - _ask(bench, zero + SHIFT)) / SHIFT


def _within(candidate: torch.Tensor, facts: dict[str, Any], dimension: int | None) -> torch.Tensor:
    """The candidate moved into what the model can answer: its range, its normalisation."""
    if dimension is not None and facts["sums_to_one"]:
        return candidate.softmax(dimension) if candidate.min() < 0 else candidate
    if dimension is not None and facts["log_normalised"]:
        return candidate.log_softmax(dimension)
    low, high = facts["low"], facts["high"]
    return candidate.clamp(-math.inf if low is None else low, math.inf if high is None else high)


def _unheard(bench: Bench, outputs: torch.Tensor) -> list[int]:
    """The targets, 0 or 1, that the loss says the same for whether their outputs say yes or no."""
    wanted = bench.targets.reshape(outputs.shape) > 0.5
    unheard = []
    for target in (0, 1):
        own = wanted == bool(target)
        pairs = [
            tuple(_ask(bench, torch.where(own, value, base)) for value in (yes, no))
            for yes, no, base in ((0.9, 0.1, 0.5), *((s, -s, s) for s in SCALES))
        ]
        known = [pair for pair in pairs if all(map(math.isfinite, pair))]
        alike = all(abs(yes - no) <= ALIKE * max(abs(yes), abs(no)) for yes, no in known)
        if own.any() and not own.all() and known and alike:
            unheard.append(target)
    return unheard


def _range(stressed: list[torch.Tensor]) -> dict[str, float | None]:
    """Limits that hundredfold larger noise does not move by more than twice; None without one."""
    if not stressed or not all(bool(torch.isfinite(part).all()) for part in stressed):
        return {"low": None, "high": None}
    small, large = stressed

    def limit(at_small: float, at_large: float) -> float | None:
        return at_large if abs(at_large) <= 2 * abs(at_small) + EXACT else None

    return {
        "low": limit(float(small.min()), float(large.min())),
        "high": limit(float(small.max()), float(large.max())),
    }


def _normalisation(outputs: torch.Tensor, dimension: int | None) -> dict[str, bool]:
    """Whether outputs sum to 1 over the classes, or their exponentials do."""
    if dimension is None or outputs.shape[dimension] < 2:
        return {"sums_to_one": False, "log_normalised": False}
    total, log_total = outputs.sum(dimension), outputs.logsumexp(dimension)
    return {
        "sums_to_one": bool(((total - 1).abs() < EXACT).all() and (outputs >= -EXACT).all()),
        "log_normalised": bool((log_total.abs() < EXACT).all()),
    }


def _most_moved(bench: Bench, ideal: list[torch.Tensor]) -> tuple[float, float]:
    """The losses with and without a swap that differ most, in shares of the larger one.

    Shapes that broadcast leave every loss the same. Others may be blind to some outputs: one that
    takes their exponential is ruled by the largest, so standardised targets are tried too.
    """
    followers = list(ideal)
    if bench.task.kind == "regression":
        spread = ideal[0].std().clamp_min(torch.finfo(torch.float32).tiny)
        followers.append((ideal[0] - ideal[0].mean()) / spread)
    pairs = [(_ask(bench, each), _ask(bench, _swapped(bench, each))) for each in followers]
    known = [pair for pair in pairs if all(map(math.isfinite, pair))]
    if not known:
        return math.inf, math.inf
    return max(known, key=lambda pair: abs(pair[1] - pair[0]) / max(*map(abs, pair), 1e-30))


def _swapped(bench: Bench, outputs: torch.Tensor) -> torch.Tensor:
    """The outputs given to samples with other targets: sorted by target, half way round."""
    keys = bench.targets.reshape(len(bench.targets), -1).double().sum(1)
    order = keys.argsort()
    swapped = outputs.clone()
    swapped[order] = outputs[order.roll(len(order) // 2)]
    return swapped


def _ask(bench: Bench, outputs: torch.Tensor) -> float:
    """The loss, infinite where it refuses such outputs or has no value for them."""
    try:
        found = bench.loss(outputs)
    except (RuntimeError, ValueError, IndexError):
        return math.inf
    return found if math.isfinite(found) else math.inf
