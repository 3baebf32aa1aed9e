"""The lock of the environment that trained: are its lines pins, and do the pins fit each other?"""

import re
from dataclasses import dataclass, field

_LOCAL = re.compile(r"^# (\S+)==(\S+) was installed from (\S+)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentLock:
    """Versions by canonical name, where local ones came from, and lines that are no pins."""

    pins: dict[str, str]
    local: dict[str, str] = field(default_factory=dict)
    malformed: tuple[str, ...] = ()


def read_lock(text: str) -> EnvironmentLock:
    """The lock that `lock_of` wrote, or a deployment lock."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    pins: dict[str, str] = {}
    local: dict[str, str] = {}
    malformed = []
    for line in filter(None, map(str.strip, text.splitlines())):
        if found := _LOCAL.match(line):
            pins[canonicalize_name(found[1])] = found[2]
            local[canonicalize_name(found[1])] = found[3]
        if line.startswith("#"):
            continue
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            malformed.append(line)
            continue
        exact = [part.version for part in requirement.specifier if part.operator == "=="]
        if requirement.url:
            # Pinned by its commit; which version that is, only the environment says.
            pins[canonicalize_name(requirement.name)] = ""
        elif len(exact) == 1 and len(requirement.specifier) == 1 and "*" not in exact[0]:
            pins[canonicalize_name(requirement.name)] = exact[0]
        else:
            malformed.append(line)
    return EnvironmentLock(pins=pins, local=local, malformed=tuple(malformed))


def conflicts(lock: EnvironmentLock) -> tuple[list[str], list[str]]:
    """What the pinned packages require and the lock does not give, and those that say nothing here.

    A package says what it requires in its metadata, which is read where this very version is
    installed: the resolver's question, asked without an index.
    """
    from importlib.metadata import PackageNotFoundError, distribution

    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found, silent = [], []
    for name, version in lock.pins.items():
        try:
            package = distribution(name)
        except PackageNotFoundError:
            package = None
        if package is None or (version and package.version != version):
            silent.append(name)
            continue
        for text in package.requires or ():
            wanted = Requirement(text)
            if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
                continue
            given = lock.pins.get(canonicalize_name(wanted.name))
            if given is None:
                found.append(f"{name} {version} needs {wanted.name}, which is not pinned")
            elif given and not wanted.specifier.contains(given, prereleases=True):
                found.append(f"{name} {version} needs {wanted.name}{wanted.specifier}, not {given}")
    return found, silent
