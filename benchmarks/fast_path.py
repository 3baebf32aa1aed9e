"""The fast path of the example project, then the same again unchanged: seconds, and what was done.

python benchmarks/fast_path.py
"""

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

EXAMPLE = Path(__file__).parent.parent / "example_project"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "example"
        shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".*", "__pycache__"))
        for title in ("first run", "unchanged"):
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-P", "-m", "pytest", "--phase=finalization"],
                cwd=folder, capture_output=True, text=True, check=False,
            )  # fmt: skip
            seconds = time.perf_counter() - start
            trained = done.stdout.count(" epoch ")
            print(f"{title}: {seconds:.1f} s, {trained} epochs, exit status {done.returncode}")


if __name__ == "__main__":
    main()
