"""The environment and the source that trained, captured so that they can be made again."""

import os
import platform
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import torch

from pytest_mltrainer.core.digests import sha256_bytes
from pytest_mltrainer.core.project import Project

RECORDED_VARIABLES = re.compile(r"^(PYTHON|CUDA|CUBLAS|NCCL|OMP|MKL|OPENBLAS|TORCH|PYTORCH)")
_SECRET_NAME = re.compile(r"(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_KEY)", re.I)
_URL_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


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


def capture_source(project: Project) -> dict[str, Any]:
    """Commit, branch and patch of the project; without git it says so."""
    commit = _git(project.root, "rev-parse", "HEAD")
    if commit is None:
        return {"git": False, "reason": "no git repository, or git is not installed"}
    patch = _git(project.root, "diff", "--binary", "HEAD", "--", ".") or ""
    untracked = _git(project.root, "ls-files", "--others", "--exclude-standard", "--", ".") or ""
    remote = _git(project.root, "config", "--get", "remote.origin.url") or ""
    return {
        "git": True,
        "commit": commit.strip(),
        "branch": (_git(project.root, "rev-parse", "--abbrev-ref", "HEAD") or "").strip(),
        "remote": _URL_CREDENTIALS.sub("***@", remote.strip()),
        "patch_sha256": sha256_bytes(patch.encode()),
        "changed": bool(patch),
        "untracked": untracked.split("\n")[:-1],
    }


def redact(name: str, value: str) -> str:
    """The value, or `***` where the name says that it is a secret; credentials in URLs go too."""
    return "***" if _SECRET_NAME.search(name) else _URL_CREDENTIALS.sub("***@", value)


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
