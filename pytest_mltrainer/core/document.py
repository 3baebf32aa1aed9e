"""Values with the lines they came from, and the problems that were found in them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_mltrainer.core.errors import ConfigError

KeyPath = tuple[str | int, ...]

LIMIT_PROBLEMS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One mistake: where it stands, what was found, what was wanted, what to do."""

    path: KeyPath = ()
    line: int | None = None
    found: str
    wanted: str
    remedy: str

    def sentence(self, name: str) -> str:
        """`training_config.yaml:14 training.epochs: found 0 (whole number), wanted ...: ...`."""
        where = name if self.line is None else f"{name}:{self.line}"
        key = f" {dotted(self.path)}" if self.path else ""
        return f"{where}{key}: found {self.found}, wanted {self.wanted}: {self.remedy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """The plain values of a file, the line of each key and list item, and what must be mended.

    The values are fit for use only when `problems` is empty and a schema has accepted them:
    `.nan` and `.inf` are kept, so that the schema can name the range that was wanted.
    """

    name: str
    values: Mapping[str, Any]
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    def line_of(self, path: KeyPath) -> int | None:
        """The line of the key, or of the nearest key above it; None when it came from no file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path)

    def error(self, problems: list[Problem]) -> ConfigError:
        """All problems as one error, in the order of the file, cut after 50 (and says so)."""
        ordered = sorted(problems, key=lambda problem: problem.line or 0)
        sentences = [problem.sentence(self.name) for problem in ordered[:LIMIT_PROBLEMS]]
        if len(ordered) > LIMIT_PROBLEMS:
            sentences.append(f"{self.name}: found more problems: mend these first")
        return ConfigError(sentences)


def dotted(path: KeyPath) -> str:
    """`('export', 'formats', 0)` as `export.formats[0]`."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).removeprefix(".")
