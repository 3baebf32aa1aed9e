"""Markdown from measured values: each number is written in one way, and user text stays inert."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from pathlib import PurePosixPath
from typing import Self
from urllib.parse import quote

from pytest_mltrainer.core.measurement import Measurement, number


class Markup(str):
    """Text that is Markdown already and is not escaped again."""

    __slots__ = ()


Value = str | Real | float | Measurement | None

_SPECIAL = re.compile(r"([\\`*\[\]|#~$]|(?<!\w)_|_(?!\w))")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
NOTHING = "–"


class Document:
    """A Markdown document that grows block by block; the same calls give the same text."""

    def __init__(self, title: str) -> None:
        """Start with `title` as the only heading of level 1."""
        self._blocks = [f"# {written(title)}"]

    def section(self, heading: str, level: int = 2) -> Self:
        """Start a section."""
        return self._add(f"{'#' * level} {written(heading)}")

    def paragraph(self, *parts: Value) -> Self:
        """Add a paragraph of the parts, without anything between them."""
        return self._add(_not_a_list("".join(written(part) for part in parts).strip()))

    def bullets(self, items: Iterable[Value]) -> Self:
        """Add a list; nothing for no items."""
        lines = [f"- {written(item)}" for item in items]
        return self._add("\n".join(lines)) if lines else self

    def table(self, headers: Sequence[Value], rows: Iterable[Sequence[Value]]) -> Self:
        """Add a table. Raises ValueError for a row that has not one cell a header."""
        lines = [_row(headers), _row([Markup("---")] * len(headers))]
        for row in rows:
            if len(row) != len(headers):
                raise ValueError(f"a table row of {len(row)} cells, wanted {len(headers)}: {row!r}")
            lines.append(_row(row))
        return self._add("\n".join(lines))

    def image(self, alt: str, relative_path: str) -> Self:
        """Add an image beside the document. Raises ValueError for a path that leaves its folder."""
        path = PurePosixPath(relative_path)
        if path.is_absolute() or ".." in path.parts or ":" in relative_path or not path.parts:
            raise ValueError(f"image path {relative_path!r}, wanted a relative one without '..'")
        return self._add(f"![{written(alt)}]({quote(str(path))})")

    def quote(self, text: Markup) -> Self:
        """Add blocks that are Markdown already."""
        return self._add(text.strip())

    def code_block(self, text: str, language: str = "") -> Self:
        """Add text to be read letter by letter, such as commands."""
        runs = [len(run) for run in re.findall("`+", text)]
        fence = "`" * max(3, max(runs, default=0) + 1)
        lines = (_printable(line) for line in text.strip("\n").split("\n"))
        return self._add("\n".join([f"{fence}{language}", *lines, fence]))

    def text(self) -> str:
        """The whole document, ending in one newline."""
        return "\n\n".join(self._blocks) + "\n"

    def _add(self, block: str) -> Self:
        self._blocks.append(block)
        return self


def written(value: Value) -> Markup:
    """A value as it stands in documents: text escaped, numbers and measurements as everywhere.

    Truth values are `yes` and `no`, None is a dash, a line break is a space.
    """
    if isinstance(value, Markup):
        return value
    if value is None:
        return Markup(NOTHING)
    if isinstance(value, bool) or type(value).__name__ == "bool":  # numpy's own is no bool
        return Markup("yes" if value else "no")
    if isinstance(value, Measurement):
        return _escaped(value.text())
    if isinstance(value, Integral):
        return Markup(number(int(value)))
    if isinstance(value, Real):
        return Markup(number(float(value)))
    return _escaped(str(value))


def code(text: str) -> Markup:
    """Text as inline code, whatever it holds (a `|` would end a cell even inside code)."""
    plain = _printable(text).replace("|", "\\|").strip()
    runs = [len(run) for run in re.findall("`+", plain)]
    fence = "`" * (max(runs, default=0) + 1)
    pad = " " if plain[:1] == "`" or plain[-1:] == "`" else ""
    return Markup(f"{fence}{pad}{plain}{pad}{fence}") if plain else Markup("")


def _escaped(text: str) -> Markup:
    marked = _SPECIAL.sub(r"\\\1", _printable(text))
    return Markup("".join(_ENTITIES.get(character, character) for character in marked))


def _printable(text: str) -> str:
    """The text on one line, without control characters and halves of surrogate pairs."""
    shown = []
    for character in text:
        kind = unicodedata.category(character)
        shown.append(" " if kind in ("Cc", "Zl", "Zp") else "\ufffd" if kind == "Cs" else character)
    return "".join(shown)


def _not_a_list(line: str) -> str:
    """The line, with what would make a list or an underline of its start made text."""
    return re.sub(r"^([-+=])", r"\\\1", re.sub(r"^([0-9]+)([.)])(?=\s)", r"\1\\\2", line))


def _row(cells: Sequence[Value]) -> str:
    return f"| {' | '.join(written(cell) for cell in cells)} |"
