"""What only people know about a model: four files in `docs/model/` that documents quote."""

import re
from dataclasses import dataclass
from pathlib import Path

from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.core.steps import TOPICS
from pytest_mltrainer.documents.compare import placeholders
from pytest_mltrainer.documents.markdown import Markup

WORDS_FOLDER = "docs/model"
_TITLE = re.compile(r"\A\s*#[ \t][^\n]*\n")
_HEADING = re.compile(r"^(#{1,4})(?=[ \t])", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The texts by topic; an empty one where the file is missing or says nothing."""

    texts: dict[str, str]

    @classmethod
    def read(cls, root: Path) -> "Words":
        """The words of a project. Raises StorageError for a file that is no UTF-8 text."""
        return cls(texts={topic: read_words(root / words_file(topic)) for topic in TOPICS})

    def quote(self, topic: str) -> Markup:
        """The text of a topic, its headings below those of a document's sections."""
        text = self.texts[topic]
        if not text:
            return Markup(f"`{words_file(topic)}` says nothing.")
        return Markup(_HEADING.sub(r"\1##", text))

    def unfilled(self) -> list[str]:
        """Files that say nothing, and placeholders that nobody has replaced, in words."""
        problems = []
        for topic, text in self.texts.items():
            found = placeholders(text)
            if not text:
                problems.append(f"{words_file(topic)} says nothing")
            elif found:
                question = found[0].partition(": ")[2]
                problems.append(f"{words_file(topic)} still asks {question}")
        return problems


def words_file(topic: str) -> str:
    """The file of a topic, relative to the project."""
    return f"{WORDS_FOLDER}/{topic}.md"


def read_words(path: Path) -> str:
    """The text of a file without its title; empty for no file.

    Raises StorageError for a file that is no UTF-8 text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{path}: not readable as UTF-8 text ({error})") from error
    return _TITLE.sub("", text.replace("\r\n", "\n") + "\n", count=1).strip()
