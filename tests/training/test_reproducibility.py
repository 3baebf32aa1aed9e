"""Seeds, generator states and digests: alike where they must be, different where they may not."""

import random
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_mltrainer.core.errors import ConfigError
from pytest_mltrainer.training.reproducibility import (
    RngState,
    choose_device,
    derive_seed,
    digest_nested,
    digest_tensor,
    digest_tensors,
    fix_seeds,
    make_deterministic,
    numerics_fingerprint,
)

DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8,
    torch.bool, torch.complex64,
]  # fmt: skip


def draws() -> list[Any]:
    return [random.random(), np.random.rand(), torch.rand(3).tolist(), random.gauss(0, 1)]


def test_derived_seeds_are_frozen() -> None:
    """Another value would change every training of every user."""
    assert derive_seed(0, "torch") == 598407256601448827
    assert derive_seed(7, "epoch", 3) == 4743521694803824384


@given(seed=st.integers(0, 2**32 - 1), one=st.text(), other=st.text())
def test_derived_seeds_differ_by_purpose_and_fit_63_bits(seed: int, one: str, other: str) -> None:
    assume(one != other)
    assert derive_seed(seed, one) != derive_seed(seed, other)
    assert derive_seed(seed, one) != derive_seed(seed + 1, one)
    assert 0 <= derive_seed(seed, one) < 2**63


@given(seed=st.integers(0, 2**32 - 1))
def test_fixed_seeds_repeat_every_generator(seed: int) -> None:
    assert fix_seeds(seed).seed == seed
    first = draws()
    fix_seeds(seed)
    assert draws() == first
    fix_seeds(seed + 1)
    other = draws()
    assert all(one != two for one, two in zip(first, other, strict=True))


def test_fixed_seeds_are_the_same_in_another_process() -> None:
    code = (
        "import random, numpy, torch\n"
        "from pytest_mltrainer.training.reproducibility import fix_seeds\n"
        "fix_seeds(5)\n"
        "print(random.random(), numpy.random.rand(), torch.rand(1).item())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    fix_seeds(5)
    assert done.stdout.split() == [
        str(value) for value in (random.random(), np.random.rand(), torch.rand(1).item())
    ]


@given(before=st.integers(0, 700))
def test_generator_states_are_restored_exactly(before: int) -> None:
    fix_seeds(before)
    for _ in range(before % 7):
        draws()
    np.random.randn()  # leaves the second of a pair of normal numbers waiting
    state = RngState.capture()
    first = draws()
    assert RngState.capture().digest() != state.digest()
    state.restore()
    assert RngState.capture().digest() == state.digest()
    assert draws() == first


@pytest.mark.parametrize("draw", [random.random, np.random.rand, lambda: torch.rand(1)])
def test_digest_of_the_state_sees_each_generator(draw: Any) -> None:
    fix_seeds(1)
    before = RngState.capture().digest()
    draw()
    assert RngState.capture().digest() != before


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@given(data=st.data())
def test_digest_sees_one_bit(dtype: torch.dtype, data: st.DataObject) -> None:
    plain = torch.arange(6).reshape(2, 3).to(dtype)
    raw = plain.reshape(-1).view(torch.uint8).clone()
    place = data.draw(st.integers(0, raw.numel() - 1))
    raw[place] ^= 1 << data.draw(st.integers(0, 0 if dtype == torch.bool else 7))
    assert digest_tensor(raw.view(dtype).reshape(2, 3)) != digest_tensor(plain)
    assert digest_tensor(plain.clone()) == digest_tensor(plain)


def test_digest_sees_shape_and_type_but_not_memory_layout() -> None:
    plain = torch.arange(6, dtype=torch.float32)
    digests = {
        digest_tensor(tensor)
        for tensor in (
            plain,
            plain.reshape(2, 3),
            plain.reshape(3, 2),
            plain.to(torch.int32).view(torch.float32),
            plain.view(torch.int32),
            plain[:0],
            torch.tensor(0.0),
        )
    }
    assert len(digests) == 7
    turned = plain.reshape(2, 3).t().contiguous().t()
    assert not turned.is_contiguous()
    assert digest_tensor(turned) == digest_tensor(plain.reshape(2, 3))
    assert digest_tensor(plain.requires_grad_()) == digest_tensor(plain)


def test_digest_tells_zeros_and_nans_apart_by_their_bits() -> None:
    assert digest_tensor(torch.tensor([0.0])) != digest_tensor(torch.tensor([-0.0]))
    assert digest_tensor(torch.tensor([torch.nan])) == digest_tensor(torch.tensor([torch.nan]))


def test_digest_of_named_tensors_is_free_of_order_but_not_of_names() -> None:
    one, two = torch.ones(2), torch.zeros(2)
    assert digest_tensors({"a": one, "b": two}) == digest_tensors({"b": two, "a": one})
    assert digest_tensors({"a": one, "b": two}) != digest_tensors({"a": two, "b": one})
    assert digest_tensors({"a": one}) != digest_tensors({"b": one})
    assert digest_tensors({}) != digest_tensors({"a": one})


@given(value=st.recursive(
    st.integers() | st.text() | st.none() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
))  # fmt: skip
def test_digest_of_nestings_repeats_and_sees_more(value: Any) -> None:
    assert digest_nested(value) == digest_nested(value)
    assert digest_nested([value]) != digest_nested(value)
    assert digest_nested([value, torch.ones(1)]) != digest_nested([value, torch.zeros(1)])


def test_digest_of_an_array_is_that_of_its_tensor() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert digest_nested(array) == digest_nested(torch.from_numpy(array))
    assert digest_nested(array.T) == digest_nested(torch.from_numpy(array).t())


def test_determinism_bites_unless_exceptions_are_declared() -> None:
    def nondeterministic() -> None:
        torch.zeros(4).put_(torch.tensor([0, 0]), torch.ones(2))

    make_deterministic(threads=1)
    assert torch.get_num_threads() == 1
    assert not torch.backends.cudnn.benchmark
    with pytest.raises(RuntimeError, match="deterministic"):
        nondeterministic()
    make_deterministic(threads=1, exceptions=["put_"])
    with pytest.warns(UserWarning, match="deterministic"):
        nondeterministic()


def test_fingerprint_names_what_computes_and_nothing_that_reports() -> None:
    fingerprint = numerics_fingerprint(torch.device("cpu"))
    assert fingerprint["torch"].startswith(torch.__version__.partition("+")[0])
    assert fingerprint["numpy"] == np.__version__
    assert fingerprint["device"] == "cpu"
    assert fingerprint["python"] == ".".join(map(str, sys.version_info[:2]))
    assert not {"pytest", "hypothesis", "rich", "matplotlib"} & set(fingerprint)


def test_device_that_is_not_there_is_a_configuration_error() -> None:
    assert choose_device("cpu").type == "cpu"
    absent = "mps" if not torch.backends.mps.is_available() else "cuda"
    with pytest.raises(ConfigError, match=f"device: '{absent}' is not available here"):
        choose_device(absent)
