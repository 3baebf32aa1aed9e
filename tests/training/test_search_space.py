"""What a search varies: declared spaces that contradict the schema, and spaces around a patch."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mltrainer.core.config import Config, apply_patch
from pytest_mltrainer.core.errors import ConfigError
from pytest_mltrainer.training.optimization.search_space import (
    Dimension,
    declared_space,
    space_around,
)

READS = ("model.width", "model.dropout")


def config(search: dict[str, Any] | None = None, **training: Any) -> Config:
    return Config.from_json(
        {
            "training": training,
            "model": {"width": 16, "dropout": 0.2, "name": "wide"},
            "optimization": {"search": search or {}},
        }
    )


@pytest.mark.parametrize(
    ("key", "wanted", "said"),
    [
        (
            "training.learning_rate",
            {"low": -1.0, "high": 0.1},
            "low: found -1.0 (number), wanted a",
        ),
        ("training.learning_rate", {"low": 0.1, "high": 0.01}, "wanted low below high"),
        ("training.learning_rate", {"low": 0.1}, "found no low or no high"),
        ("training.weight_decay", {"low": 0.0, "high": 0.1, "log": True}, "a low above 0"),
        ("training.epochs", {"low": 2.5, "high": 9.0}, "low: found 2.5 (number), wanted a whole"),
        ("training.lerning_rate", {"low": 0.1, "high": 1.0}, "Did you mean 'learning_rate'?"),
        ("training.optimizer", {"choices": ["adam", "ada"]}, "choices[1]: found 'ada' (text)"),
        ("training.epochs", {"low": 1, "high": 9, "choices": [3]}, "found choices and a range"),
        ("model.widht", {"low": 4, "high": 64}, "Did you mean 'model.width'?"),
        ("model.width", {"low": 4.5, "high": 64}, "low: found 4.5, wanted a whole number"),
        ("model.name", {"choices": ["deep"]}, "found a key that the task does not read"),
        ("seed", {"low": 1, "high": 9}, "wanted one of training, model, data"),
        ("objective.target", {"low": 0.1, "high": 0.9}, "found a key of 'objective'"),
    ],
)
def test_contradiction_is_named_with_its_key(key: str, wanted: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        declared_space(config({key: wanted}), READS)
    assert f"training_config.yaml optimization.search.{key}: " in str(refused.value)
    assert said in str(refused.value)


def test_all_contradictions_are_told_at_once() -> None:
    search = {
        "training.epochs": {"low": 0, "high": 9},
        "model.widht": {"low": 1, "high": 9},
        "training.learning_rate": {"low": 0.1, "high": 0.5},
    }
    with pytest.raises(ConfigError) as refused:
        declared_space(config(search), READS)
    assert [problem.split()[1] for problem in refused.value.problems] == [
        "optimization.search.training.epochs:",
        "optimization.search.model.widht:",
    ]


def test_declared_space_takes_whole_numbers_where_the_key_is_one() -> None:
    search = {
        "training.epochs": {"low": 2, "high": 9},
        "training.checkpoint_steps": {"low": 5, "high": 50},
        "training.clip_norm": {"low": 0.5, "high": 5},
        "model.width": {"low": 4, "high": 64, "log": True},
        "model.dropout": {"low": 0, "high": 0.5},
        "training.optimizer": {"choices": ["adam", "sgd"]},
    }
    space = {part.key: part for part in declared_space(config(search), READS)}
    whole = {key for key, part in space.items() if part.whole}
    assert whole == {"training.epochs", "training.checkpoint_steps", "model.width"}
    assert space["training.optimizer"].choices == ("adam", "sgd")
    assert space["model.width"].log


NUMBERS = st.one_of(st.integers(1, 10_000), st.floats(1e-6, 1e4, allow_nan=False))


@given(width=NUMBERS, rate=st.floats(1e-6, 100), epochs=st.integers(1, 1000))
def test_everything_around_a_patch_is_a_valid_configuration(
    width: float, rate: float, epochs: int
) -> None:
    patch = {
        "model.width": width,
        "training.learning_rate": rate,
        "training.epochs": epochs,
        "training.label_smoothing": 0.4,
        "training.optimizer": "sgd",
    }
    patched = apply_patch(config(), patch)
    space = space_around(patched, patch, lambda key: True)
    keys = [part.key for part in space]
    assert keys == [
        "model.width",
        "training.epochs",
        "training.label_smoothing",
        "training.learning_rate",
        "training.weight_decay",
    ]
    for part in space:
        assert part.low < part.high or part.whole
        for end in (part.low, part.high):
            apply_patch(patched, {part.key: part.setting(end)})


def test_keys_that_change_nothing_are_left_alone() -> None:
    space = space_around(config(), {"model.width": 16}, lambda key: key != "training.learning_rate")
    assert [part.key for part in space] == ["model.width", "training.weight_decay"]


def test_weight_decay_of_zero_has_a_range_of_its_own() -> None:
    space = space_around(config(weight_decay=0.0), {}, lambda key: True)
    decay = next(part for part in space if part.key == "training.weight_decay")
    assert (decay.low, decay.high, decay.log) == (1e-5, 1e-2, True)


def test_what_was_advised_is_searched_from_where_it_stands_to_beyond_the_advice() -> None:
    advised = [
        {"model.dropout": 0.3},
        {"training.weight_decay": 0.1},
        {"model.width": 8, "training.early_stopping": {"patience": 5, "min_delta": 0.0}},
        {"training.warmup_steps": 40},
        {"training.clip_norm": 1.0},
        {"model.dropout": 0.5},
    ]
    present = apply_patch(config(weight_decay=0.0), {"model.width": 16, "model.dropout": 0.0})
    space = {part.key: part for part in space_around(present, {}, lambda key: True, advised)}
    ranges = {key: (part.low, part.high, part.log) for key, part in space.items()}
    assert ranges == {
        "model.dropout": (0.0, 0.65, False),
        "model.width": (3, 16, True),
        "training.clip_norm": (1 / 3, 3.0, True),
        "training.learning_rate": ranges["training.learning_rate"],
        "training.warmup_steps": (0, 40, False),
        "training.weight_decay": (1e-5, pytest.approx(0.3), True),
    }
    assert [key for key, part in space.items() if part.whole] == [
        "model.width",
        "training.warmup_steps",
    ]
    for part in space.values():
        for end in (part.low, part.high):
            apply_patch(present, {part.key: part.setting(end)})


@given(low=st.floats(1e-9, 1e9), factor=st.floats(1.001, 1e3), share=st.floats(0, 1))
def test_setting_stays_in_its_range(low: float, factor: float, share: float) -> None:
    part = Dimension(key="x", low=low, high=low * factor)
    drawn = low + share * (part.high - low)
    assert part.holds(part.setting(drawn))
