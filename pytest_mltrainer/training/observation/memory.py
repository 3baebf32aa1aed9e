"""How much memory this process holds."""

import math
import os
from pathlib import Path

import torch

MIB = 2**20


def memory_mb(device: torch.device) -> float:
    """MiB held by this process: its resident set, and with cuda what tensors hold on the device.

    NaN where the system does not tell (only Linux tells the present size).
    """
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return math.nan
    held = pages * os.sysconf("SC_PAGE_SIZE")
    if device.type == "cuda":
        held += torch.cuda.memory_allocated(device)
    return held / MIB
