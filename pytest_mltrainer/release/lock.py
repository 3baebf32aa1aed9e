"""The deployment lock: the packages that serving needs, in the versions of this environment."""

from collections.abc import Iterable

from pytest_mltrainer.release.requirements import closure

RUNTIMES = dict.fromkeys(("onnx", "onnx_fp16", "onnx_int8"), ("numpy", "onnxruntime"))
"""What each format is served with; every other one needs torch."""


def runtimes(formats: Iterable[str]) -> set[str]:
    """The packages that load and run the formats."""
    return {name for form in formats for name in RUNTIMES.get(form, ("numpy", "torch"))}


def deployment_lock(formats: Iterable[str]) -> str:
    """`requirements.lock.txt`: the runtimes of the formats and all that they require, pinned."""
    pinned = {name: package.version for name, package in closure(runtimes(formats)).items()}
    lines = [f"{name}=={version}" for name, version in sorted(pinned.items())]
    return "\n".join(lines) + "\n"
