"""The user's section: read-only, and it remembers what was read."""

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mltrainer.core.section import Section, flatten

VALUES = {"width": 32, "encoder": {"depth": 2, "norm": {"kind": "layer"}}, "sizes": [1, 2]}
KEYS = st.text("abc", min_size=1, max_size=3)
TREES = st.dictionaries(
    KEYS,
    st.recursive(
        st.integers() | st.lists(st.integers(), max_size=2),
        lambda inner: st.dictionaries(KEYS, inner, max_size=3),
        max_leaves=6,
    ),
    max_size=4,
)


@pytest.fixture
def section() -> Section:
    return Section("model", VALUES)


def test_reads_are_recorded_where_they_happen(section: Section) -> None:
    assert section.reads == frozenset()
    assert section["width"] == 32
    encoder = section["encoder"]
    assert section.reads == {"width"}
    assert encoder["norm"]["kind"] == "layer"
    assert section.reads == {"width", "encoder.norm.kind"}
    assert encoder.reads == {"norm.kind"}


def test_get_and_in_count_even_when_the_key_is_missing(section: Section) -> None:
    assert section.get("dropout", 0.1) == 0.1
    assert "bias" not in section
    assert section.reads == {"dropout", "bias"}


def test_unpacking_reads_every_leaf_of_the_level(section: Section) -> None:
    unpacked = dict(**section)
    assert section.reads == {"width", "sizes"}
    assert unpacked["encoder"] == VALUES["encoder"]


@pytest.mark.parametrize("look", [repr, copy.deepcopy, Section.plain, len, list, VALUES.__eq__])
def test_looking_is_not_reading(section: Section, look: Any) -> None:
    look(section)
    assert section == VALUES
    assert section.reads == frozenset()


def test_nothing_can_be_changed_through_it(section: Section) -> None:
    section["sizes"].append(3)
    section.plain()["encoder"]["depth"] = 9
    with pytest.raises(TypeError):
        section["width"] = 1  # type: ignore[index]
    assert section == VALUES


def test_its_own_copy_of_what_it_was_given() -> None:
    given_values = {"encoder": {"depth": 2}}
    section = Section("model", given_values)
    given_values["encoder"]["depth"] = 3
    assert section["encoder"]["depth"] == 2


def test_missing_key_names_section_file_and_the_likely_key(section: Section) -> None:
    with pytest.raises(KeyError) as raised:
        section["encoder"]["dept"]
    text = str(raised.value)
    assert "training_config.yaml" in text
    assert "model.encoder.dept" in text
    assert "Did you mean 'depth'?" in text


def test_survives_pickling(section: Section) -> None:
    assert pickle.loads(pickle.dumps(section))["encoder"] == VALUES["encoder"]


@given(tree=TREES)
def test_reading_every_leaf_records_exactly_the_flat_keys(tree: dict[str, Any]) -> None:
    section = Section("model", tree)

    def visit(part: Section) -> None:
        for value in part.values():
            if isinstance(value, Section):
                visit(value)

    visit(section)
    assert section.reads == set(flatten(tree))


def test_flatten_keeps_lists_and_empty_mappings() -> None:
    assert flatten({"a": {"b": [1, {"c": 2}], "d": {}}, "e": {"f": {"g": None}}}) == {
        "a.b": [1, {"c": 2}],
        "a.d": {},
        "e.f.g": None,
    }
    assert flatten({}) == {}
