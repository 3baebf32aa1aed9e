"""A clean room holds what its lock pins and nothing else, and is made once."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from pytest_mltrainer.release.clean_room import (
    NotInstallable,
    Room,
    RoomUnavailable,
    make_room,
    read_pins,
)

PIN = f"iniconfig=={version('iniconfig')}\n"


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLTRAINER_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "requirements.lock.txt"
    path.write_text(f"# what serving needs\n{PIN}")
    return path


def test_it_holds_the_pins_alone_and_is_made_once(lock: Path, tmp_path: Path) -> None:
    room = make_room(lock, timeout_s=300)
    packages, importable = room.contents(["iniconfig", "pytest", "torch", "pip"], tmp_path)
    assert packages == room.pins == {"iniconfig": version("iniconfig")}
    assert importable == ["iniconfig"]
    made = room.python.lstat().st_mtime_ns
    assert make_room(lock, timeout_s=300).python.lstat().st_mtime_ns == made


def test_a_room_that_was_left_half_made_is_made_anew(lock: Path, tmp_path: Path) -> None:
    room = make_room(lock, timeout_s=300)
    (room.python.parents[1] / "complete.json").unlink()
    for path in room.python.parents[1].glob("lib/*/site-packages/iniconfig/*.py"):
        path.unlink()
    packages, importable = make_room(lock, timeout_s=300).contents(["iniconfig"], tmp_path)
    assert (packages, importable) == (room.pins, ["iniconfig"])


def test_variables_of_the_user_do_not_reach_it(
    lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "training.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    room = make_room(lock, timeout_s=300)
    assert room.contents(["training"], tmp_path)[1] == []


def test_a_service_that_breaks_is_not_ok(lock: Path, tmp_path: Path) -> None:
    room = make_room(lock, timeout_s=300)
    answers = {
        "import numpy": "No module named 'numpy'",
        "print('[1]')": None,
        "print('{\"ok\": true}'); raise SystemExit(1)": None,
        "": "no answer",
    }
    for source, error in answers.items():
        (tmp_path / "serve.py").write_text(source)
        said = room.serve(tmp_path, "--health")
        assert said["ok"] is False
        assert error is None or error in said["error"]


def test_a_version_that_no_index_has_is_a_fault_of_the_lock(lock: Path) -> None:
    lock.write_text("iniconfig==0.0.999\n")
    with pytest.raises(NotInstallable, match=r"iniconfig==0\.0\.999"):
        make_room(lock, timeout_s=300)


def test_no_index_is_no_fault_of_the_lock(lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(RoomUnavailable, match="neither an index nor wheels"):
        make_room(lock, timeout_s=300)


def test_a_room_that_takes_too_long_is_not_there(lock: Path) -> None:
    with pytest.raises(RoomUnavailable, match=r"release\.clean_room_minutes"):
        make_room(lock, timeout_s=0.0)


@pytest.mark.parametrize("line", ["numpy", "numpy>=1", "numpy==1.0 ; extra", "-e .", "--index x"])
def test_a_lock_has_exact_pins_alone(line: str) -> None:
    with pytest.raises(NotInstallable, match="wanted name==version"):
        read_pins(f"{PIN}{line}\n")


def test_a_lock_pins_something() -> None:
    with pytest.raises(NotInstallable, match="pins nothing"):
        read_pins("# nothing\n\n")


def test_names_are_compared_as_installers_do() -> None:
    assert read_pins("Typing_Extensions==4.0\n") == {"typing-extensions": "4.0"}


def test_a_local_part_of_a_version_is_left_out_as_in_the_lock(tmp_path: Path) -> None:
    """PyTorch's wheels for one kind of machine are 2.13.0+cpu, in no index under that name."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path)], check=True)
    (site,) = tmp_path.glob("lib/python*/site-packages")
    (site / "torch-2.13.0+cpu.dist-info").mkdir()
    (site / "torch-2.13.0+cpu.dist-info/METADATA").write_text("Name: torch\nVersion: 2.13.0+cpu\n")
    room = Room(python=tmp_path / "bin" / "python", pins={"torch": "2.13.0"})
    assert room.contents([], tmp_path) == (room.pins, [])
