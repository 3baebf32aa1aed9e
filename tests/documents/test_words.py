"""What people write into docs/model: read, quoted, and asked for by name."""

from pathlib import Path

import pytest

from pytest_mltrainer.cli import main
from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.core.steps import STEPS, TOPICS
from pytest_mltrainer.documents.markdown import Document
from pytest_mltrainer.documents.words import Words, words_file


def write(root: Path, **texts: str) -> None:
    for topic, text in texts.items():
        path = root / words_file(topic)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_init_asks_for_every_topic_and_its_questions_are_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path)]) == 0
    assert "answer the questions in docs/model" in capsys.readouterr().out
    unfilled = Words.read(tmp_path).unfilled()
    assert [text.partition(" ")[0] for text in unfilled] == [words_file(t) for t in TOPICS]
    assert all("still asks <" in text for text in unfilled)


def test_init_keeps_what_is_written(tmp_path: Path) -> None:
    write(tmp_path, purpose="# Purpose\n\nIt sorts mail.\n")
    main(["init", str(tmp_path)])
    assert Words.read(tmp_path).texts["purpose"] == "It sorts mail."


def test_missing_and_empty_files_say_nothing(tmp_path: Path) -> None:
    write(tmp_path, users="# Users\n\n  \n")
    words = Words.read(tmp_path)
    assert words.unfilled() == [f"{words_file(topic)} says nothing" for topic in TOPICS]
    assert words.quote("users") == "`docs/model/users.md` says nothing."


def test_a_quote_stays_below_the_section_it_stands_in(tmp_path: Path) -> None:
    text = "# Limits\n\n## Night\n\nDark images | of *cats*.\n"
    write(tmp_path, limitations=text)
    words = Words.read(tmp_path)
    document = Document("Card").section("Limitations").quote(words.quote("limitations"))
    assert document.text().splitlines()[2:7:2] == [
        "## Limitations",
        "#### Night",
        "Dark images | of *cats*.",
    ]


def test_other_encodings_are_named(tmp_path: Path) -> None:
    write(tmp_path, contacts="")
    (tmp_path / words_file("contacts")).write_bytes("Müller".encode("latin-1"))
    with pytest.raises(StorageError, match=r"contacts\.md: not readable as UTF-8"):
        Words.read(tmp_path)


def test_the_documents_go_stale_with_the_words_and_nothing_else_does() -> None:
    reading = [step.name for steps in STEPS.values() for step in steps if step.texts]
    assert reading == ["documents"]
    documents = STEPS["finalization"][-1]
    assert documents.texts == tuple(words_file(topic) for topic in TOPICS)
