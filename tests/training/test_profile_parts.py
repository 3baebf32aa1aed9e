"""The parts of the profile against the same facts computed the long way round."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_trainings import Augmented, Blobs, blobs
from torch.utils.data import Dataset, TensorDataset

from pytest_mltrainer import Splits
from pytest_mltrainer.evaluation.predictions import Predictions
from pytest_mltrainer.training.data import samples
from pytest_mltrainer.training.data.columns import Moments
from pytest_mltrainer.training.data.labels import Problem, best_reference
from pytest_mltrainer.training.data.neighbours import nearest
from pytest_mltrainer.training.data.ordering import order_facts
from pytest_mltrainer.training.data.profile import profile_data
from pytest_mltrainer.training.data.separability import tell_apart
from pytest_mltrainer.training.data.targets import Column
from pytest_mltrainer.training.diagnosing.recall import recall_by_class


class Listed(Dataset[Any]):
    """Samples as they are."""

    def __init__(self, entries: list[Any]) -> None:
        self.entries = entries

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Any:
        return self.entries[index]


def profiled(*entries: list[Any], kind: str = "classification") -> Any:
    class Given(Blobs):
        pass

    Given.kind = kind  # type: ignore[assignment]
    train, validation, test = (Listed(part) for part in entries)
    _, profile = profile_data(Given(), Splits(train=train, validation=validation, test=test))
    assert json.dumps(profile, allow_nan=False)
    return profile


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_moments_of_parts_are_those_of_the_whole(one: int, other: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    table = draw.normal(3, 100, size=(one + other, 3))
    table[draw.random(table.shape) < 0.2] = np.nan
    merged = Moments.of(table[:one])
    merged.merge(Moments.of(table[one:]))
    whole = Moments.of(table)
    for name in ("count", "mean", "std", "low", "high"):
        np.testing.assert_allclose(getattr(merged, name), getattr(whole, name), atol=1e-9)
    pooled = whole.pooled()
    known = table[~np.isnan(table)]
    if known.size:
        np.testing.assert_allclose([pooled.mean[0], pooled.std[0]], [known.mean(), known.std()])


@given(st.integers(3, 40), st.integers(1, 5), st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_nearest_are_the_nearest(rows: int, k: int, seed: int) -> None:
    table = np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)
    apart = np.linalg.norm(table[:, None] - table[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    found, indices = nearest(table, table, k, np.arange(rows))
    wanted = np.sort(apart, axis=1)[:, : min(k, rows - 1)]
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    np.testing.assert_allclose(np.take_along_axis(apart, indices, axis=1), wanted, atol=1e-3)


def test_the_linear_reference_never_saw_the_row_that_it_judges() -> None:
    from sklearn.linear_model import Ridge

    draw = np.random.default_rng(0)
    x = draw.normal(size=(40, 3)).astype(np.float32)
    y = x @ [1.0, -2.0, 0.5] + 0.01 * draw.normal(size=40)
    posed = Problem(train=x, validation=x, targets=y, held_out=y, rows=list(range(40)))
    reference, _ = best_reference(posed)
    assert reference.name == "a linear model"
    for row in (0, 7, 39):
        rest = np.delete(np.arange(40), row)
        refit = Ridge(alpha=1.0).fit(x[rest], y[rest]).predict(x[row : row + 1])
        assert reference.train[row, 0] == pytest.approx(refit[0], abs=1e-5)


def test_order_is_0_when_mixed_and_1_when_sorted() -> None:
    mixed = np.random.default_rng(0).integers(0, 4, 4000)
    for values, wanted in ((mixed, 0.0), (np.sort(mixed), 1.0)):
        found = order_facts(Column(values=values, names=("a", "b", "c", "d")), 4000)
        assert found["sorted"]["32"] == pytest.approx(wanted, abs=0.03)
    assert found["run_length"] == 1000
    assert order_facts(Column(reason="none"), 10) == {"judged": False, "reason": "none"}


def test_splits_of_one_source_are_not_told_apart_by_chance() -> None:
    lows = []
    for seed in range(12):
        draw = np.random.default_rng(seed)
        one, other = draw.normal(size=(120, 10)), draw.normal(size=(40, 10))
        lows.append(tell_apart(one, other)["auc_low"])
    assert max(lows) < 0.65
    assert tell_apart(one, other + 2)["auc_low"] > 0.75


def test_large_splits_are_read_at_evenly_spaced_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "LIMIT_SAMPLES", 100)
    read = samples.read_split(
        Blobs(), "train", TensorDataset(torch.rand(1000, 3), torch.ones(1000))
    )
    assert (read.n, len(read.rows), read.rows[0], read.rows[-1]) == (1000, 100, 0, 999)
    assert set(np.diff(read.rows)) <= {10, 11}


def test_augmentation_is_noticed_and_comparisons_change_no_record() -> None:
    plain = blobs(80, 0)
    splits = Splits(train=Augmented(plain), validation=blobs(60, 1), test=blobs(60, 2))

    def both(relations: bool) -> Any:
        torch.manual_seed(0)
        np.random.seed(0)
        __import__("random").seed(0)
        return profile_data(Blobs(), splits, relations=relations)

    (record, profile), (again, less) = both(True), both(False)
    assert record == again
    assert profile["random"]
    assert profile["relations"]["skew"]["reason"] == "training samples are augmented at random"
    assert less == {key: part for key, part in profile.items() if key != "relations"}


def pairs(count: int, seed: int) -> list[Any]:
    draw = np.random.default_rng(seed)
    return [
        ({"b": torch.tensor(draw.normal(size=2)), "a": float(draw.normal())}, int(draw.integers(2)))
        for _ in range(count)
    ]


def test_parts_by_name_are_columns() -> None:
    profile = profiled(pairs(60, 0), pairs(60, 1), pairs(60, 2))
    assert profile["inputs"]["tabular"]
    assert profile["inputs"]["columns"] == 3
    one = pairs(60, 0)
    one[7] = ({"a": float("nan"), "b": torch.zeros(2)}, 0)
    found = profiled(one, pairs(60, 1), pairs(60, 2))["nonfinite"]["train"]["inputs"]
    assert (found["columns"], found["rows"]) == (["a"], [7])


def test_sequences_of_several_lengths_are_measured_as_one_column() -> None:
    draw = np.random.default_rng(0)
    entries = [(torch.tensor(draw.normal(size=2 + i % 5)), i % 2) for i in range(60)]
    profile = profiled(entries, entries[:20], entries[20:40])
    values = np.concatenate([value.numpy() for value, _ in entries])
    assert profile["inputs"]["judged"]
    assert not profile["inputs"]["tabular"]
    assert profile["inputs"]["std_max"] == pytest.approx(values.std())
    assert profile["relations"]["labels"]["reason"] == samples.RAGGED


def test_byte_images_have_the_scale_of_bytes() -> None:
    draw = np.random.default_rng(0)
    entries = [(torch.tensor(draw.integers(0, 256, (3, 8, 8)), dtype=torch.uint8), i % 2)
               for i in range(120)]  # fmt: skip
    profile = profiled(entries, entries[:40], entries[40:80])
    assert profile["inputs"]["dtype"] == "uint8"
    assert profile["inputs"]["max_abs"] == 255
    assert profile["relations"]["duplicates"]["judged"]


@pytest.mark.parametrize("entry", [torch.zeros(3), (torch.zeros(3),), (torch.zeros(3), "a")])
def test_samples_without_targets_are_said_not_to_be_judged(entry: Any) -> None:
    profile = profiled([entry] * 60, [entry] * 30, [entry] * 30)
    assert not profile["targets"]["judged"]
    assert profile["targets"]["nonfinite"] == 0
    assert not profile["relations"]["labels"]["judged"]


def test_rows_of_probabilities_count_as_their_largest() -> None:
    soft = torch.tensor([0.2, 0.7, 0.1])
    profile = profiled(
        [(torch.rand(2), soft)] * 3, [(torch.rand(2), soft)], [(torch.rand(2), soft)]
    )
    assert profile["targets"]["classes"] == {"1": {"train": 3, "validation": 1, "test": 1}}


def test_recall_by_class_and_by_label() -> None:
    logits = np.array([[2.0, -1.0], [2.0, -1.0], [-1.0, 2.0]])
    single = recall_by_class(
        "classification", Predictions(outputs=logits, targets=np.array([0, 1, 1]))
    )
    assert single == {"0": {"recall": 1.0, "n": 1}, "1": {"recall": 0.5, "n": 2}}
    several = recall_by_class(
        "multilabel", Predictions(outputs=logits, targets=np.array([[1, 0], [0, 0], [1, 0]]))
    )
    assert several == {"0": {"recall": 0.5, "n": 2}}
    assert recall_by_class("regression", Predictions(outputs=logits, targets=logits)) is None
