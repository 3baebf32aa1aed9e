"""The profile of the data before training: seconds and peak memory beside the size of the data.

python benchmarks/preflight.py [rows columns]
"""

import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

from pytest_mltrainer import Splits, Task
from pytest_mltrainer.training.data.profile import profile_data

CASES = ("digits", "100000 100")
PAGE_MB = 4096 / 2**20


class Classes(Task):
    """Nothing but its kind is needed here."""


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_MB


def splits_of(x: torch.Tensor, y: torch.Tensor) -> Splits:
    def part(low: float, high: float) -> TensorDataset:
        rows = slice(int(low * len(x)), int(high * len(x)))
        return TensorDataset(x[rows], y[rows])

    return Splits(train=part(0, 0.6), validation=part(0.6, 0.8), test=part(0.8, 1))


def data(case: str) -> Splits:
    if case == "digits":
        digits = load_digits()
        return splits_of(torch.tensor(digits.images / 16).float(), torch.tensor(digits.target))
    rows, columns = map(int, case.split())
    draw = np.random.default_rng(0)
    x = draw.standard_normal((rows, columns), dtype=np.float32)
    y = (x[:, :5].sum(axis=1) > 0).astype(np.int64)
    return splits_of(torch.from_numpy(x), torch.from_numpy(y))


def measure(case: str) -> None:
    splits = data(case)
    # What is imported on first use is no part of the data's memory.
    profile_data(Classes(), data("digits"))
    size = sum(
        tensor.numel() * tensor.element_size() / 2**20
        for split in (splits.train, splits.validation, splits.test)
        if isinstance(split, TensorDataset)
        for tensor in split.tensors[:1]
    )
    before, peak, done = resident_mb(), [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], resident_mb())

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    _, profile = profile_data(Classes(), splits)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
    sampled = {name: part["sampled"] for name, part in profile["splits"].items()}
    print(
        f"{case}: {seconds:.1f} s, {peak[0] - before:.0f} MB above {size:.0f} MB of data, "
        f"read {sampled}"
    )


def main() -> None:
    if len(sys.argv) > 1:
        measure(" ".join(sys.argv[1:]))
        return
    for case in CASES:
        subprocess.run([sys.executable, __file__, *case.split()], check=True)


if __name__ == "__main__":
    main()
