"""Workers that train together, started by torchrun on this machine, and on others that join.

Every process runs the same worker on the same attempt; torchrun numbers them. They hold the stdin
of torchrun, which we hold open: when we die, or torchrun does, all of them see its end and go.
"""

import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pytest_mltrainer.core import files
from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.core.settings import Launch
from pytest_mltrainer.core.work import (
    LOG,
    SHARED_ATTEMPT,
    WorkRequest,
    WorkResult,
    rank_folder,
)
from pytest_mltrainer.launchers.local import GRACE_S, LocalWork, crashed, worker_environment

MEETING = "meeting.json"
"""In an attempt's folder, while its processes work: how the other nodes take part."""
LIMIT_READ_LOG_BYTES = 65_536
_FAILED = re.compile(r"rank\s*:\s*(?P<rank>\d+) [^\n]*\n\s*exitcode\s*:\s*(?P<status>-?\d+)")
_FIRST = "Root Cause"
"""How torchrun tells in what order its processes failed; it tells nobody but its reader."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """Where and how the nodes of one attempt meet. `id` tells it from earlier ones."""

    id: str
    nodes: int
    processes: int
    rendezvous: str | None

    def save(self, attempt: Path) -> None:
        """Write `meeting.json`: from now on other nodes may take part."""
        files.write_json(attempt / MEETING, asdict(self))

    @classmethod
    def load(cls, attempt: Path) -> "Meeting | None":
        """Read `meeting.json`; None where nobody meets."""
        try:
            return cls(**files.read_json(attempt / MEETING))
        except (StorageError, TypeError):
            return None

    def command(self, attempt: str, node: int) -> list[str]:
        """How torchrun is started on a node. Without restarts: an attempt is continued by us."""
        where = (
            # Numbered by us: the first node, where pytest waits, is to have the first process.
            [
                "--rdzv-backend=static",
                f"--rdzv-endpoint={self.rendezvous}",
                f"--rdzv-id={self.id}",
                f"--node-rank={node}",
            ]
            if self.nodes > 1
            else ["--standalone", "--local-addr=localhost"]
        )
        return [
            sys.executable,
            "-P",
            "-m",
            "torch.distributed.run",
            f"--nnodes={self.nodes}",
            f"--nproc-per-node={self.processes}",
            "--max-restarts=0",
            *where,
            "-m",
            "pytest_mltrainer.worker",
            attempt,
        ]


class TorchrunLauncher:
    """Starts `launch.processes` workers here, and meets `launch.nodes` - 1 other nodes."""

    def __init__(self, launch: Launch) -> None:
        """`launch` is the section of the configuration."""
        self._launch = launch

    def start(self, request: WorkRequest, *, timeout_s: float) -> "TorchrunWork":
        """Start the workers of `request`; its attempt folder must hold `request.json`."""
        for pattern in ("rank-*", "node-*"):
            for stale in request.folder.glob(pattern):
                shutil.rmtree(stale, ignore_errors=True)
        meeting = Meeting(
            id=uuid.uuid4().hex,
            nodes=self._launch.nodes,
            processes=self._launch.processes,
            rendezvous=self._launch.rendezvous,
        )
        if meeting.nodes > 1:
            meeting.save(request.folder)
        process = start_node(meeting, request, node=0)
        return TorchrunWork(process, request.folder, timeout_s, meeting)


def node_folder(attempt: Path, node: int) -> Path:
    """Where a further node keeps the output of its workers; whoever makes it is that node."""
    return attempt / f"node-{node}"


def start_node(meeting: Meeting, request: WorkRequest, *, node: int) -> "subprocess.Popen[bytes]":
    """torchrun with the workers of one node, in a process group of its own."""
    return subprocess.Popen(
        meeting.command(request.attempt, node),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=request.project_root,
        env=_environment(request),
        start_new_session=True,
    )


def _environment(request: WorkRequest) -> Mapping[str, str]:
    """That of a local worker. Safe path: torchrun does not hand `-P` on."""
    return {
        **worker_environment(request),
        "PYTHONSAFEPATH": "1",
        SHARED_ATTEMPT: request.attempt,
    }


class TorchrunWork(LocalWork):
    """torchrun and its workers on this node."""

    def __init__(
        self,
        process: "subprocess.Popen[bytes]",
        folder: Path,
        timeout_s: float,
        meeting: Meeting,
    ) -> None:
        """`folder` is the attempt's; `timeout_s` counts from now."""
        super().__init__(process, folder, timeout_s)
        self._meeting = meeting

    def cancel(self) -> None:
        """End torchrun, which ends its workers; those that it left behind end by their stdin."""
        super().cancel()
        # The output ends with the last of them.
        self._log.join(GRACE_S)
        self._close_meeting()

    def result(self) -> WorkResult:
        """Wait for the end (at most until the timeout) and say how it ended, and where first."""
        result = super().result()
        self._close_meeting()
        return result

    def _close_meeting(self) -> None:
        (self._folder / MEETING).unlink(missing_ok=True)

    def _told(self, status: int) -> WorkResult:
        """The first process' result; where one failed of itself and took it along, that one's."""
        size = self._meeting.nodes * self._meeting.processes
        folders = [self._folder, *(rank_folder(self._folder, rank) for rank in range(1, size))]
        results = [WorkResult.load(folder) for folder in folders]
        if results[0] is not None and results[0].status == "done":
            return results[0]
        for rank, result in enumerate(results):
            if result is not None and result.status == "error":
                return replace(result, message=f"rank {rank} of {size}: {result.message}")
        return self._killed(size) or results[0] or super()._told(status)

    def _killed(self, size: int) -> WorkResult | None:
        """Which process was killed before the others, by what torchrun tells in its output.

        The first one that failed; where that one only lost another, the other if it is clear which:
        torchrun itself kills those that are left.
        """
        log = (self._folder / LOG).read_bytes()[-LIMIT_READ_LOG_BYTES:].decode(errors="replace")
        failed = [(found["rank"], int(found["status"])) for found in _FAILED.finditer(log)]
        first = _FAILED.search(log, max(log.find(_FIRST), 0))
        if first is not None and int(first["status"]) < 0:
            failed = [(first["rank"], int(first["status"]))]
        killed = [entry for entry in failed if entry[1] < 0]
        if len(killed) != 1:
            return None
        [(rank, status)] = killed
        crash = crashed(status)
        return replace(crash, message=crash.message.replace("the worker", f"rank {rank} of {size}"))
