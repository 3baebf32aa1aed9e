"""Whether a document says what its values say now: found text against recomputed text."""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import zip_longest

# A number that stands alone. Digits inside a word (a digest, a version, a date) are text.
_NUMBER = re.compile(r"((?<![\w.+-])[-+]?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?(?!\w|\.[0-9]))")
_HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*#*\s*$")
_FENCE = re.compile(r"^\s*(`{3,}|~{3,})")
_TAGS = (
    "a|b|blockquote|br|code|dd|details|div|dl|dt|em|h[1-6]|hr|i|img|kbd|li|ol|p|pre|s|small|span|"
    "strong|sub|summary|sup|table|tbody|td|th|thead|tr|ul"
)
_PLACEHOLDER = re.compile(
    r"\b(?:TODO|TBD|FIXME|XXX)\b|\{\{[^{}]*\}\}|\?\?\?|(?i:\blorem ipsum\b)"
    rf"|(?<!\w)<(?!(?:{_TAGS})\b|https?:|mailto:)(?:\.\.\.|…|[A-Za-z][^<>]*)>"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One line of the found document that is not the recomputed one."""

    line: int
    section: str
    found: str
    recomputed: str

    def text(self) -> str:
        """`line 12 (Metrics): found '0.91', recomputed '0.93'`."""
        where = f"line {self.line} ({self.section})" if self.section else f"line {self.line}"
        return f"{where}: found {self.found!r}, recomputed {self.recomputed!r}"


def differences(
    found: str, recomputed: str, relative: float = 1e-6, absolute: float = 0.0
) -> list[Difference]:
    """Every line in which the two documents differ; empty when they say the same.

    Text is compared exactly. Numbers that stand alone may differ by `relative` of the larger or by
    `absolute`; whole numbers only by `absolute`, since a count has no rounding error. With both
    at 0 a number must be written alike. A line that one side lacks is an empty text there; `line`
    and `section` are those of the found document.
    """
    here, there = found.split("\n"), recomputed.split("\n")
    sections = _sections(here)
    return [
        Difference(
            line=index + 1,
            section=sections[min(index, len(sections) - 1)],
            found=one or "",
            recomputed=other or "",
        )
        for index, one, other in _aligned(here, there)
        if one is None or other is None or not _same_line(one, other, relative, absolute)
    ]


def missing_sections(text: str, wanted: Iterable[str]) -> list[str]:
    """The wanted headings that the document lacks or that have nothing under them.

    Case and the level of the heading are free; a subsection counts as content.
    """
    lines = text.split("\n")
    headings = list(_headings(lines))
    filled = set()
    for place, (index, level, heading) in enumerate(headings):
        following = headings[place + 1 :]
        end = next((other for other, depth, _ in following if depth <= level), len(lines))
        if any(line.strip() for line in lines[index + 1 : end]):
            filled.add(heading.casefold())
    return [heading for heading in wanted if heading.casefold() not in filled]


def placeholders(text: str) -> list[str]:
    """`line 3: TODO` for each TODO, TBD, FIXME, XXX, ???, {{...}}, <...> and lorem ipsum.

    HTML tags and links in angle brackets are none.
    """
    return [
        f"line {number}: {match.group()}"
        for number, line in enumerate(text.split("\n"), start=1)
        for match in _PLACEHOLDER.finditer(line)
    ]


def _aligned(
    here: Sequence[str], there: Sequence[str]
) -> Iterator[tuple[int, str | None, str | None]]:
    """Pairs of lines with the index of the found one; None where one side has no such line."""
    if len(here) == len(there):
        yield from ((index, *pair) for index, pair in enumerate(zip(here, there, strict=True)))
        return
    # By their words: a changed number is no reason to lose the alignment.
    words, others = ([_NUMBER.sub("0", line) for line in lines] for lines in (here, there))
    for _, a, b, c, d in difflib.SequenceMatcher(None, words, others, autojunk=False).get_opcodes():
        for offset, (one, other) in enumerate(zip_longest(here[a:b], there[c:d])):
            yield a + offset, one, other


def _same_line(one: str, other: str, relative: float, absolute: float) -> bool:
    if one == other:
        return True
    # With one group in the pattern, every second part is a number.
    parts, wanted = _NUMBER.split(one), _NUMBER.split(other)
    if len(parts) != len(wanted) or parts[::2] != wanted[::2]:
        return False
    pairs = zip(parts[1::2], wanted[1::2], strict=True)
    return all(_same_number(a, b, relative, absolute) for a, b in pairs)


def _same_number(one: str, other: str, relative: float, absolute: float) -> bool:
    if one == other:
        return True
    if one.lstrip("+-").isdigit() and other.lstrip("+-").isdigit():
        relative = 0.0
    try:
        # Decimal, because floats merge 1e-400 with 2e-400 and 1e400 with 2e400.
        a, b = Decimal(one), Decimal(other)
        allowed = max(Decimal(relative) * max(abs(a), abs(b)), Decimal(absolute))
        return allowed > 0 and abs(a - b) <= allowed
    except ArithmeticError:
        return False


def _headings(lines: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Index, level and text of each heading; a comment in a code block is none."""
    fence = ""
    for index, line in enumerate(lines):
        mark = _FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
        elif mark:
            fence = mark[1]
        elif heading := _HEADING.match(line):
            yield index, len(heading[1]), heading[2]


def _sections(lines: Sequence[str]) -> list[str]:
    """The heading above each line, itself included; empty before the first."""
    named = {index: heading for index, _, heading in _headings(lines)}
    current, sections = "", []
    for index in range(len(lines)):
        current = named.get(index, current)
        sections.append(current)
    return sections
