"""Generated inputs: batches from short recipes, so that a failing one shrinks and reads well."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, reject, seed, settings
from hypothesis import strategies as st

from pytest_mltrainer.core.measurement import number
from pytest_mltrainer.export.parity import Parity, Predict, compare
from pytest_mltrainer.export.precision import Precision
from pytest_mltrainer.export.signature import TensorSpec, named_leaves

EXAMPLES = 40
KINDS = ("zeros", "real", "noise", "mixed")
"""From the plainest to the strangest: a failing recipe shrinks towards the first."""
SCALES = (1.0, 0.1, 10.0)
PARTS = (1.0, 0.5, 0.25)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How to make a batch from real inputs: zeros, real rows, noise like them, or rows with noise.

    `scale` is the noise in standard deviations of the rows. Whole numbers and masks stay real rows.
    Of axes that differ between samples the first `part` is kept.
    """

    kind: Literal["zeros", "real", "noise", "mixed"]
    batch: int
    seed: int
    scale: float
    part: float = 1.0

    def text(self) -> str:
        """`noise (batch 1, seed 0, scale 10)`."""
        cut = "" if self.part == 1 else f", cut to {self.part:g}"
        return f"{self.kind} (batch {self.batch}, seed {self.seed}, scale {self.scale:g}{cut})"

    def to_json(self) -> dict[str, Any]:
        """The recipe as it is stored."""
        return asdict(self)

    def build(self, rows: Any, specs: Sequence[TensorSpec] = ()) -> Any:
        """The batch, nested as `rows` are; `specs` say which axes differ between samples."""
        generator = torch.Generator().manual_seed(self.seed)
        samples = len(next(iter(named_leaves(rows).values())))
        chosen = torch.randint(samples, (self.batch,), generator=generator)
        free = iter([spec.free_axes[1:] for spec in specs])
        return changed(
            rows, lambda leaf: self._cut(self._leaf(leaf, chosen, generator), next(free, ()))
        )

    def _cut(self, leaf: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
        for axis in axes:
            leaf = leaf.narrow(axis, 0, max(int(leaf.shape[axis] * self.part), 1))
        return leaf

    def _leaf(
        self, rows: torch.Tensor, chosen: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        if not rows.ndim:
            return rows
        real = rows[chosen]
        if self.kind == "real" or not rows.is_floating_point():
            return real
        if self.kind == "zeros":
            return torch.zeros_like(real)
        spread = rows.std() if rows.numel() > 1 else torch.tensor(1.0)
        noise = torch.randn(real.shape, generator=generator) * spread * self.scale
        return (noise if self.kind == "noise" else real + 0.1 * noise).to(rows.dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailingInput:
    """The smallest generated batch on which the file and the model disagree."""

    recipe: Recipe
    parity: Parity

    def text(self) -> str:
        """One line."""
        return (
            f"inputs {self.recipe.text()}: outputs differ by "
            f"{number(self.parity.largest_difference)}, tolerated {number(self.parity.tolerance)}"
        )


class _Disagree(AssertionError):
    pass


def smallest_failing(
    eager: Predict,
    exported: Predict,
    rows: Any,
    specs: Sequence[TensorSpec] = (),
    precision: Precision | None = None,
) -> FailingInput | None:
    """Try 40 generated batches; the smallest on which both disagree, or None.

    `specs` are what the file takes, `precision` is how coarse its numbers are. Where axes differ
    between samples, batches are cut as well; those to which the model itself has no finite answer
    are left out.
    """
    failing: list[FailingInput] = []
    parts = PARTS if any(spec.free_axes[1:] for spec in specs) else PARTS[:1]

    @seed(0)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(
        kind=st.sampled_from(KINDS),
        batch=st.integers(1, 8),
        draw=st.integers(0, 2**16),
        scale=st.sampled_from(SCALES),
        part=st.sampled_from(parts),
    )
    def agree(kind: Any, batch: int, draw: int, scale: float, part: float) -> None:
        recipe = Recipe(kind=kind, batch=batch, seed=draw, scale=scale, part=part)
        inputs = recipe.build(rows, specs)
        try:
            wanted = eager(inputs)
        except Exception:
            if part == 1:
                raise
            reject()
        # What was cut off may have been all that counted: a mask that leaves nothing.
        if part < 1 and not np.isfinite(wanted).all():
            reject()
        parity = compare(wanted, exported(inputs), precision=precision)
        if parity.differs:
            failing.append(FailingInput(recipe=recipe, parity=parity))
            raise _Disagree

    try:
        agree()
    # A file that draws random numbers agrees at times: then hypothesis calls its finding flaky.
    except Exception:
        if not failing:
            raise
    return failing[-1] if failing else None


def changed(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The same nesting of changed tensors."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: changed(part, change) for key, part in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(changed(part, change) for part in value))
    if isinstance(value, list | tuple):
        return type(value)(changed(part, change) for part in value)
    return value
