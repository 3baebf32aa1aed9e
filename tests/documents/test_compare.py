"""An edit is found wherever it stands; drawing up the same document again is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mltrainer.core.measurement import Measurement
from pytest_mltrainer.documents.compare import differences, missing_sections, placeholders
from pytest_mltrainer.documents.markdown import Document, code

CELLS = st.one_of(
    st.text(max_size=12),
    st.integers(),
    st.floats(),
    st.floats(0, 1).map(lambda value: Measurement(value=value, n=9, low=0.0, high=1.0)),
)


@st.composite
def documents(draw: st.DrawFn, cells: st.SearchStrategy[object] = CELLS) -> str:
    document = Document("Made up")
    for row in draw(st.lists(st.tuples(cells, cells), min_size=1, max_size=4)):
        document.section("Part").paragraph(
            row[0], " and ", row[1], " by ", code("run-2024-01-05/a1b2c3")
        )
        document.table(["a", "b"], [row])
    return document.text()


@given(text=documents())
def test_rendering_again_is_no_difference(text: str) -> None:
    assert differences(text, text) == []


def with_an_edited_digit(data: st.DataObject, text: str) -> tuple[str, int]:
    """The text with one digit changed, and the line of it."""
    digits = "0123456789"
    place = data.draw(st.sampled_from([i for i, one in enumerate(text) if one in digits]))
    digit = data.draw(st.sampled_from(digits.replace(text[place], "")))
    return text[:place] + digit + text[place + 1 :], text[:place].count("\n") + 1


@given(text=documents(), data=st.data())
def test_an_edited_digit_anywhere_is_found(text: str, data: st.DataObject) -> None:
    edited, line = with_an_edited_digit(data, text)
    assert [one.line for one in differences(edited, text, relative=0)] == [line]


# As numbers are written, one digit of a value under 100 is more than a millionth of it.
@given(text=documents(st.integers() | st.floats(-99, 99) | st.text("ab |*\n")), data=st.data())
def test_the_tolerance_hides_no_digit_that_matters(text: str, data: st.DataObject) -> None:
    edited, line = with_an_edited_digit(data, text)
    assert [one.line for one in differences(edited, text)] == [line]


@given(text=documents(), data=st.data())
def test_with_no_tolerance_every_edited_character_is_found(text: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.sampled_from("x|?"))
    if text[place] != other:
        assert differences(text[:place] + other + text[place + 1 :], text, relative=0)


@given(text=documents(), data=st.data())
def test_a_dropped_or_added_line_is_found(text: str, data: st.DataObject) -> None:
    lines = text.split("\n")
    place = data.draw(st.integers(0, len(lines) - 1))
    assert differences("\n".join(lines[:place] + lines[place + 1 :]), text)
    assert differences("\n".join([*lines[:place], "1", *lines[place:]]), text)


def test_a_difference_says_where() -> None:
    found = "# T\n\n## Metrics\n\n```\n# no heading\n```\n\naccuracy 0.91\n"
    (one,) = differences(found, found.replace("0.91", "0.93"))
    assert one.text() == "line 9 (Metrics): found 'accuracy 0.91', recomputed 'accuracy 0.93'"


def test_an_inserted_line_does_not_shift_the_rest() -> None:
    wanted = "# T\na 1\nb 2\nc 3\n"
    found = "# T\nextra\na 1\nb 2\nc 4\n"
    assert [(one.line, one.found, one.recomputed) for one in differences(found, wanted)] == [
        (2, "extra", ""),
        (5, "c 4", "c 3"),
    ]


@pytest.mark.parametrize(
    ("found", "recomputed", "same"),
    [
        ("0.93000001", "0.93", True),
        ("0.9301", "0.93", False),
        ("-0.93", "0.93", False),
        ("x-0.93", "x0.93", False),
        ("12345678", "12345679", False),
        ("a12345678.5", "a12345678.6", False),
        ("1.0e-400", "2.0e-400", False),
        ("1.0e400", "2.0e400", False),
        ("1.0e999999999", "2.0e999999999", False),
        ("nan", "0.5", False),
        ("nan", "nan", True),
        ("1.2.3", "1.2.4", False),
        ("0.5 %", "0.5 points", False),
        ("9" * 5000, "9" * 4999 + "8", False),
        ("٣", "٤", False),
    ],
)
def test_what_counts_as_the_same(found: str, recomputed: str, same: bool) -> None:
    assert (differences(found, recomputed) == []) is same


def test_absolute_tolerance_concerns_counts_too() -> None:
    assert differences("336 of 360, 0.9333", "337 of 360, 0.9361", absolute=1) == []
    assert differences("335 of 360", "337 of 360", absolute=1)
    assert differences("-0.0001", "0.0001", absolute=0.001) == []


def test_sections_that_are_missing_or_empty() -> None:
    text = (
        "# T\n\n## Data\n\ntext\n\n## Empty\n\n## Outer\n\n### Inner\n\ntext\n\n```\n# Fake\n```\n"
    )
    wanted = ["data", "Empty", "Outer", "Inner", "Fake", "Gone"]
    assert missing_sections(text, wanted) == ["Empty", "Fake", "Gone"]


def test_placeholders_are_listed() -> None:
    text = (
        "TODO write\nfine\n<your name> and <...>\nLorem ipsum dolor\n{{ x }} ???\ncurl <URL>\n"
        "<br> <details> <https://x.y> List<int> a < b > c todo list <img src='x'> </p>\n"
    )
    assert placeholders(text) == [
        "line 1: TODO",
        "line 3: <your name>",
        "line 3: <...>",
        "line 4: Lorem ipsum",
        "line 5: {{ x }}",
        "line 5: ???",
        "line 6: <URL>",
    ]
