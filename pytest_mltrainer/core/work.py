"""Work that runs in a process of its own: the request, its events, its result.

An attempt has a folder: `request.json` in; `events.jsonl` appended by the worker; `worker.log`
for the user's output, never protocol; `result.json` written last. No result means crash, whatever
the exit status says.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
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

SHARED_ATTEMPT = "MLTRAINER_SHARED_ATTEMPT"
"""The variable that names the attempt whose processes torchrun has started."""
TRAIN = "train"
"""The step that several processes may share, in every phase that has it."""

Status = Literal["done", "error", "crash", "timeout", "cancelled"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkRequest:
    """What a worker shall do: call `entry` (`module:function`) with this request.

    `config` is the whole resolved configuration; `arguments` are the entry's own. `steps` are
    those to redo; the artifacts of the others are taken over.

    Where several processes train together each has the request with its own `rank` of `ranks`; only
    rank 0 works in the attempt's folder and finishes the phase.
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
    rank: int = 0
    ranks: int = 1

    @property
    def folder(self) -> Path:
        """The attempt's folder."""
        return Path(self.attempt)

    @property
    def output(self) -> Path:
        """Where the artifacts are written until they take their place."""
        return self.folder / OUTPUT

    def of_rank(self, rank: int, ranks: int) -> "WorkRequest":
        """The request of one process of several: it trains, and rank 0 does everything else."""
        if not rank:
            return replace(self, ranks=ranks)
        folder = rank_folder(self.folder, rank)
        return replace(self, attempt=str(folder), steps=(TRAIN,), rank=rank, ranks=ranks)

    def save(self) -> None:
        """Write `request.json`."""
        files.write_json(self.folder / REQUEST, asdict(self))

    @classmethod
    def load(cls, attempt: Path) -> "WorkRequest":
        """Read `request.json`."""
        stored = files.read_json(attempt / REQUEST)
        return cls(**{**stored, "steps": tuple(stored["steps"])})


def rank_folder(attempt: Path, rank: int) -> Path:
    """Where a process that is not the first one works, in an attempt; nothing of it is kept."""
    return attempt / f"rank-{rank}"


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
