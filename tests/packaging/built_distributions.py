"""The distributions of a copy of the repository."""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDERS = ("pytest_mltrainer", "diagnostics", "gates", "phases")
FILES = ("pyproject.toml", "README.md", "LICENSE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Distributions:
    source: Path
    sdist: Path
    wheel: Path
    wheel_of_sdist: Path

    @classmethod
    def in_folder(cls, shared: Path) -> "Distributions":
        (sdist,) = shared.glob("sdist/*.tar.gz")
        (wheel,) = shared.glob("wheel/*.whl")
        (wheel_of_sdist,) = shared.glob("wheel_of_sdist/*.whl")
        source = shared / "source"
        return cls(source=source, sdist=sdist, wheel=wheel, wheel_of_sdist=wheel_of_sdist)


def build_all(shared: Path) -> None:
    source = shared / "source"
    source.mkdir(parents=True)
    # A copy: setuptools writes into the folder that it builds, and reuses what an old build left.
    for folder in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(REPOSITORY / folder, source / folder, ignore=ignored)
    for name in FILES:
        shutil.copy(REPOSITORY / name, source / name)
    build(source, "--sdist", shared / "sdist")
    (sdist,) = shared.glob("sdist/*.tar.gz")
    shutil.unpack_archive(sdist, shared / "unpacked", filter="data")
    (unpacked,) = (shared / "unpacked").iterdir()
    build(unpacked, "--wheel", shared / "wheel_of_sdist")
    build(source, "--wheel", shared / "wheel")


def build(source: Path, what: str, into: Path) -> None:
    """Without isolation: setuptools is a dependency of the tests, so nothing is downloaded."""
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", what, "--outdir", into, source],
        check=True,
        stdout=subprocess.DEVNULL,
    )
