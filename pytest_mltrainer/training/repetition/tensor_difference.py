"""Where two tensors that should be equal differ, by how much, and how many floats lie between."""

from dataclasses import asdict, dataclass
from typing import Any

import torch

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorDifference:
    """`index`, `one`, `other`: the first element that differs; the rest is about all of them.

    `largest` is the largest absolute difference (`nan` where one side is not finite), `ulp` its
    distance in units in the last place, None for what is no float. For another shape or type
    there is only `mismatch`.
    """

    index: tuple[int, ...] = ()
    one: str = ""
    other: str = ""
    differing: int = 0
    elements: int = 0
    largest: str = ""
    ulp: int | None = None
    dtype: str = ""
    mismatch: str = ""

    def text(self) -> str:
        """`first at [3, 4]: 0.1 against 0.2; 1 of 6 elements, by 1e-08 at most, 1 ULP ...`."""
        if self.mismatch:
            return self.mismatch
        ulp = "" if self.ulp is None else f", {self.ulp} ULP of {self.dtype}"
        return (
            f"first at {list(self.index)}: {self.one} against {self.other}; "
            f"{self.differing} of {self.elements} elements differ, by {self.largest} at most{ulp}"
        )

    def to_json(self) -> dict[str, Any]:
        """The difference as it is stored."""
        return asdict(self)


def tensor_difference(one: torch.Tensor, other: torch.Tensor) -> TensorDifference | None:
    """The difference of two tensors, or None when shape, type and every bit are equal.

    Equal NaNs are equal, 0.0 and -0.0 are not. Complex numbers are compared part by part.
    """
    if one.shape != other.shape or one.dtype != other.dtype:
        shapes = [f"{_name(part)}{list(part.shape)}" for part in (one, other)]
        return TensorDifference(mismatch=" against ".join(shapes))
    one, other = (_as_real(part) for part in (one, other))
    differs = _bits(one) != _bits(other)
    places = differs.nonzero()
    if not len(places):
        return None
    # A boolean, or an unsigned integer, must not wrap when subtracted.
    distance = (one.double() - other.double()).abs().masked_fill(~differs, -1.0)
    # Beside a NaN or an infinity there is no distance: the largest of all.
    distance = distance.nan_to_num(nan=torch.inf, posinf=torch.inf)
    widest = int(distance.argmax()) if distance.numel() else 0
    first, largest = tuple(places[0].tolist()), float(distance.reshape(-1)[widest])
    pair = (one.reshape(-1)[widest], other.reshape(-1)[widest])
    return TensorDifference(
        index=first,
        one=_shown(one[first]),
        other=_shown(other[first]),
        differing=len(places),
        elements=differs.numel(),
        largest=f"{largest:.3g}" if largest < torch.inf else "nan",
        ulp=ulp_distance(*pair) if one.is_floating_point() else None,
        dtype=_name(one),
    )


def ulp_distance(one: torch.Tensor, other: torch.Tensor) -> int:
    """How many floats lie from one number to another of the same type: 0 for equal bits alone.

    Floats of a sign are ordered as the integers of their bits, so neighbours are 1 apart; -0.0 and
    0.0 count as neighbours. NaNs lie beyond the infinities. float16, bfloat16, float32, float64.
    """
    return abs(_place(one) - _place(other))


def _place(number: torch.Tensor) -> int:
    bits = int(_bits(number.reshape(1))[0])
    # Below zero the bits count away from zero: turned over, -0.0 becomes -1.
    return bits if bits >= 0 else -1 - (bits + 2 ** (8 * number.element_size() - 1))


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(_INTEGERS[tensor.element_size()])


def _as_real(tensor: torch.Tensor) -> torch.Tensor:
    plain = tensor.detach().cpu()
    return torch.view_as_real(plain.resolve_conj()) if plain.is_complex() else plain


def _shown(value: torch.Tensor) -> str:
    number = value.item()
    return f"{number:.9g}" if isinstance(number, float) else str(number)


def _name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
