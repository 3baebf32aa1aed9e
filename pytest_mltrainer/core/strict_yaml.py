"""Reads a YAML file whose values mean what they look like, and remembers the line of every key.

YAML's own surprises are left out: `1e-3` is a number, `no`, `on` and dates are text, only `true`
and `false` are booleans, `010` is text. Aliases, anchors, tags, merge keys, duplicate keys, keys
that are not text or hold a dot are refused. The parser's events are read one by one and no object
is ever built from a tag, so that hostile input costs neither memory nor a stack overflow.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

import yaml
from yaml import events as on

from pytest_mltrainer.core.document import LIMIT_PROBLEMS, Document, KeyPath, Problem
from pytest_mltrainer.core.errors import ConfigError

LIMIT_BYTES = 1_000_000
LIMIT_DEPTH = 50
LIMIT_DIGITS = 300

_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*|0x[0-9a-fA-F]+|0o[0-7]+)")
_NUMBER = re.compile(
    r"[-+]?(?:(?:[0-9]+(?:_[0-9]+)*\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)"
)
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_WORDS: Mapping[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def load_yaml(path: Path) -> Document:
    """The document in `path`. What can be mended key by key is collected in its `problems`.

    Raises ConfigError when the file cannot be read as a mapping at all: missing, above 1 MB, not
    UTF-8 (a byte order mark is accepted), not YAML, empty, nested deeper than 50, or with more than
    50 such problems. A megabyte of valid values takes seconds: the parser is pure Python.
    """
    text = _read(path)
    builder = _Builder(path.name, text)
    values = builder.build()
    return Document(
        name=path.name, values=values, lines=builder.lines, problems=tuple(builder.problems)
    )


def resolve(text: str) -> str | int | float | bool | None:
    """The value of unquoted text; what is not surely a number, boolean or null stays text."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) > LIMIT_DIGITS:
        return text
    if _WHOLE.fullmatch(text):
        return int(text, 0)
    if _NUMBER.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    return text


def _read(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(LIMIT_BYTES + 1)
    except FileNotFoundError as error:
        raise ConfigError(
            [f"{path}: found no file, wanted a configuration: run `pytest-mltrainer init`"]
        ) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            [f"{path}: found nothing readable ({reason}), wanted a file: permit reading it"]
        ) from error
    if len(data) > LIMIT_BYTES:
        raise ConfigError(
            [
                f"{path.name}: found a file of more than {LIMIT_BYTES:,} bytes, wanted a smaller "
                "one: keep data out of the configuration and name its path instead"
            ]
        )
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            [
                f"{path.name}:{line}: found a byte that is not UTF-8 (Latin-1 or UTF-16?), "
                "wanted UTF-8 text: save the file as UTF-8"
            ]
        ) from error


