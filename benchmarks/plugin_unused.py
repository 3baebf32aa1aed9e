"""What the installed plugin costs a test run that does not use it: CPU time against bare pytest.

python benchmarks/plugin_unused.py [--rounds 5]
"""

import argparse
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
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, "."],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


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
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in range(10):
            source = "\n".join(f"def test_{i}(): pass" for i in range(TESTS // 10))
            (folder / f"test_part_{part}.py").write_text(source)
        cpu_time(folder)
        ratios = []
        for _ in range(rounds):
            bare = cpu_time(folder, *BARE)
            with_plugin = cpu_time(folder)
            bare_again = cpu_time(folder, *BARE)
            ratios.append(2 * with_plugin / (bare + bare_again))
    spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
    print(f"{TESTS} tests, plugin unused: {statistics.median(ratios):.3f} x bare ({spread})")
    print(f"importing the plugin: {import_ms():.1f} ms")


if __name__ == "__main__":
    main()
