"""Seeds, deterministic algorithms, generator states, and digests of tensors.

Nothing trains without a `FixedSeeds`, and only `fix_seeds` makes one, after it has really seeded
every generator.
"""

import hashlib
import os
import platform
import random
import sys
from collections.abc import Iterable, Mapping
from dataclasses import InitVar, dataclass
from functools import cache
from importlib.metadata import packages_distributions, version
from typing import Any, Self

import numpy as np
import torch

from pytest_mltrainer.core.errors import ConfigError, UnseededTrainingError
from pytest_mltrainer.core.steps import NUMERICS_VERSION

_MADE_HERE = object()

CONTROL_PLANE = frozenset(
    {"annotated-types", "filelock", "pip", "pluggy", "pydantic", "pydantic-core", "pyyaml", "rich",
     "setuptools", "typing-inspection", "pytest", "pytest-mltrainer", "hypothesis", "matplotlib",
     "iniconfig", "packaging", "pygments", "colorama", "tqdm", "typing-extensions"}
)  # fmt: skip
"""Distributions that steer or report but compute no number of a training."""


@dataclass(frozen=True, slots=True)
class FixedSeeds:
    """Proof that every generator of this process was seeded. Only `fix_seeds` can make it."""

    seed: int
    # Not a field: `dataclasses.replace` must not turn one proof into another.
    _origin: InitVar[object]

    def __post_init__(self, _origin: object) -> None:
        """Raise UnseededTrainingError unless made by `fix_seeds`."""
        if _origin is not _MADE_HERE:
            raise UnseededTrainingError("FixedSeeds cannot be made by hand: call fix_seeds(seed)")


def derive_seed(seed: int, *purpose: object) -> int:
    """An independent 63-bit seed for a purpose, the same on every machine."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def fix_seeds(seed: int) -> FixedSeeds:
    """Seed random, NumPy and torch (every device)."""
    random.seed(derive_seed(seed, "random"))
    np.random.seed(derive_seed(seed, "numpy") % 2**32)
    torch.manual_seed(derive_seed(seed, "torch"))
    return FixedSeeds(seed, _MADE_HERE)


def available_device(wanted: str) -> torch.device:
    """The device of `device:`, or the processor where this machine lacks it: enough to evaluate."""
    try:
        return choose_device(wanted)
    except ConfigError:
        return torch.device("cpu")


def make_deterministic(*, threads: int, exceptions: Iterable[str] = ()) -> None:
    """Deterministic algorithms on, cuDNN's search off, threads pinned.

    With declared exceptions an operation that has no deterministic form warns instead of raising.
    """
    # As use_deterministic_algorithms does, which imports the compiler: over a second each process.
    torch.set_deterministic_debug_mode("warn" if list(exceptions) else "error")
    os.environ["TORCHINDUCTOR_DETERMINISTIC"] = "1"
    if compiler := sys.modules.get("torch._inductor.config"):
        compiler.deterministic = True  # type: ignore[attr-defined]
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False
    torch.set_num_threads(threads)


def choose_device(wanted: str) -> torch.device:
    """The device of `device:`; `auto` is cuda, else mps, else cpu. Raises ConfigError if absent."""
    if wanted == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind = wanted.partition(":")[0]
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(kind, True):
        raise ConfigError(
            [f"training_config.yaml device: '{wanted}' is not available here: write cpu or auto"]
        )
    return torch.device(wanted)


@dataclass(frozen=True, slots=True)
class RngState:
    """The states of all generators of this process, in types that a safe load accepts."""

    python: list[Any]
    numpy: list[Any]
    torch_cpu: torch.Tensor
    accelerator: list[torch.Tensor]

    @classmethod
    def capture(cls) -> Self:
        """The states as they are now."""
        kind, internal, gauss = random.getstate()
        name, keys, position, has_gauss, cached = np.random.get_state()
        # As a tensor: pickling 625 numbers one by one takes longer than all the weights together.
        return cls(
            [kind, torch.tensor(internal, dtype=torch.int64), gauss],
            [name, torch.from_numpy(np.array(keys)), int(position), int(has_gauss), float(cached)],
            torch.get_rng_state(),
            torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        )

    def to_list(self) -> list[Any]:
        """The states as a checkpoint holds them: `RngState(*states)` makes them one again."""
        return [self.python, self.numpy, self.torch_cpu, self.accelerator]

    def restore(self) -> None:
        """Put every generator back into this state."""
        kind, internal, gauss = self.python
        random.setstate((kind, tuple(internal.tolist()), gauss))
        name, keys, *rest = self.numpy
        np.random.set_state((name, keys.numpy(), *rest))
        torch.set_rng_state(self.torch_cpu)
        if self.accelerator:
            torch.cuda.set_rng_state_all(self.accelerator)

    def digest(self) -> str:
        """sha256 over all states."""
        kind, internal, gauss = self.python
        name, keys, *rest = self.numpy
        state = hashlib.sha256(repr((kind, gauss, name, rest)).encode())
        for tensor in (internal, keys, self.torch_cpu, *self.accelerator):
            state.update(tensor.cpu().numpy().tobytes())
        return state.hexdigest()


def digest_tensor(tensor: torch.Tensor) -> str:
    """sha256 over dtype, shape and bytes."""
    plain = tensor.detach().cpu().contiguous()
    state = hashlib.sha256(f"{plain.dtype}{tuple(plain.shape)}".encode())
    state.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b"")
    return state.hexdigest()


def digest_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """sha256 over the names and digests of tensors, order-free."""
    state = hashlib.sha256()
    for name in sorted(tensors):
        state.update(f"{name}={digest_tensor(tensors[name])};".encode())
    return state.hexdigest()


def digest_nested(value: Any) -> str:
    """sha256 over any nesting of tensors, arrays, numbers and texts, such as a batch."""
    if isinstance(value, torch.Tensor):
        return digest_tensor(value)
    if isinstance(value, np.ndarray):
        return digest_tensor(torch.from_numpy(np.ascontiguousarray(value)))
    if isinstance(value, Mapping):
        parts = [f"{key}={digest_nested(value[key])}" for key in sorted(value, key=str)]
        return hashlib.sha256(b"{" + ";".join(parts).encode()).hexdigest()
    if isinstance(value, list | tuple):
        parts = [digest_nested(part) for part in value]
        return hashlib.sha256(b"[" + ";".join(parts).encode()).hexdigest()
    return hashlib.sha256(repr(value).encode()).hexdigest()


@cache
def _distributions() -> Mapping[str, list[str]]:
    return packages_distributions()


def numerics_fingerprint(device: torch.device) -> dict[str, str]:
    """What may change the bits of a training: Python, distributions, device, threads, switches."""
    kind = device.type
    fingerprint = {
        "python": ".".join(platform.python_version_tuple()[:2]),
        "machine": platform.machine(),
        "threads": str(torch.get_num_threads()),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "CPU capability": torch.backends.cpu.get_cpu_capability(),
        "oneDNN": "on" if torch.backends.mkldnn.enabled else "off",
        "autocast": str(torch.get_autocast_dtype(kind))
        if torch.is_autocast_enabled(kind)
        else "off",
        "PYTHONHASHSEED": os.environ.get("PYTHONHASHSEED", "random"),
        "pytest-mltrainer numerics": str(NUMERICS_VERSION),
    }
    roots = {name.partition(".")[0] for name in sys.modules}
    for root in roots.intersection(_distributions()):
        for name in _distributions()[root]:
            if name.lower().replace("_", "-") not in CONTROL_PLANE:
                fingerprint[name] = version(name)
    return fingerprint
