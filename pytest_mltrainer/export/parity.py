"""Does the file on disk say what the model says? On the test set, and on generated inputs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from pytest_mltrainer.core.measurement import number

Array = np.ndarray[Any, Any]
Predict = Callable[[Any], Array]

RELATIVE = 1.3e-6
ABSOLUTE = 1e-5
"""float32, as `torch.testing.assert_close`, relative to the scale of the outputs."""
GENERATED_EXAMPLES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How far two predictors agree on `n` samples; a flip is another decision beyond the margin."""

    n: int
    largest_difference: float
    tolerance: float
    flips: int
    agreement: float


class ParityError(AssertionError):
    """A generated input on which the export and the model disagree."""


def compare(eager: Array, exported: Array, *, decides: bool) -> Parity:
    """Compare outputs for the same samples. NaN on both sides is not parity.

    `decides`: the last axis holds scores of classes. A decision flips when the classes differ and
    the model's own margin between them is larger than the tolerance.
    """
    if eager.shape != exported.shape or not len(eager):
        return Parity(
            n=len(eager), largest_difference=float("inf"), tolerance=0.0, flips=len(eager),
            agreement=0.0,
        )  # fmt: skip
    difference = np.abs(eager.astype(np.float64) - exported.astype(np.float64))
    finite = np.isfinite(eager) & np.isfinite(exported)
    scale = float(np.abs(eager[np.isfinite(eager)]).max()) if np.isfinite(eager).any() else 0.0
    tolerance = ABSOLUTE * max(scale, 1.0) + RELATIVE * scale
    largest = float(np.where(finite, difference, np.inf).max())
    flips, agreement = 0, 1.0
    if decides:
        rows = eager.reshape(-1, eager.shape[-1])
        ours, theirs = rows.argmax(-1), exported.reshape(rows.shape).argmax(-1)
        index = np.arange(len(rows))
        margin = rows[index, ours] - rows[index, theirs]
        flips = int(((ours != theirs) & ~(margin <= tolerance)).sum())
        agreement = float((ours == theirs).mean())
    return Parity(
        n=len(eager),
        largest_difference=largest,
        tolerance=tolerance,
        flips=flips,
        agreement=agreement,
    )


def try_generated(eager: Predict, exported: Predict, rows: torch.Tensor) -> str | None:
    """Try generated batches; the smallest one that fails, in words, or None.

    A recipe is drawn (batch, kind, seed, scale) and the batch is built from it, so that it shrinks
    quickly and reads well. Real rows are always among them.
    """

    @seed(0)
    @settings(
        max_examples=GENERATED_EXAMPLES,
        deadline=None,
        derandomize=False,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        batch=st.integers(1, 8),
        kind=st.sampled_from(["real", "zeros", "noise", "mixed"]),
        draw=st.integers(0, 2**16),
        scale=st.sampled_from([1.0, 0.1, 10.0]),
    )
    def agree(batch: int, kind: str, draw: int, scale: float) -> None:
        inputs = build(rows, batch=batch, kind=kind, draw=draw, scale=scale)
        parity = compare(eager(inputs), exported(inputs), decides=False)
        if not parity.largest_difference <= parity.tolerance:
            raise ParityError(
                f"inputs {kind} (batch {batch}, seed {draw}, scale {scale:g}): outputs differ by "
                f"{number(parity.largest_difference)}, tolerated {number(parity.tolerance)}"
            )

    try:
        agree()
    except ParityError as error:
        return str(error)
    return None


def build(rows: torch.Tensor, *, batch: int, kind: str, draw: int, scale: float) -> torch.Tensor:
    """The batch of a recipe: real rows, zeros, noise like the data, or real rows with noise."""
    generator = torch.Generator().manual_seed(draw)
    chosen = rows[torch.randint(len(rows), (batch,), generator=generator)]
    if kind == "zeros" or not rows.is_floating_point():
        return torch.zeros_like(chosen) if kind == "zeros" else chosen
    spread = rows.std() if rows.numel() > 1 else torch.tensor(1.0)
    noise = torch.randn(chosen.shape, generator=generator) * spread * scale
    return {"real": chosen, "noise": noise, "mixed": chosen + 0.1 * noise}[kind].to(rows.dtype)
