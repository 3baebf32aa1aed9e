"""Measured facts of the data against the same facts computed plainly."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from small_trainings import Blobs
from torch import nn
from torch.utils.data import TensorDataset

from pytest_mltrainer import Splits
from pytest_mltrainer.training.data.profile import profile_data, profile_model

ROWS = arrays.arrays(np.int8, st.tuples(st.integers(1, 6), st.just(2)), elements=st.integers(0, 2))
TABLES = arrays.arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(1, 4)),
    elements=st.sampled_from([0.0, 0.1, 0.3, -5.0, 1e6, 1e-6, np.nan, np.inf]),
)


def dataset(inputs: Any) -> TensorDataset:
    return TensorDataset(torch.as_tensor(inputs), torch.zeros(len(inputs), dtype=torch.int64))


def profiled(train: Any, validation: Any = None, test: Any = None) -> tuple[Any, Any]:
    rest = np.full((2, 2), 100) if validation is None else validation
    more = np.full((2, 2), 200) if test is None else test
    splits = Splits(train=dataset(train), validation=dataset(rest), test=dataset(more))
    found = profile_data(Blobs(), splits)
    assert json.dumps(found, allow_nan=False)
    return found


@given(train=ROWS, validation=ROWS, test=ROWS)
@settings(max_examples=50, deadline=None)
def test_overlaps_are_the_contents_that_two_splits_share(
    train: Any, validation: Any, test: Any
) -> None:
    documented, _ = profiled(train, validation, test)
    parts = {"train": train, "validation": validation, "test": test}
    contents = {name: {tuple(row) for row in part} for name, part in parts.items()}
    for pair in ("train/validation", "train/test", "validation/test"):
        one, other = pair.split("/")
        shared = contents[one] & contents[other]
        found = documented["overlap"][pair]
        assert found["content"] == len(shared)
        assert found["share"] == len(shared) / min(len(parts[one]), len(parts[other]))
        assert len(found["examples"]) == min(len(shared), 5)
        for name, row, second, counterpart in found["examples"]:
            assert tuple(parts[name][row]) == tuple(parts[second][counterpart])
    for name, part in parts.items():
        assert documented["splits"][name]["n"] == len(part)
        assert documented["splits"][name]["distinct"] == len(contents[name])


@given(table=TABLES)
@settings(max_examples=80, deadline=None)
def test_scales_are_those_of_the_finite_values(table: Any) -> None:
    _, profile = profiled(table)
    found = profile["inputs"]
    finite = np.where(np.isfinite(table), table, np.nan)
    columns = [column[~np.isnan(column)] for column in finite.T]
    spread = [column.std() for column in columns if len(set(column)) > 1]
    every = finite[~np.isnan(finite)]
    assert found["nonfinite"] == int((~np.isfinite(table)).sum())
    assert found["max_abs"] == (np.abs(every).max() if every.size else 0.0)
    assert found["constant_columns"] == sum(len(set(column)) <= 1 for column in columns)
    assert found["scale_ratio"] == pytest.approx(max(spread) / min(spread) if spread else 1.0)
    assert found["columns"] == table.shape[1]
    assert found["tabular"]
    bad = [row for row, values in enumerate(table) if not np.isfinite(values).all()]
    assert found["nonfinite_rows"] == bad[:5]


def test_constant_column_has_no_scale_whatever_its_rounding() -> None:
    table = np.stack([np.full(10, 0.1), np.arange(10.0)], axis=1)
    _, profile = profiled(table)
    assert profile["inputs"]["scale_ratio"] == 1.0
    assert profile["inputs"]["constant_columns"] == 1


def test_digest_of_a_split_sees_order_targets_and_one_bit() -> None:
    table = np.arange(8.0).reshape(4, 2)
    digests = [
        profiled(inputs)[0]["splits"]["train"]["digest"]
        for inputs in (table, table[::-1].copy(), np.nextafter(table, 100))
    ]
    other = TensorDataset(torch.as_tensor(table), torch.ones(4, dtype=torch.int64))
    splits = Splits(train=other, validation=dataset(table), test=dataset(table))
    digests.append(profile_data(Blobs(), splits)[0]["splits"]["train"]["digest"])
    assert len(set(digests)) == 4
    assert profiled(table)[0] == profiled(table)[0]


class WithGroups(Blobs):
    def sample_key(self, split: str, index: int) -> str:
        return f"patient-{index // 2}" if split != "test" else f"other-{index}"


def test_sample_keys_find_what_contents_do_not() -> None:
    splits = Splits(
        train=dataset(np.zeros((4, 2))), validation=dataset(np.ones((4, 2))),
        test=dataset(np.full((4, 2), 2)),
    )  # fmt: skip
    documented, _ = profile_data(WithGroups(), splits)
    assert documented["keys"] == "sample_key"
    found = documented["overlap"]["train/validation"]
    assert (found["ids"], found["content"]) == (2, 0)
    assert found["examples"] == [["train", 0, "validation", 0], ["train", 2, "validation", 2]]
    assert documented["overlap"]["train/test"]["ids"] == 0


def test_classes_are_counted_by_split() -> None:
    plain = Blobs().data(None)  # type: ignore[arg-type]
    _, profile = profile_data(Blobs(), plain)
    assert profile["targets"]["classes"] == {
        str(label): {"train": 16, "validation": 10, "test": 8} for label in range(3)
    }


def test_images_are_one_column() -> None:
    _, profile = profiled(np.random.default_rng(0).normal(size=(5, 3, 4, 4)))
    assert not profile["inputs"]["tabular"]
    assert profile["inputs"]["columns"] == 1
    assert profile["inputs"]["shape"] == [3, 4, 4]


def test_inputs_that_are_no_arrays_are_said_not_to_be_judged() -> None:
    plain = Blobs().data(None)  # type: ignore[arg-type]
    texts = [("a text", 0), ("another", 1)]
    _, profile = profile_data(Blobs(), dataclasses.replace(plain, train=texts))  # type: ignore[arg-type]
    assert profile["inputs"] == {"judged": False, "reason": "inputs are no arrays"}


def test_non_finite_targets_are_counted_in_every_split() -> None:
    class Regression(Blobs):
        kind = "regression"

    def part(*targets: float) -> TensorDataset:
        return TensorDataset(torch.rand(len(targets), 2), torch.tensor(targets))

    splits = Splits(train=part(1.0, 3.0, torch.nan), validation=part(torch.inf), test=part(0.0))
    _, profile = profile_data(Regression(), splits)
    assert profile["targets"]["nonfinite"] == 2
    assert (profile["targets"]["mean"], profile["targets"]["std"]) == (2.0, 1.0)


def test_first_layer_is_the_first_with_weights() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(4, 2), nn.ReLU()))
    model[1][0].bias.requires_grad_(False)
    assert profile_model(model) == {
        "first_layer": "Linear",
        "first_layer_name": "1.0",
        "trainable_parameters": 8,
    }
