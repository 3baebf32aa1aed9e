"""The user's own part of the configuration, which remembers what was read from it."""

from collections.abc import Iterator, Mapping
from typing import Any

from pytest_mltrainer.core.errors import did_you_mean


class Section(Mapping[str, Any]):
    """Read-only values by key; nested mappings are Sections that record into the same set.

    A read is the look-up of a leaf by `[]`, `get` or `in`; a `get` that falls back to its default
    counts, because the run would have obeyed that key. Lists are handed out as copies. Comparing
    and `plain` read nothing. Raises KeyError that names the section and the keys it has.
    """

    __slots__ = ("_name", "_reads", "_values")

    def __init__(self, name: str, values: Mapping[str, Any]) -> None:
        """A section under the dotted `name`; `values` are copied."""
        self._name = name
        self._values: dict[str, Any] = plain(values)
        self._reads: set[str] = set()

    @property
    def reads(self) -> frozenset[str]:
        """The dotted keys that were read here or below, relative to this section."""
        prefix = f"{self._name}."
        return frozenset(key.removeprefix(prefix) for key in self._reads if key.startswith(prefix))

    def plain(self) -> dict[str, Any]:
        """A copy as ordinary dicts and lists; records nothing."""
        return dict(plain(self._values))

    def __getitem__(self, key: str) -> Any:
        """The value; a missing key is recorded too, then KeyError."""
        name = f"{self._name}.{key}"
        value = self._values.get(key)
        if isinstance(value, dict) and value:
            return self._nested(name, value)
        self._reads.add(name)
        if key not in self._values:
            there = ", ".join(self._values) or "nothing"
            raise KeyError(
                f"training_config.yaml has no '{name}'; in '{self._name}' there is {there}."
                f"{did_you_mean(str(key), self._values)}"
            )
        return plain(value)

    def __iter__(self) -> Iterator[str]:
        """The keys, in the order of the file."""
        return iter(self._values)

    def __len__(self) -> int:
        """How many keys stand directly here."""
        return len(self._values)

    def __eq__(self, other: object) -> bool:
        """Equal values; what was read does not matter."""
        if isinstance(other, Section):
            return self._values == other._values
        return self._values == other if isinstance(other, Mapping) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """For the user's debugger; reads nothing."""
        return f"Section({self._name!r}, {self._values!r})"

    def _nested(self, name: str, values: dict[str, Any]) -> "Section":
        nested = Section.__new__(Section)
        nested._name, nested._values, nested._reads = name, values, self._reads
        return nested


def flatten(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Dotted leaf keys to values. Lists are leaves, and so are empty mappings below the top."""
    flat: dict[str, Any] = {}
    for key, value in mapping.items():
        if isinstance(value, Mapping) and value:
            flat.update({f"{key}.{below}": leaf for below, leaf in flatten(value).items()})
        else:
            flat[key] = value
    return flat


def plain(value: Any) -> Any:
    """A deep copy of JSON-like values: mappings as dicts, lists and tuples as lists."""
    if isinstance(value, Section):
        return value.plain()
    if isinstance(value, Mapping):
        return {key: plain(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [plain(below) for below in value]
    return value
