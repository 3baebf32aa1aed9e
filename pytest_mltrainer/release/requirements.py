"""What installed packages say of themselves: which others they require, under which licence."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from typing import Any

CLASSIFIER, NO_NAME = "License :: ", "License :: OSI Approved"


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """One package that is installed here, and the canonical names of those that it requires."""

    distribution: Distribution
    requires: set[str] = field(default_factory=set)

    @property
    def version(self) -> str:
        """The version without its local part (`+cpu`): no index has it."""
        return self.distribution.version.partition("+")[0]


def closure(names: Iterable[str]) -> dict[str, Installed]:
    """The packages and all that they require, by canonical name, as far as it is installed.

    Extras that a requirement asks for (`uvicorn[standard]`) bring what they require.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found: dict[str, Installed] = {}
    waiting: list[tuple[str, frozenset[str]]] = [(canonicalize_name(n), frozenset()) for n in names]
    seen = set(waiting)
    while waiting:
        name, extras = waiting.pop()
        try:
            package = found.setdefault(name, Installed(distribution=distribution(name)))
        except PackageNotFoundError:
            continue
        for requirement in map(Requirement, package.distribution.requires or ()):
            if not _applies(requirement.marker, extras):
                continue
            wanted = (canonicalize_name(requirement.name), frozenset(requirement.extras))
            package.requires.add(wanted[0])
            if wanted not in seen:
                seen.add(wanted)
                waiting.append(wanted)
    return found


def installed(name: str, version: str) -> Distribution | None:
    """The package if this very version of it is installed here."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return None
    return found if found.version.partition("+")[0] == version else None


def licences(package: Distribution) -> list[dict[str, Any]]:
    """The licence that the metadata state, as CycloneDX writes it; empty where they state none.

    `License-Expression` (PEP 639) is an expression of SPDX. Older metadata have a line of free text
    or classifiers: their words are passed on as a name, nothing is made an SPDX id of. A whole
    licence in the place of its name is no name.
    """
    metadata = package.metadata
    if "License-Expression" in metadata:
        return [{"expression": metadata["License-Expression"]}]
    line = metadata["License"].strip() if "License" in metadata else ""
    if line and line != "UNKNOWN" and "\n" not in line:
        return [{"license": {"name": line}}]
    stated = {text for text in metadata.get_all("Classifier") or () if text.startswith(CLASSIFIER)}
    return [
        {"license": {"name": text.rpartition(" :: ")[2]}} for text in sorted(stated - {NO_NAME})
    ]


def graph(packages: Mapping[str, Installed], within: Collection[str]) -> dict[str, list[str]]:
    """By package, those of `within` that it requires."""
    return {
        name: sorted(packages[name].requires.intersection(within)) if name in packages else []
        for name in sorted(within)
    }


def _applies(marker: Any, extras: Iterable[str]) -> bool:
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))
