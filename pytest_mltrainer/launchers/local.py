"""Workers on this machine, each in a process group of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pytest_mltrainer.core.work import EVENTS, LOG, WorkEvent, WorkRequest, WorkResult

GRACE_S = 10.0
POLL_S = 0.05
LIMIT_LOG_BYTES = 1_000_000


class LocalLauncher:
    """Starts workers with the interpreter that runs pytest."""

    def start(self, request: WorkRequest, *, timeout_s: float) -> "LocalWork":
        """Start the worker of `request`; its attempt folder must hold `request.json`."""
        process = subprocess.Popen(
            # -P: the user's folder must not shadow our package before the worker puts it in place.
            [sys.executable, "-P", "-m", "pytest_mltrainer.worker", request.attempt],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=request.project_root,
            env=worker_environment(request),
            start_new_session=True,
        )
        return LocalWork(process, request.folder, timeout_s)


def worker_environment(request: WorkRequest) -> dict[str, str]:
    """The environment that must be right from the worker's first instruction."""
    threads = str(request.threads)
    return {
        **os.environ,
        "PYTHONHASHSEED": str(request.seed % 2**32),
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
        "OPENBLAS_NUM_THREADS": threads,
        "PYTHONUNBUFFERED": "1",
    }


class LocalWork:
    """A worker process. Its stdin is held open here: when we die it sees the end and goes too."""

    def __init__(self, process: "subprocess.Popen[bytes]", folder: Path, timeout_s: float) -> None:
        """`folder` is the attempt's; `timeout_s` counts from now."""
        self._process = process
        self._folder = folder
        self._deadline = time.monotonic() + timeout_s
        self._timeout_s = timeout_s
        self._ended_by: str | None = None
        assert process.stdout is not None
        self._log = threading.Thread(
            target=_keep_log, args=(process.stdout, folder / LOG), daemon=True
        )
        self._log.start()

    def events(self) -> Iterator[WorkEvent]:
        """The worker's events as they are written; ends with the worker, or at the timeout."""
        position = 0
        while True:
            running = self._process.poll() is None
            position, events = _read_events(self._folder / EVENTS, position)
            yield from events
            if not running:
                return
            if time.monotonic() > self._deadline:
                self._ended_by = "timeout"
                self.cancel()
                return
            time.sleep(POLL_S)

    def cancel(self) -> None:
        """SIGTERM to the process group, 10 s, SIGKILL."""
        if self._process.poll() is None:
            self._ended_by = self._ended_by or "cancelled"
            _signal_group(self._process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE_S)
        # The group outlives its leader when the user's code has children of its own.
        _signal_group(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._close_stdin()

    def result(self) -> WorkResult:
        """Wait for the end (at most until the timeout) and say how it ended."""
        for _ in self.events():
            pass
        status = self._process.wait()
        _signal_group(self._process.pid, signal.SIGKILL)
        self._close_stdin()
        self._log.join(GRACE_S)
        if self._ended_by == "timeout":
            minutes = self._timeout_s / 60
            return WorkResult(
                status="timeout",
                message=f"stopped after {minutes:.3g} minutes (budgets.worker_timeout_minutes); "
                "raise the budget, or find what hangs in the worker's output",
            )
        if self._ended_by == "cancelled":
            return WorkResult(status="cancelled", message="cancelled")
        return self._told(status)

    def _told(self, status: int) -> WorkResult:
        """What the worker has left, when it has ended by itself."""
        return WorkResult.load(self._folder) or crashed(status)

    def _close_stdin(self) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()


def crashed(status: int) -> WorkResult:
    """The result of a worker that left none, from its exit status."""
    if status < 0:
        name = signal.Signals(-status).name
        hint = " (often out of memory: try a smaller training.batch_size)" if status == -9 else ""
        message = f"the worker was killed by {name}{hint}"
    else:
        message = f"the worker ended with exit status {status} and left no result"
    return WorkResult(status="crash", message=f"{message}. The next run starts it again")


def _read_events(path: Path, position: int) -> tuple[int, list[WorkEvent]]:
    """Whole lines behind `position`; a torn last line waits for its end."""
    try:
        with path.open("rb") as stream:
            stream.seek(position)
            data = stream.read()
    except FileNotFoundError:
        return position, []
    whole = data[: data.rfind(b"\n") + 1]
    events = []
    for line in whole.splitlines():
        stored = json.loads(line)
        events.append(WorkEvent(kind=stored.pop("kind"), values=stored))
    return position + len(whole), events


def _keep_log(output: IO[bytes], path: Path) -> None:
    """Write the first and the last megabyte of the worker's output."""
    kept, tail, dropped = 0, bytearray(), 0
    with output, path.open("wb") as log:
        while chunk := os.read(output.fileno(), 65_536):
            head = chunk[: max(LIMIT_LOG_BYTES - kept, 0)]
            log.write(head)
            log.flush()
            kept += len(head)
            tail += chunk[len(head) :]
            if len(tail) > 2 * LIMIT_LOG_BYTES:
                dropped += len(tail) - LIMIT_LOG_BYTES
                del tail[:-LIMIT_LOG_BYTES]
        if dropped:
            log.write(f"\n... {dropped} bytes left out ...\n".encode())
        log.write(tail)


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
