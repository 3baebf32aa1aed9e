"""What the installed plugin costs a test run that does not use it, against bare pytest.

CPU time is noisy beyond the limit of 2 %; instructions, counted by valgrind, are not.

    python benchmarks/plugin_unused.py [--rounds 5]
    python benchmarks/plugin_unused.py --instructions      (some ten minutes)
"""

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

TESTS = 5_000
BARE = ("-p", "no:mltrainer")


def cpu_time(folder: Path, *options: str) -> float:
    """CPU seconds of one pytest run over the folder."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        _pytest(options),
        cwd=folder,
        check=True,
        capture_output=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def instructions(folder: Path, *options: str) -> int:
    """Instructions of one pytest run over the folder, counted by valgrind's cachegrind."""
    counting = [
        "valgrind",
        "--tool=cachegrind",
        "--cache-sim=no",
        "--cachegrind-out-file=/dev/null",
    ]
    run = subprocess.run(
        [*counting, *_pytest(options)],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": "0"},
    )
    counted = re.search(r"I\s+refs:\s+([\d,]+)", run.stderr)
    assert counted, run.stderr
    return int(counted[1].replace(",", ""))


def _pytest(options: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "."]


def import_ms() -> float:
    """Milliseconds that importing the plugin adds to a process that has pytest already."""
    code = (
        "import pytest, time; start = time.perf_counter(); import pytest_mltrainer.plugin; "
        "print((time.perf_counter() - start) * 1e3)"
    )
    times = [float(subprocess.check_output([sys.executable, "-P", "-c", code])) for _ in range(7)]
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--instructions", action="store_true")
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in range(10):
            source = "\n".join(f"def test_{i}(): pass" for i in range(TESTS // 10))
            (folder / f"test_part_{part}.py").write_text(source)
        if parsed.instructions:
            ratio = instructions(folder) / instructions(folder, *BARE)
            print(f"{TESTS} tests, plugin unused: {ratio:.4f} x the instructions of bare pytest")
            return
        cpu_time(folder)
        ratios = []
        for _ in range(parsed.rounds):
            bare = cpu_time(folder, *BARE)
            with_plugin = cpu_time(folder)
            bare_again = cpu_time(folder, *BARE)
            ratios.append(2 * with_plugin / (bare + bare_again))
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
    print(f"{TESTS} tests, plugin unused: {statistics.median(ratios):.3f} x bare ({spread})")
    print(f"importing the plugin: {import_ms():.1f} ms")


if __name__ == "__main__":
    main()
