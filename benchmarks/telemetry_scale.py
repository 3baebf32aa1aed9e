"""A million steps of telemetry: what an append costs early and late, file sizes, reading them.

python benchmarks/telemetry_scale.py [--steps 1000000]
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from pytest_mltrainer.training.observation.digests import DIGEST, DIGESTS_FILE, read_digests
from pytest_mltrainer.training.observation.telemetry import (
    BLOCK_STEPS,
    STEP,
    STEPS_FILE,
    TelemetryWriter,
    read_steps,
)


def append_blocks(folder: Path, steps: int) -> list[float]:
    """Append records of `steps` steps as a training does; microseconds of each block."""
    writer = TelemetryWriter(folder)
    draw = np.random.default_rng(0)
    rows = np.zeros(BLOCK_STEPS, STEP)
    times = []
    with (folder / DIGESTS_FILE).open("ab") as digests:
        for start in range(0, steps, BLOCK_STEPS):
            rows["step"] = np.arange(start, start + BLOCK_STEPS)
            rows["loss"] = draw.random(BLOCK_STEPS)
            before = time.perf_counter()
            writer.append_steps(rows)
            times.append((time.perf_counter() - before) * 1e6)
            digests.write(np.zeros(BLOCK_STEPS, DIGEST).tobytes())
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000_000)
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        times = append_blocks(folder, steps)
        tenth = len(times) // 10
        early, late = statistics.median(times[:tenth]), statistics.median(times[-tenth:])
        print(f"append of {BLOCK_STEPS} steps: {early:.0f} us early, {late:.0f} us late")
        for path, read in ((STEPS_FILE, read_steps), (DIGESTS_FILE, read_digests)):
            size = (folder / path).stat().st_size / 1e6
            before = time.perf_counter()
            read(folder / path)
            print(f"{path}: {size:.0f} MB, read in {time.perf_counter() - before:.2f} s")


if __name__ == "__main__":
    main()
