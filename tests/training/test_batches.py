"""Batches that are made in bulk hold the bits that collating row by row gives."""

import pickle
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import Dataset, Subset, TensorDataset, default_collate

from pytest_mltrainer import Config, Task
from pytest_mltrainer.training.batches import Collated, CollatedBatches, evaluation_batches

DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool]


class Plain(Task):
    pass


class Reversing(Task):
    def collate(self, samples: Sequence[Any]) -> Any:
        return default_collate(list(samples)[::-1])


class Counting(TensorDataset):
    """A data set of the user's own, whose rows must be asked for."""

    asked = 0

    def __getitem__(self, index: Any) -> Any:
        self.asked += 1
        return super().__getitem__(index)


def assert_same_bits(found: Any, wanted: Any) -> None:
    assert type(found) is type(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert (one.dtype, one.shape, one.stride()) == (other.dtype, other.shape, other.stride())
        assert torch.equal(one.view(torch.uint8), other.view(torch.uint8))


@st.composite
def datasets(draw: st.DrawFn) -> Dataset[Any]:
    samples = draw(st.integers(1, 9))
    tensors = []
    for _ in range(draw(st.integers(1, 3))):
        shape = [samples, *draw(st.lists(st.integers(1, 3), max_size=3))]
        values = torch.randn(shape, generator=torch.Generator().manual_seed(3)) * 9
        tensor = values.to(draw(st.sampled_from(DTYPES)))
        is_turned = len(shape) > 2 and draw(st.booleans())
        tensors.append(tensor.mT.contiguous().mT if is_turned else tensor)
    dataset: Dataset[Any] = TensorDataset(*tensors)
    for _ in range(draw(st.integers(0, 2))):
        samples = len(dataset)  # type: ignore[arg-type]
        dataset = Subset(dataset, draw(st.lists(st.integers(0, samples - 1), min_size=1)))
    return dataset


@given(dataset=datasets(), data=st.data())
def test_in_bulk_as_row_by_row(dataset: Dataset[Any], data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, len(dataset) - 1), min_size=1))  # type: ignore[arg-type]
    wanted = default_collate([dataset[row] for row in rows])
    assert_same_bits(Collated(Plain(), dataset)(rows), wanted)


def test_a_batch_is_a_copy() -> None:
    dataset = TensorDataset(torch.zeros(4, 2))
    Collated(Plain(), dataset)([0, 1])[0].add_(1)
    assert not dataset.tensors[0].any()


def test_collate_and_rows_of_the_user_are_asked() -> None:
    tensors = torch.arange(6.0).reshape(3, 2), torch.arange(3)
    assert Collated(Reversing(), TensorDataset(*tensors))([0, 2])[1].tolist() == [2, 0]
    counting = Counting(*tensors)
    assert Collated(Plain(), counting)([0, 2])[1].tolist() == [0, 2]
    assert counting.asked == 2


def test_batches_travel_to_workers_that_are_spawned() -> None:
    dataset = Subset(TensorDataset(torch.arange(3)), [2, 1])
    batches = pickle.loads(pickle.dumps(CollatedBatches(Plain(), dataset, 0)))
    assert batches[0, 0, [1, 0]][0].tolist() == [1, 2]


@pytest.mark.parametrize("samples", [1, 255, 256, 257, 600])
def test_evaluation_sees_each_sample_once_in_order(samples: int) -> None:
    dataset = TensorDataset(torch.arange(samples), torch.arange(samples))
    seen = [batch[0] for batch in evaluation_batches(Plain(), dataset, Config.from_json({}))]
    assert torch.cat(seen).tolist() == list(range(samples))
