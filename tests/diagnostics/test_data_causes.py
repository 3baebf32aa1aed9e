"""Causes in the data that show in one place only: other meanings, merged classes, encodings."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_data_diagnostics import DETECTORS, Case, cut, linear, said, shipped

from pytest_mltrainer.core.evidence import EpochRecord, Evidence

WORDS, PLACES = 80, 12
MASKS = {"masking": {"judged": True, "nan": True, "infinite": False}}


def texts(rows: int = 900, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Each class prefers a fifth of the words; word 0 is never used."""
    draw = np.random.default_rng(0)
    y = draw.integers(0, classes, rows)
    own = 1 + y[:, None] * 16 + draw.integers(0, 16, (rows, PLACES))
    any_word = draw.integers(1, WORDS, (rows, PLACES))
    return np.where(draw.random((rows, PLACES)) < 0.4, own, any_word), y


def numbered_anew(x: np.ndarray, seed: int) -> np.ndarray:
    """The same texts in a vocabulary of their own."""
    return np.r_[0, 1 + np.random.default_rng(seed).permutation(WORDS - 1)][x]


def merged(share: float = 0.6, *, back: float = 0.0) -> Case:
    """Training rows of 7 are called 1, and rows of 1 are called 7 for `back` of them."""
    case = cut(*shipped("digits"))
    y, draw = case.y[0], np.random.default_rng(1).random(len(case.y[0]))
    case.y[0] = np.where((y == 7) & (draw < share), 1, np.where((y == 1) & (draw < back), 7, y))
    return case


def encoded(scale: float = 1.0, level: float = 0.0) -> Case:
    """A column of group means of the target over all rows; a third of the groups has one row."""
    x, y = linear(900, noise=3.0)
    group = np.random.default_rng(2).integers(0, 800, len(y))
    means = np.bincount(group, y, 800)[group] / np.bincount(group, minlength=800)[group]
    column = (scale * means + level).astype(np.float32)[:, None]
    return cut(np.concatenate([x, column], axis=1), y, kind="regression")


def often_zero() -> Case:
    """A third of the targets is 0, and so is what was measured the time before."""
    x, y = linear(900, noise=3.0)
    nothing = np.random.default_rng(3).random(len(y)) < 0.33
    before = np.where(nothing, 0, np.roll(y, 1)).astype(np.float32)[:, None]
    y = np.where(nothing, 0, y).astype(np.float32)
    return cut(np.concatenate([x, before], axis=1), y, kind="regression")


def rated(copied: float = 0.0) -> Case:
    """Users and films drawn at random, of which many pairs come twice; and copies beyond that."""
    draw = np.random.default_rng(4)
    x = np.stack([draw.integers(0, 60, 2400), draw.integers(0, 50, 2400)], axis=1)
    case = cut(x, draw.normal(size=2400).astype(np.float32), kind="regression")
    count = int(copied * len(case.x[1]))
    case.x[1][:count] = case.x[0][:count]
    return case


def test_a_vocabulary_for_each_split_is_skew() -> None:
    case = cut(*texts())
    assert said(case.evidence()) == {}
    case.x = [numbered_anew(part, seed) for seed, part in enumerate(case.x)]
    found = said(case.evidence())["train_val_skew"]
    assert "meanings" in found.summary
    assert "number words" in found.recommendations[0].instruction


def test_mixed_up_topics_are_seen_by_how_often_words_occur() -> None:
    case = cut(*texts())
    wrong = np.random.default_rng(5).random(len(case.y[0])) < 0.35
    case.y[0] = np.where(wrong, (case.y[0] + 1 + np.arange(len(wrong)) % 3) % 4, case.y[0])
    assert list(said(case.evidence())) == ["label_noise"]


def test_a_merged_class_is_named_and_other_shares_follow_from_it() -> None:
    found = said(merged().evidence())
    assert list(found) == ["label_noise"]
    assert "of 7 called 1" in found["label_noise"].summary
    assert found["label_noise"].symptoms[0].measured > 0.15


@settings(max_examples=5, deadline=None)
@given(label=st.integers(0, 9), kept=st.floats(0.1, 0.6))
def test_fewer_rows_of_a_class_are_no_merged_class(label: int, kept: float) -> None:
    case = cut(*shipped("digits"))
    left = (case.y[0] != label) | (np.random.default_rng(6).random(len(case.y[0])) < kept)
    case.x[0], case.y[0] = case.x[0][left], case.y[0][left]
    assert "label_noise" not in said(case.evidence())


@pytest.mark.parametrize(("scale", "level"), [(1.0, 0.0), (-0.02, 7.0)])
def test_an_encoding_of_the_target_over_all_rows_leaks(scale: float, level: float) -> None:
    found = said(encoded(scale, level).evidence())["data_leakage"]
    assert "column 8" in found.symptoms[0].what
    assert "TargetEncoder" in found.recommendations[0].instruction


def test_zeros_that_are_equal_do_not_leak() -> None:
    assert "data_leakage" not in said(often_zero().evidence())


def test_pairs_of_ids_repeat_by_chance() -> None:
    assert "data_leakage" not in said(rated().evidence())
    assert "data_leakage" in said(rated(0.4).evidence())


def with_gaps(*splits: int, column: int = 2) -> Evidence:
    case = cut(*linear(), kind="regression")
    for split in splits:
        case.x[split] = case.x[split].copy()
        case.x[split][3, column] = np.nan
    return case.evidence()


def after_training(evidence: Evidence, **parts: Any) -> Evidence:
    epoch = EpochRecord(
        epoch=0, steps=8, train={"loss": 1.0, "r2": 0.5}, validation={"loss": 1.0, "r2": 0.5},
        learning_rate=0.1, duration_s=1.0,
    )  # fmt: skip
    return replace(evidence, epochs=(epoch,), **parts)


def speaks(evidence: Evidence) -> bool:
    return DETECTORS["bad_input_values"](evidence) is not None


def test_gaps_that_the_model_answers_are_meant() -> None:
    assert speaks(with_gaps(0))
    assert not speaks(replace(with_gaps(0), probes=MASKS))


def test_gaps_of_test_are_excused_where_other_splits_have_some() -> None:
    assert not speaks(after_training(with_gaps(0, 2)))
    assert speaks(after_training(with_gaps(2)))
    assert not speaks(after_training(with_gaps(2), probes=MASKS))
    elsewhere = with_gaps(2, column=1)
    assert speaks(after_training(replace(elsewhere, probes=None)))
