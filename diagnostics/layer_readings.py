"""How detectors read the records of single layers (`training/observation/layer_records.py`)."""

import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from pytest_mltrainer.diagnostics.readings import finite, lookup, step_values

from pytest_mltrainer.core.evidence import Evidence, NotJudged

if TYPE_CHECKING:
    import numpy as np

EARLY = 20
ALL_FLAT, HALF_FLAT, FREE = 0.9, 0.5, 0.1
# Their gradients say nothing about depth: an embedding's rows are mostly untouched, and a norm's
# two vectors sum up over the batch and all positions.
BESIDE_THE_PATH = ("Embedding", "Norm")


def layer_rows(evidence: Evidence) -> "np.ndarray[Any, Any]":
    """The records. Raises NotJudged when there are none."""
    if evidence.layers is None or not len(evidence.layers) or not evidence.layer_names:
        raise NotJudged("no layers were recorded")
    return evidence.layers


def layer_type(evidence: Evidence, layer: int) -> str:
    """The type of a layer's module, or an empty text."""
    return evidence.layer_types[layer] if layer < len(evidence.layer_types) else ""


def label(evidence: Evidence, layer: int) -> str:
    """A layer for people: `net.2 (Linear)`."""
    kind = layer_type(evidence, layer)
    return f"{evidence.layer_names[layer]}{f' ({kind})' if kind else ''}"


def by_layer(
    evidence: Evidence, field: str, *, before: float = math.inf, late: bool = False
) -> dict[int, float]:
    """The median of a field by layer, in order of depth; layers that never had it are left out.

    Over the sampled steps below `before`; with `late` over the later half of those sampled.
    """
    rows = layer_rows(evidence)
    steps = sorted({int(step) for step in rows["step"].tolist() if step < before})
    wanted = set(steps[len(steps) // 2 :] if late else steps)
    values: dict[int, list[float]] = {}
    for step, layer, value in zip(*(rows[name].tolist() for name in ("step", "layer", field)),
                                  strict=True):  # fmt: skip
        if step in wanted and math.isfinite(value) and layer < len(evidence.layer_names):
            values.setdefault(int(layer), []).append(value)
    return {layer: median(values[layer]) for layer in sorted(values)}


def gradient_sizes(evidence: Evidence, *, before: float = math.inf) -> dict[int, float]:
    """Gradient norm over the root of the number of parameters, by layer on the path of depth."""
    norms = by_layer(evidence, "gradient_norm", before=before)
    numel = by_layer(evidence, "numel", before=before)
    return {
        layer: norm / math.sqrt(numel[layer])
        for layer, norm in norms.items()
        if numel.get(layer, 0) > 0 and not _is_beside(layer_type(evidence, layer))
    }


def growth_with_depth(evidence: Evidence) -> float | None:
    """Spread of the last layer's outputs over that of the first, on the first sampled step."""
    rows = layer_rows(evidence)
    first = by_layer(evidence, "output_std", before=int(rows["step"].min()) + 1)
    layers = gradient_sizes(evidence)
    spreads = [spread for layer, spread in first.items() if layer in layers]
    return spreads[-1] / spreads[0] if len(spreads) > 2 and spreads[0] > 0 else None


def update_ratio(evidence: Evidence, *, late: bool = False) -> float | None:
    """The median |dw| / |w| over layers, on steps whose learning rate is near its peak, or None.

    Near: at least half of it, so that warm-up and the end of a schedule do not count.
    """
    if evidence.layers is None or not len(evidence.layers):
        return None
    rows = evidence.layers
    high = _near_peak(evidence)
    if high is not None:
        rows = rows[[int(step) in high for step in rows["step"].tolist()]]
    if late and len(rows):
        rows = rows[rows["step"] >= median(rows["step"].tolist())]
    known = [value for value in rows["update_ratio"].tolist() if finite(value) is not None]
    return median(known) if known else None


def first_update(evidence: Evidence) -> float | None:
    """The median |dw| / |w| over layers on the first sampled step, or None."""
    if evidence.layers is None or not len(evidence.layers):
        return None
    rows = evidence.layers[evidence.layers["step"] == evidence.layers["step"].min()]
    known = [value for value in rows["update_ratio"].tolist() if finite(value) is not None]
    return median(known) if known else None


def worst(values: dict[int, float]) -> tuple[int, float]:
    """The layer with the largest value; the first of equal ones."""
    layer = max(values, key=lambda entry: values[entry])
    return layer, values[layer]


def listed(evidence: Evidence, values: dict[int, float], most: int = 6) -> str:
    """`0 (Linear) 1.2e-05, 2 (Linear) 0.03`; of many layers the first and the last ones."""
    shown = [f"{label(evidence, layer)} {value:.3g}" for layer, value in values.items()]
    half = most // 2
    return ", ".join(shown if len(shown) <= most else [*shown[:half], "...", *shown[-half:]])


def _is_beside(kind: str) -> bool:
    return any(word in kind for word in BESIDE_THE_PATH)


def _near_peak(evidence: Evidence) -> set[int] | None:
    steps, rates = step_values(evidence, "step"), step_values(evidence, "learning_rate")
    known = [rate for rate in rates if math.isfinite(rate)]
    if len(steps) != len(rates) or not known or max(known) <= 0:
        return None
    return {int(step) for step, rate in zip(steps, rates, strict=True) if rate >= max(known) / 2}


def at_first(evidence: Evidence, kind: str) -> dict[str, float]:
    """`dead` or `saturated` shares of the fresh model by place; empty where not probed.

    Or, by recurrent layer, `reach`, `growth` and `gain` (`training/probes/recurrence.py`).
    """
    found = lookup(evidence.probes, "recurrence", kind)
    if not isinstance(found, Mapping):
        return {}
    read = {str(place): finite(share) for place, share in found.items()}
    return {place: share for place, share in read.items() if share is not None}


def flat_at_first(evidence: Evidence) -> bool:
    """Whether nearly all units of some layer of the fresh model are dead or saturated."""
    shares = (*at_first(evidence, "dead").values(), *at_first(evidence, "saturated").values())
    return max(shares, default=0.0) >= ALL_FLAT


def flattened_by_steps(evidence: Evidence) -> bool:
    """Whether units of some layer that were free in the fresh model are saturated after training.

    Free: under a tenth of their inputs lay beyond 5; saturated: half of them do.
    """
    before, after = at_first(evidence, "saturated"), lookup(evidence.trained, "saturated_units")
    if not isinstance(after, Mapping):
        return False
    return any(
        (finite(after.get(place)) or 0.0) >= HALF_FLAT
        for place, share in before.items()
        if share < FREE
    )


def has_dead_layer(evidence: Evidence) -> bool:
    """Whether nearly all units of some layer are zero on all samples, late in the training."""
    probed = lookup(evidence.trained, "dead_units")
    try:
        shares = (
            probed if isinstance(probed, Mapping) else by_layer(evidence, "zero_share", late=True)
        )
    except NotJudged:
        return False
    return any((finite(share) or 0.0) >= ALL_FLAT for share in shares.values())


def recurrent_reach(evidence: Evidence) -> dict[str, float]:
    """By recurrent layer of the fresh model: the gradient at the first times over the last."""
    return at_first(evidence, "reach")


def positions(values: Iterable[int]) -> Sequence[float]:
    """Places in depth, counted from 1, for a picture."""
    return [float(place) for place, _ in enumerate(values, start=1)]
