"""Distances of floats in units in the last place, and the first difference of two tensors."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pytest_mltrainer.training.repetition.tensor_difference import tensor_difference, ulp_distance

INTEGERS = {
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}
every_float = pytest.mark.parametrize("dtype", list(INTEGERS), ids=str)


def floats(dtype: torch.dtype) -> st.SearchStrategy[torch.Tensor]:
    """Any bits: zeros of both signs, denormal numbers, infinities and NaNs with them."""
    bits = 8 * dtype.itemsize
    whole = st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return whole.map(lambda value: torch.tensor([value], dtype=INTEGERS[dtype]).view(dtype)[0])


def numbers(dtype: torch.dtype) -> st.SearchStrategy[torch.Tensor]:
    """Whatever is no NaN."""
    width = 16 if dtype == torch.float16 else 32
    wide = st.floats(allow_nan=False, width=64 if dtype == torch.float64 else width)
    return wide.map(lambda value: torch.tensor(value, dtype=dtype))


def bits(number: torch.Tensor) -> int:
    return int(number.reshape(1).view(INTEGERS[number.dtype])[0])


def finite_numbers(dtype: torch.dtype) -> st.SearchStrategy[torch.Tensor]:
    """Every finite number but the zeros, by its bits and its sign."""
    largest = torch.tensor([torch.finfo(dtype).max], dtype=dtype).view(INTEGERS[dtype]).item()
    sizes = st.integers(1, int(largest)).map(
        lambda bits: torch.tensor([bits], dtype=INTEGERS[dtype]).view(dtype)[0]
    )
    return st.builds(torch.mul, sizes, st.sampled_from([1, -1]))


@every_float
@given(data=st.data())
def test_distance_is_symmetric_and_zero_for_equal_bits_alone(
    dtype: torch.dtype, data: st.DataObject
) -> None:
    one, other = data.draw(floats(dtype)), data.draw(floats(dtype))
    assert ulp_distance(one, other) == ulp_distance(other, one) >= 0
    assert (ulp_distance(one, other) == 0) == (bits(one) == bits(other))
    assert ulp_distance(one, one.clone()) == 0


@every_float
@given(data=st.data())
def test_neighbours_are_one_apart(dtype: torch.dtype, data: st.DataObject) -> None:
    number = data.draw(finite_numbers(dtype))
    above = torch.nextafter(number, torch.tensor(math.inf, dtype=dtype))
    assert ulp_distance(number, above) == 1


@every_float
@given(data=st.data())
def test_distances_add_up_along_the_order(dtype: torch.dtype, data: st.DataObject) -> None:
    drawn = [data.draw(numbers(dtype)) for _ in range(3)]
    low, middle, high = sorted(drawn, key=lambda number: (float(number), bits(number) >= 0))
    assert ulp_distance(low, high) == ulp_distance(low, middle) + ulp_distance(middle, high)


@every_float
def test_zeros_of_both_signs_are_neighbours(dtype: torch.dtype) -> None:
    assert ulp_distance(torch.tensor(0.0, dtype=dtype), torch.tensor(-0.0, dtype=dtype)) == 1


@given(data=st.data())
def test_one_flipped_bit_is_found_where_it_is(data: st.DataObject) -> None:
    plain = torch.linspace(-3, 3, 12).reshape(3, 4)
    place = data.draw(st.tuples(st.integers(0, 2), st.integers(0, 3)))
    changed = plain.clone()
    changed.view(torch.int32)[place] ^= 1
    found = tensor_difference(plain, changed)
    assert found is not None
    assert (found.index, found.differing, found.elements, found.ulp) == (place, 1, 12, 1)
    assert found.dtype == "float32"


def test_largest_difference_is_that_of_another_element_than_the_first() -> None:
    one = torch.tensor([1.0, 2.0, 3.0, 4.0])
    other = torch.tensor([1.0, 2.5, 3.0, 6.0])
    found = tensor_difference(one, other)
    assert found is not None
    assert found.text() == (
        "first at [1]: 2 against 2.5; 2 of 4 elements differ, by 2 at most, 4194304 ULP of float32"
    )


@pytest.mark.parametrize(
    ("one", "other", "says"),
    [
        (torch.zeros(2, 3), torch.zeros(3, 2), r"float32\[2, 3\] against float32\[3, 2\]"),
        (torch.zeros(2), torch.zeros(2).double(), r"float32\[2\] against float64\[2\]"),
        (torch.tensor([3, 4]), torch.tensor([3, 9]), "first at [1]: 4 against 9; 1 of 2"),
        (torch.tensor([True]), torch.tensor([False]), "first at [0]: True against False"),
        (torch.tensor(1.0), torch.tensor(2.0), "first at []: 1 against 2"),
        (torch.tensor([1.0, math.nan]), torch.tensor([1.0, 2.0]), "nan against 2; 1 of 2"),
        (torch.tensor([math.inf]), torch.tensor([1.0]), "by nan at most"),
        (torch.tensor([1 + 2j]), torch.tensor([1 + 3j]), "first at [0, 1]: 2 against 3"),
        (torch.zeros(3, dtype=torch.uint8), torch.tensor([0, 1, 0], dtype=torch.uint8), "by 1 at"),
    ],
)
def test_what_is_said_of(one: torch.Tensor, other: torch.Tensor, says: str) -> None:
    found = tensor_difference(one, other)
    assert found is not None
    assert says.replace("\\", "") in found.text()


@pytest.mark.parametrize(
    "tensor",
    [torch.tensor([math.nan, 0.0]), torch.zeros(0), torch.eye(3).t(), torch.tensor([1j])],
    ids=["nan", "empty", "turned", "complex"],
)
def test_equal_bits_are_no_difference(tensor: Any) -> None:
    assert tensor_difference(tensor, tensor.clone()) is None
