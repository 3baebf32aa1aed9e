"""Work that runs in a process of its own: the request, its events, its result.

An attempt has a folder: `request.json` in; `events.jsonl` appended by the worker; `worker.log`
for the user's output, never protocol; `result.json` written last. No result means crash, whatever
the exit status says.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from pytest_mltrainer.core import files

REQUEST = "request.json"
EVENTS = "events.jsonl"
LOG = "worker.log"
RESULT = "result.json"
OUTPUT = "artifacts"
KEPT = "kept.json"
"""Among the artifacts of an attempt: the manifest whose other steps were taken over."""

Status = Literal["done", "error", "crash", "timeout", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkRequest:
    """What a worker shall do: call `entry` (`module:function`) with this request.

    `config` is the whole resolved configuration; `arguments` are the entry's own. `steps` are
    those to redo; the artifacts of the others are taken over.
    """

    entry: str
    phase: str
    project_root: str
    attempt: str
    config: Mapping[str, Any]
    seed: int
    threads: int
    steps: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """The attempt's folder."""
        return Path(self.attempt)

    @property
    def output(self) -> Path:
        """Where the artifacts are written until they take their place."""
        return self.folder / OUTPUT

    def save(self) -> None:
        """Write `request.json`."""
        files.write_json(self.folder / REQUEST, asdict(self))

    @classmethod
    def load(cls, attempt: Path) -> "WorkRequest":
        """Read `request.json`."""
        stored = files.read_json(attempt / REQUEST)
        return cls(**{**stored, "steps": tuple(stored["steps"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkEvent:
    """Something that the worker reports while it works: `epoch`, `step` or `note`."""

    kind: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkResult:
    """How the work ended. `message` is for people; `traceback` holds the user's own frames."""

    status: Status
    message: str = ""
    traceback: tuple[str, ...] = ()
    internal: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)

    def save(self, attempt: Path) -> None:
        """Write `result.json`."""
        files.write_json(attempt / RESULT, asdict(self))

    @classmethod
    def load(cls, attempt: Path) -> "WorkResult | None":
        """Read `result.json`; None when the worker left none."""
        path = attempt / RESULT
        if not path.exists():
            return None
        stored = files.read_json(path)
        return cls(**{**stored, "traceback": tuple(stored["traceback"])})


class Work(Protocol):
    """A worker that was started."""

    def events(self) -> Iterator[WorkEvent]:
        """The events as they come, until the work has ended."""
        ...

    def cancel(self) -> None:
        """End it: SIGTERM to the process group, 10 s, SIGKILL. Returns when it is gone."""
        ...

    def result(self) -> WorkResult:
        """Wait for the end and say how it ended."""
        ...


class Launcher(Protocol):
    """A way to start workers."""

    def start(self, request: WorkRequest, *, timeout_s: float) -> Work:
        """Start the work in a fresh process."""
        ...
