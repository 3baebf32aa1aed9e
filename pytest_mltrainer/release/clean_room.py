"""A virtual environment with nothing but the deployment lock, and the final model served in it."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from filelock import FileLock

from pytest_mltrainer.core import files
from pytest_mltrainer.core.digests import sha256_bytes
from pytest_mltrainer.core.errors import UserError

CACHE_VARIABLE = "MLTRAINER_CACHE"
LOCK = "requirements.lock.txt"
SERVICE = "serve.py"
COMPLETE = "complete.json"
SERVE_TIMEOUT_S = 120.0
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;]+)$")
_INSIDE = """
import importlib.metadata, importlib.util, json, sys
packages = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
there = [name for name in sys.argv[1:] if importlib.util.find_spec(name)]
print(json.dumps({"packages": packages, "importable": there}))
"""


class RoomUnavailable(UserError):
    """The room cannot be made here, whatever the lock says: no index and no wheels, no time."""


class NotInstallable(UserError):
    """The lock cannot be installed; the text is the installer's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """A virtual environment made from a lock."""

    python: Path
    pins: dict[str, str]

    def run(self, arguments: Sequence[str], folder: Path) -> "subprocess.CompletedProcess[str]":
        """Run its Python in a folder, deaf to variables and packages of the user.

        Raises UserError when it has not ended after two minutes.
        """
        try:
            return subprocess.run(
                [str(self.python), "-E", "-s", "-B", *arguments],
                cwd=folder,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=SERVE_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise UserError(
                f"{arguments[0]} in {folder} has not ended after {SERVE_TIMEOUT_S:.0f} s"
            ) from error

    def serve(self, folder: Path, *arguments: str) -> dict[str, Any]:
        """What `serve.py ARGUMENTS` of a model's folder answers; `ok` is false when it breaks."""
        done = self.run([SERVICE, *arguments], folder)
        try:
            said = json.loads(done.stdout)
        except ValueError:
            lines = (done.stderr or done.stdout).strip().splitlines()
            return {"ok": False, "error": (lines or ["no answer"])[-1][:300]}
        is_ok = isinstance(said, dict) and said.get("ok") is True and not done.returncode
        return {**(said if isinstance(said, dict) else {}), "ok": is_ok}

    def contents(self, modules: Iterable[str], folder: Path) -> tuple[dict[str, str], list[str]]:
        """The installed packages by canonical name, and which of `modules` can be imported.

        A local part of a version (`+cpu`) is left out, as it is in the lock.
        """
        # -P: the files that are served are no packages of the room.
        done = self.run(["-P", "-c", _INSIDE, *modules], folder)
        if done.returncode:
            raise RoomUnavailable(f"{self.python} does not run: {done.stderr.strip()[-300:]}")
        found = json.loads(done.stdout)
        installed = {_canonical(k): v.partition("+")[0] for k, v in found["packages"].items()}
        return installed, found["importable"]


def make_room(lock: Path, *, timeout_s: float) -> Room:
    """The room of a lock, from the cache where it was made before.

    It holds the pinned packages alone, without an installer. Wheels come from where pip is
    configured to look. Raises RoomUnavailable where there is nowhere to install from, and
    NotInstallable for a lock that is malformed or names what does not exist.
    """
    try:
        content = lock.read_bytes()
    except OSError as error:
        raise NotInstallable(f"{lock}: not readable ({error.strerror})") from error
    pins = read_pins(content.decode(errors="replace"))
    version = "{}.{}".format(*sys.version_info)
    name = f"python{version}-{sha256_bytes(content)[:16]}"
    folder = rooms_folder() / name
    room = Room(python=folder / "bin" / "python", pins=pins)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not (folder / COMPLETE).is_file():
                _build(folder, lock, timeout_s)
                files.write_json(folder / COMPLETE, {"lock": sha256_bytes(content), "pins": pins})
    except OSError as error:
        raise RoomUnavailable(f"{folder}: no virtual environment can be made ({error})") from error
    return room


def read_pins(text: str) -> dict[str, str]:
    """Canonical names and versions of a lock. Raises NotInstallable unless all are exact pins."""
    lines = [line.strip() for line in text.splitlines()]
    wanted = [line for line in lines if line and not line.startswith("#")]
    found = {line: _PIN.match(line) for line in wanted}
    if bad := [line for line, match in found.items() if match is None]:
        raise NotInstallable(f"{LOCK}: found '{bad[0][:100]}', wanted name==version on each line")
    pins = {_canonical(match[1]): match[2] for match in found.values() if match}
    if not pins:
        raise NotInstallable(f"{LOCK}: it pins nothing, wanted what serving needs")
    return pins


def rooms_folder() -> Path:
    """Where rooms are kept: below `MLTRAINER_CACHE`, else below the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(CACHE_VARIABLE) or Path(home) / "pytest-mltrainer") / "rooms"


def _build(folder: Path, lock: Path, timeout_s: float) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    deadline = time.monotonic() + timeout_s
    with_pip = find_spec("pip") is None
    options = [] if with_pip else ["--without-pip"]
    _command([sys.executable, "-m", "venv", *options, str(folder)], deadline)
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip"] if with_pip else [sys.executable, "-m", "pip", "--python", python]
    quietly = ["--quiet", "--no-input", "--disable-pip-version-check", "--retries", "1"]
    _command([*pip, "install", *quietly, "--no-deps", "-r", str(lock)], deadline)
    if with_pip:
        _command([*pip, "uninstall", "--quiet", "--yes", "pip", "setuptools"], deadline)


def _command(arguments: list[str], deadline: float) -> None:
    try:
        if (left_s := deadline - time.monotonic()) <= 0:
            raise subprocess.TimeoutExpired(arguments, 0)
        done = subprocess.run(
            arguments,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=left_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RoomUnavailable(
            "the lock is not installed yet when release.clean_room_minutes are over: raise them, "
            "or provide wheels (PIP_FIND_LINKS)"
        ) from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = (lines or done.stderr.strip().splitlines() or ["it failed without a word"])[0]
        # pip lists the versions that an index has; none at all means that it reached no index.
        if "from versions: none" in reason:
            raise RoomUnavailable(
                f"neither an index nor wheels were reached ({reason[:200]}): give pip an index, "
                "or a folder of wheels (PIP_FIND_LINKS)"
            )
        raise NotInstallable(reason[:300])


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
