"""The environment that trained, captured so that it can be made again; secrets redacted."""

import os
import platform
import re
import resource
import sys
from importlib.metadata import distributions
from typing import Any

import torch

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
        "variables": {
            name: redact(name, value)
            for name, value in sorted(os.environ.items())
            if RECORDED_VARIABLES.match(name)
        },
    }


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
