"""The environment that trained, captured so that it can be made again; secrets redacted."""

import json
import os
import platform
import re
import resource
import sys
from collections.abc import Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

import torch

LOCK_FILE = "requirements.lock.txt"
RECORDED_VARIABLES = re.compile(r"^(PYTHON|CUDA|CUBLAS|NCCL|OMP|MKL|OPENBLAS|TORCH|PYTORCH)")
_SECRET_NAME = re.compile(
    r"(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|AUTH|PRIVATE|_(KEY|PASS|PWD)(_|$))", re.I
)
# Up to the last @ of the host part: people write passwords that hold one.
URL_CREDENTIALS = re.compile(r"(?<=://)[^/\s]+@")


def capture_environment(device: torch.device) -> dict[str, Any]:
    """Python, packages, system, threads, device, and allow-listed variables; secrets redacted."""
    return {
        "python": sys.version.split()[0],
        "implementation": platform.python_implementation(),
        "system": platform.platform(),
        "machine": platform.machine(),
        "cpu": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version() if torch.cuda.is_available() else None,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "precision": {
            "float32_matmul": torch.get_float32_matmul_precision(),
            "mkldnn": torch.backends.mkldnn.enabled,
        },
        "packages": {
            str(entry.metadata["Name"]): entry.version
            for entry in distributions()
            if entry.metadata["Name"]
        },
        "origins": {
            str(entry.metadata["Name"]): origin
            for entry in distributions()
            if entry.metadata["Name"] and (origin := _origin(entry))
        },
        "variables": {
            name: redact(name, value)
            for name, value in sorted(os.environ.items())
            if RECORDED_VARIABLES.match(name)
        },
    }


def lock_of(environment: Mapping[str, Any]) -> str:
    """The captured packages as a requirements file that `pip install -r` makes them from again.

    What came from a repository is pinned to its commit. What was installed from a folder or a
    file cannot be had elsewhere: it stands there as a comment, for a person.
    """
    lines = [f"# Python {environment['python']} on {environment['system']}"]
    for name, version in sorted(
        environment["packages"].items(), key=lambda entry: entry[0].lower()
    ):
        origin = environment["origins"].get(name, "")
        if origin.startswith("file:"):
            lines.append(f"# {name}=={version} was installed from {origin}")
        else:
            lines.append(f"{name} @ {origin}" if origin else f"{name}=={version}")
    return "\n".join(lines) + "\n"


def _origin(entry: Distribution) -> str:
    """Where a distribution came from if it was no index: PEP 610's record, as pip takes it."""
    try:
        direct = json.loads(entry.read_text("direct_url.json") or "{}")
        url = URL_CREDENTIALS.sub("***@", direct.get("url", ""))
        vcs = direct.get("vcs_info")
        return f"{vcs['vcs']}+{url}@{vcs['commit_id']}" if vcs else url
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""


def _cpu_model() -> str:
    """The processor's name: Linux tells it in /proc/cpuinfo, others where `platform` looks."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def redact(name: str, value: str) -> str:
    """The value, or `***` where the name says that it is a secret; credentials in URLs go too."""
    return "***" if _SECRET_NAME.search(name) else URL_CREDENTIALS.sub("***@", value)


def peak_memory(device: torch.device) -> dict[str, float]:
    """Peak memory of this process so far, and of the accelerator, in MB."""
    # Linux counts in kibibytes, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = {"host_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6}
    if device.type == "cuda":
        peak["device_mb"] = torch.cuda.max_memory_allocated(device) / 1e6
    return peak
