"""What only people know for a technical documentation: one file with a section for each point."""

import re
from dataclasses import dataclass
from pathlib import Path

from pytest_mltrainer.documents.compare import placeholders
from pytest_mltrainer.documents.markdown import Markup
from pytest_mltrainer.documents.words import read_words

TECHNICAL_WORDS = "docs/model/eu_ai_act.md"
TECHNICAL_TOPICS = (
    "Provider and versions",
    "Surroundings",
    "Design",
    "Data",
    "Human oversight",
    "Pre-determined changes",
    "Groups of persons",
    "Cybersecurity",
    "Logging",
    "Risks",
    "Metrics",
    "Changes",
    "Standards",
    "Declaration of conformity",
    "Post-market monitoring",
)
# Other headings of that level are the provider's own, and part of what a section says.
_SECTION = re.compile(
    rf"^##[ \t]+({'|'.join(map(re.escape, TECHNICAL_TOPICS))})[ \t]*$",
    re.MULTILINE | re.IGNORECASE,
)
_HEADING = re.compile(r"^(#{1,4})(?=[ \t])", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class TechnicalWords:
    """The texts by section; an empty one where the file or the section says nothing."""

    texts: dict[str, str]

    @classmethod
    def read(cls, root: Path) -> "TechnicalWords":
        """The words of a project. Raises StorageError for a file that is no UTF-8 text."""
        # What stands before the first heading belongs to no section.
        _, *parts = _SECTION.split(read_words(root / TECHNICAL_WORDS))
        found = {
            heading.casefold(): text.strip()
            for heading, text in zip(parts[::2], parts[1::2], strict=True)
        }
        return cls(texts={topic: found.get(topic.casefold(), "") for topic in TECHNICAL_TOPICS})

    def quote(self, topic: str) -> Markup:
        """The text of a section, its headings below those of a document's points."""
        text = self.texts[topic]
        if not text:
            return Markup(f"`{TECHNICAL_WORDS}` says nothing of: {topic}.")
        return Markup(_HEADING.sub(r"\1##", text))

    def unfilled(self) -> list[str]:
        """Sections that say nothing, and placeholders that nobody has replaced, in words."""
        problems = []
        for topic, text in self.texts.items():
            where = f"{TECHNICAL_WORDS}, section {topic},"
            if not text:
                problems.append(f"{where} says nothing")
            elif found := placeholders(text):
                problems.append(f"{where} still asks {found[0].partition(': ')[2]}")
        return problems
