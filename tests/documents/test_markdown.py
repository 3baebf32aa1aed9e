"""Documents say each number in one way, and user text stays inert."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_mltrainer.core.measurement import Measurement, number
from pytest_mltrainer.documents.markdown import Document, Markup, code, written


def test_a_whole_document() -> None:
    document = Document("Baseline of digits")
    document.section("Metrics").paragraph("Accuracy ", 0.5, " from ", code("a.pt"), ".")
    document.table(["metric", "value"], [["val_accuracy", 0.93611], ["n", 360], ["x", None]])
    document.bullets(["one", True]).image("curve", "plots/learning curve.svg")
    document.code_block("pip install x\nx --run", "bash")
    assert document.text() == (
        "# Baseline of digits\n\n## Metrics\n\nAccuracy 0.5000 from `a.pt`.\n\n"
        "| metric | value |\n| --- | --- |\n| val_accuracy | 0.9361 |\n| n | 360 |\n| x | – |\n\n"
        "- one\n- yes\n\n![curve](plots/learning%20curve.svg)\n\n"
        "```bash\npip install x\nx --run\n```\n"
    )


@given(value=st.floats())
def test_numbers_are_written_as_everywhere(value: float) -> None:
    assert written(value) == written(np.float64(value)) == number(value)


def test_numpy_scalars_and_measurements() -> None:
    assert written(np.float32(0.5)) == "0.5000"
    assert written(np.int64(7)) == "7"
    assert written(np.bool_(False)) == "no"
    measured = Measurement(value=0.5, n=10, low=0.2, high=0.8)
    assert written(measured) == measured.text()


@given(text=st.text())
def test_text_cannot_leave_its_cell(text: str) -> None:
    table = Document("t").table(["a", "b"], [[text, code(text)]]).text()
    row = table.splitlines()[-1]
    assert len(table.splitlines()) == 5
    assert row.replace("\\\\", "").replace("\\|", "").count("|") == 3
    table.encode()


@given(text=st.text(alphabet="<>&`*_[]|#\\\n\r\t\x1b\u2028\x00ab-=1. ~+"))
def test_text_cannot_become_markup(text: str) -> None:
    paragraph = Document("t").paragraph(text).text().split("\n\n", 1)[1]
    assert "<" not in paragraph
    assert ">" not in paragraph
    assert "\n" not in paragraph.removesuffix("\n")
    assert not paragraph.startswith(("#", "- ", "+ ", "=", "~", "* ", "1. ", "```"))
    bare = paragraph.replace("\\\\", "")
    for mark in "`*[]#~":
        assert mark not in bare.replace(f"\\{mark}", "")


def test_a_script_is_inert() -> None:
    text = Document("<script>").paragraph("[x](javascript:alert(1)) <img onerror=1>").text()
    assert "<" not in text
    assert "[x](" not in text


def test_code_holds_backticks() -> None:
    assert code("a`b") == "``a`b``"
    assert code("`") == "`` ` ``"
    assert "````\n```\n````" in Document("t").code_block("```").text()


def test_markup_is_not_escaped_twice() -> None:
    assert written(Markup("**bold**")) == "**bold**"


@pytest.mark.parametrize("path", ["../x.svg", "/x.svg", "http://x/y.svg", "a/../../x", ""])
def test_images_stay_beside_the_document(path: str) -> None:
    with pytest.raises(ValueError, match="relative"):
        Document("t").image("x", path)


def test_ragged_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="1 cells, wanted 2"):
        Document("t").table(["a", "b"], [["x"]])
