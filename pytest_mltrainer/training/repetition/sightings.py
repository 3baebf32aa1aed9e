"""Who in the user's project reads what may differ from run to run: file, line and function."""

import json
import linecache
import os
import sys
import sysconfig
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

_STANDARD_LIBRARY = sysconfig.get_path("stdlib") + os.sep
_OURS = {str(Path(__file__).with_name(name)) for name in ("clock.py", "disturbance.py")}
_NEVER_DATA = frozenset({".py", ".pyc", ".toml", ".yaml"})

_present: "Watch | None" = None
_hook_installed = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sighting:
    """A line of the user's project that was seen at something; `about` is its file, if it has one.

    `file` is relative to the project; a `line` of 0 stands for the file itself.
    """

    kind: str
    file: str
    line: int
    function: str = ""
    code: str = ""
    about: str = ""

    def text(self) -> str:
        """`task.py:31 in __getitem__: value = time.time()`."""
        if not self.line:
            return self.file
        function = f" in {self.function}" if self.function else ""
        return f"{self.file}:{self.line}{function}: {self.code}"


class Watch:
    """Notes calls by the user's project, made directly or through the standard library.

    A library that reads the clock or lists a folder for itself is left alone. Each place is written
    to a file at once, so that what a forked loader's worker sees is kept as well.
    """

    def __init__(self, root: Path, path: Path) -> None:
        """Project and file to append to."""
        self.root = root
        self._roots = tuple({str(root), str(root.resolve())})
        self._path = path
        self._noted: set[Sighting] = set()

    def sees(self, kind: str) -> bool:
        """Whether the user's project has called the function that asks, which is then noted."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            name = frame.f_code.co_filename
            if self._is_users(name):
                self._note(kind, frame)
                return True
            if not _is_passed_through(name):
                return False
            frame = frame.f_back
        return False

    def opened(self, path: str) -> None:
        """A file of the project is opened: note the user's line, whoever does it for that line."""
        if not self._is_inside(path) or Path(path).suffix in _NEVER_DATA:
            return
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
            if self._is_users(frame.f_code.co_filename):
                self._note("file", frame, about=self._relative(path))
                return
            frame = frame.f_back

    def modules(self) -> list[ModuleType]:
        """The imported modules of the user's project."""
        return [
            module
            for module in list(sys.modules.values())
            if self._is_users(getattr(module, "__file__", None) or "")
        ]

    def _note(self, kind: str, frame: FrameType, about: str = "") -> None:
        name, line = frame.f_code.co_filename, frame.f_lineno
        sighting = Sighting(
            kind=kind,
            file=self._relative(name),
            line=line,
            function=frame.f_code.co_name,
            code=linecache.getline(name, line).strip(),
            about=about,
        )
        if sighting not in self._noted:
            self._noted.add(sighting)
            with self._path.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(asdict(sighting)) + "\n")

    def _is_users(self, name: str) -> bool:
        return name.endswith(".py") and self._is_inside(name)

    def _is_inside(self, name: str) -> bool:
        return any(_lies_in(name, root) for root in self._roots)

    def _relative(self, name: str) -> str:
        root = next(root for root in self._roots if name.startswith(root))
        return Path(name).relative_to(root).as_posix()


def read_sightings(path: Path) -> list[Sighting]:
    """What a watch has noted, each once, by all processes; nothing when there is no file."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Sighting(**json.loads(line)) for line in dict.fromkeys(lines)]


def watch_files(watch: Watch | None) -> None:
    """Tell `watch` of every file that is opened, and of thread counts put in the environment.

    None ends that.
    """
    # An audit hook cannot be removed, so there is one for the process, asleep unless watching.
    global _present, _hook_installed
    _present = watch
    if not _hook_installed:
        sys.addaudithook(_audit)
        _hook_installed = True


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _present is None:
        return
    if event == "open" and isinstance(arguments[0], str | bytes):
        _present.opened(str(Path(os.fsdecode(arguments[0])).absolute()))
    elif event == "os.putenv" and os.fsdecode(arguments[0]).endswith("_NUM_THREADS"):
        _present.sees("threads")


@lru_cache(maxsize=10_000)
def _lies_in(name: str, root: str) -> bool:
    if not name.startswith(root + os.sep):
        return False
    parts = Path(name).relative_to(root).parts
    return not any(
        part.startswith(".") or part in ("site-packages", "__pycache__") for part in parts
    )


@cache
def _is_passed_through(name: str) -> bool:
    """Whether a call goes through this file on behalf of whoever called it."""
    if name.startswith("<frozen "):
        return not name.startswith("<frozen importlib")
    if name in _OURS or name == __file__:
        return True
    return name.startswith(_STANDARD_LIBRARY) and "site-packages" not in name
