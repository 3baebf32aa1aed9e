"""The deployment lock: the packages that serving needs, in the versions of this environment."""

from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution

RUNTIMES = {"onnx": ("numpy", "onnxruntime")}
"""What each format is served with; every other one needs torch."""


def deployment_lock(formats: Iterable[str]) -> str:
    """`requirements.lock.txt`: the runtimes of the formats and all that they require, pinned.

    A local part of a version (`+cpu`) is left out: no index has it.
    """
    wanted = {name for form in formats for name in RUNTIMES.get(form, ("numpy", "torch"))}
    pinned = dict(_closure(wanted))
    lines = [f"{name}=={version}" for name, version in sorted(pinned.items())]
    return "\n".join(lines) + "\n"


def _closure(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The packages and what they require here, as far as it is installed."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    waiting, seen = list(names), set()
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in seen:
            continue
        seen.add(name)
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        yield name, found.version.partition("+")[0]
        for text in found.requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
