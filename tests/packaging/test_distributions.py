"""What is built holds what is in the repository, and what is tested is what was built."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from built_distributions import FILES, FOLDERS, Distributions

PACKAGES = (
    "pytest_mltrainer",
    "pytest_mltrainer.diagnostics",
    "pytest_mltrainer.gates",
    "pytest_mltrainer.phases",
)


@pytest.fixture(scope="module")
def setuptools_table(repository: Path) -> dict[str, Any]:
    pyproject = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    table: dict[str, Any] = pyproject["tool"]["setuptools"]
    return table


def test_listed_packages_are_the_folders(
    repository: Path, setuptools_table: dict[str, Any]
) -> None:
    folders = {
        installed_name(init.parent.relative_to(repository))
        for top in FOLDERS
        for init in (repository / top).rglob("__init__.py")
    }
    assert sorted(setuptools_table["packages"]) == sorted(folders)


def test_each_mapped_package_has_its_own_entry(
    repository: Path, setuptools_table: dict[str, Any]
) -> None:
    wanted = {
        package: folder
        for package in setuptools_table["packages"]
        if (folder := package.removeprefix("pytest_mltrainer.").replace(".", "/"))
        and folder.split("/")[0] in FOLDERS
        and package != "pytest_mltrainer"
    }
    assert setuptools_table["package-dir"] == wanted
    assert all((repository / folder / "__init__.py").is_file() for folder in wanted.values())


def test_the_wheel_holds_every_file(distributions: Distributions) -> None:
    wanted = {
        installed_path(path.relative_to(distributions.source)): path.read_bytes()
        for top in FOLDERS
        for path in (distributions.source / top).rglob("*")
        if path.is_file()
    }
    assert {"pytest_mltrainer/py.typed", "pytest_mltrainer/phases/__init__.py"} <= wanted.keys()
    found = {
        name: content
        for name, content in contents(distributions.wheel).items()
        if ".dist-info/" not in name
    }
    assert sorted(found) == sorted(wanted)
    assert found == wanted


def test_the_sdist_builds_the_same_wheel(distributions: Distributions) -> None:
    assert contents(distributions.wheel_of_sdist) == contents(distributions.wheel)


def test_the_sdist_holds_what_a_builder_needs(distributions: Distributions) -> None:
    with tarfile.open(distributions.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= set(FILES)


def test_the_installed_wheel_is_what_is_tested() -> None:
    if os.environ.get("MLTRAINER_EXPECT_WHEEL") != "1":
        pytest.skip("asked for by MLTRAINER_EXPECT_WHEEL=1, which tox sets")
    installed = Path(sysconfig.get_path("purelib")).resolve()
    specs = [find_spec(name) for name in PACKAGES]
    origins = [Path(spec.origin) for spec in specs if spec and spec.origin]
    assert len(origins) == len(PACKAGES)
    assert [path for path in origins if not path.resolve().is_relative_to(installed)] == []


def test_a_new_process_imports_the_same_package() -> None:
    shown = subprocess.run(
        [sys.executable, "-c", "import pytest_mltrainer; print(pytest_mltrainer.__file__)"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    spec = find_spec("pytest_mltrainer")
    assert spec is not None
    assert shown.strip() == spec.origin


def installed_path(path: Path) -> str:
    """Where a file of the repository lies in the wheel."""
    mapped = path.parts[0] != "pytest_mltrainer"
    return (Path("pytest_mltrainer", path) if mapped else path).as_posix()


def installed_name(folder: Path) -> str:
    return installed_path(folder).replace("/", ".")


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/")}