class _Builder:
    """Turns the events of one document into plain values. Recursion is at most 50 deep."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []
        self._events: Iterator[on.Event] = yaml.parse(text, Loader=yaml.SafeLoader)

    def build(self) -> dict[str, Any]:
        """The root mapping. Raises ConfigError when there is none or the text is not YAML."""
        try:
            return self._document()
        except yaml.reader.ReaderError as error:
            line = self.text.count("\n", 0, error.position) + 1
            self._stop(line, "a control character", "text", "delete it")
        except yaml.MarkedYAMLError as error:
            self._stop_at(error)

    def _document(self) -> dict[str, Any]:
        first = self._after(on.StreamStartEvent)
        empty = isinstance(first, on.StreamEndEvent)
        values = None if empty else self._node(next(self._events), (), 1)
        if values is None:
            remedy = "write at least `seed: 0`, or delete it and run `pytest-mltrainer init`"
            self._stop(1, "an empty file", "'key: value' lines", remedy)
        if not isinstance(values, dict):
            self._stop(1, "something else", "'key: value' lines", "begin with `seed: 0`")
        after = self._after(on.DocumentEndEvent)
        if not isinstance(after, on.StreamEndEvent):
            line = _line(after)
            self._stop(line, "a second document ('---')", "one", "delete this line or what follows")
        return values

    def _after(self, kind: type[on.Event]) -> on.Event:
        event = next(self._events)
        return next(self._events) if isinstance(event, kind) else event

    def _node(self, event: on.Event, path: KeyPath, depth: int) -> object:
        line = _line(event)
        if isinstance(event, on.AliasEvent):
            self._refuse(path, line, f"the alias '*{event.anchor:.80}'", "a value", "write it out")
            return None
        if isinstance(event, on.ScalarEvent | on.CollectionStartEvent):
            self._refuse_marks(event, path, line)
        if isinstance(event, on.ScalarEvent):
            return resolve(event.value) if event.style is None else event.value
        if depth > LIMIT_DEPTH:
            self._stop(line, "deeper nesting", f"at most {LIMIT_DEPTH} levels", "flatten it")
        if isinstance(event, on.SequenceStartEvent):
            return self._list(path, depth)
        return self._mapping(path, depth)

    def _refuse_marks(
        self, event: on.ScalarEvent | on.CollectionStartEvent, path: KeyPath, line: int
    ) -> None:
        if event.anchor is not None:
            self._refuse(
                path, line, f"the anchor '&{event.anchor:.80}'", "a value", "delete '&...'"
            )
        if event.tag is not None:
            tag = event.tag.replace("tag:yaml.org,2002:", "!!")[:80]
            self._refuse(path, line, f"the tag '{tag}'", "a plain value", "delete the tag")

    def _list(self, path: KeyPath, depth: int) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := next(self._events), on.SequenceEndEvent):
            item = (*path, len(values))
            self.lines[item] = _line(event)
            values.append(self._node(event, item, depth + 1))
        return values

    def _mapping(self, path: KeyPath, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := next(self._events), on.MappingEndEvent):
            line = _line(event)
            key = self._node(event, (*path, "(key)"), depth + 1)
            name = event.value if isinstance(event, on.ScalarEvent) else "(key)"
            here = (*path, name)
            accepted = self._accepts(key, here, line, twice=name in values)
            if accepted:
                self.lines[here] = line
            value = self._node(next(self._events), here, depth + 1)
            if accepted:
                values[name] = value
        return values

    def _accepts(self, key: object, path: KeyPath, line: int, *, twice: bool) -> bool:
        if not isinstance(key, str):
            remedy = "write it in quotes" if path[-1] != "(key)" else "write a word"
            self._refuse(path, line, "a key that is not text", "a text", remedy)
        elif key == "<<":
            self._refuse(path, line, "a merge key", "the keys themselves", "write them out")
        elif "." in key or not key:
            nested = ": {".join(key.split(".")) + ": ..." + "}" * key.count(".")
            self._refuse(path, line, "a dot in the key", "nested keys", f"write {nested}")
        elif twice:
            found = f"the key twice, at lines {self.lines[path]} and {line}"
            self._refuse(path, line, found, "it once", "delete one of them")
        else:
            return True
        return False

    def _refuse(self, path: KeyPath, line: int, found: str, wanted: str, remedy: str) -> None:
        self.problems.append(
            Problem(path=path, line=line, found=found, wanted=wanted, remedy=remedy)
        )
        if len(self.problems) > LIMIT_PROBLEMS:  # Not worth the seconds that the rest would take.
            raise Document(name=self.name, values={}).error(self.problems)

    def _stop(self, line: int, found: str, wanted: str, remedy: str) -> NoReturn:
        self._refuse((), line, found, wanted, remedy)
        raise Document(name=self.name, values={}).error(self.problems)

    def _stop_at(self, error: yaml.MarkedYAMLError) -> NoReturn:
        mark = error.problem_mark or error.context_mark
        line = 1 if mark is None else mark.line + 1
        lines = self.text.split("\n")
        before = lines[line - 1] if line <= len(lines) else ""
        if "\t" in before[: len(before) - len(before.lstrip())] or "'\\t'" in (error.problem or ""):
            self._stop(line, "a tab before the text", "spaces", "replace the tab by spaces")
        reason = " ".join(filter(None, (error.context, error.problem)))
        wanted = "'key: value' lines indented by spaces"
        self._stop(line, f"text that is not YAML ({reason})", wanted, "mend this line or the last")


def _line(event: on.Event) -> int:
    return 1 if event.start_mark is None else event.start_mark.line + 1
