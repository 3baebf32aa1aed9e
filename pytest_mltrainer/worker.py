"""The process that does a phase's work: `python -m pytest_mltrainer.worker ATTEMPT`."""

import importlib
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from types import FrameType
from typing import NoReturn

from pytest_mltrainer.core.errors import PeerLostError, UserError
from pytest_mltrainer.core.work import SHARED_ATTEMPT, WorkRequest, WorkResult

SHOWN_FRAMES = 3
OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


def main() -> int:
    """Do the work of the attempt folder named on the command line; 0 when it is done."""
    attempt = Path(sys.argv[1])
    _end_with_parent()
    _end_when_told()
    request = _own_part(WorkRequest.load(attempt))
    sys.path.insert(0, request.project_root)
    result = _do(request)
    result.save(request.folder)
    return 0 if result.status == "done" else 1


def _own_part(request: WorkRequest) -> WorkRequest:
    """The request, or this process' part of it where torchrun has started several for it.

    The variables of torchrun alone tell nothing: they reach whatever its processes start.
    """
    if os.environ.get(SHARED_ATTEMPT) != request.attempt:
        return request
    own = request.of_rank(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    own.output.mkdir(parents=True, exist_ok=True)
    return own


def _do(request: WorkRequest) -> WorkResult:
    module, _, function = request.entry.partition(":")
    try:
        values = getattr(importlib.import_module(module), function)(request)
    except PeerLostError as error:
        return WorkResult(status="crash", message=str(error))
    except UserError as error:
        return WorkResult(status="error", message=str(error), traceback=_frames(error, request))
    except SystemExit as error:
        return WorkResult(
            status="error",
            message=f"the task called sys.exit({error.code!r}); a task returns or raises",
            traceback=_frames(error, request),
        )
    except MemoryError as error:
        return WorkResult(
            status="error",
            message="out of memory: try a smaller training.batch_size, "
            "or training.accumulate for the same effective batch",
            traceback=_frames(error, request),
        )
    except Exception as error:
        return _unexpected(error, request)
    return WorkResult(status="done", values=values or {})


def _unexpected(error: Exception, request: WorkRequest) -> WorkResult:
    """The user's exception with the user's frames; an exception of ours keeps its traceback."""
    traceback.print_exception(error)
    frames = _frames(error, request)
    message = f"{type(error).__name__}: {error}"
    if any(sign in message.lower() for sign in OUT_OF_MEMORY):
        message += "; try a smaller training.batch_size"
    if frames:
        return WorkResult(status="error", message=message, traceback=frames)
    whole = "".join(traceback.format_exception(error)).splitlines()
    return WorkResult(status="error", message=message, traceback=tuple(whole), internal=True)


def _frames(error: BaseException, request: WorkRequest) -> tuple[str, ...]:
    """The last frames of the error that lie in the user's project, one line each."""
    root = Path(request.project_root)
    lines = [
        f"{Path(frame.filename).relative_to(root)}:{frame.lineno} in {frame.name}: {frame.line}"
        for frame in traceback.extract_tb(error.__traceback__)
        if Path(frame.filename).is_relative_to(root) and "site-packages" not in frame.filename
    ]
    # A file that does not parse has no frame: it stands in the error itself.
    if isinstance(error, SyntaxError) and Path(error.filename or "").is_relative_to(root):
        place = Path(error.filename or "").relative_to(root)
        lines.append(f"{place}:{error.lineno}: {(error.text or '').strip()}")
    return tuple(lines[-SHOWN_FRAMES:])


def _end_with_parent() -> None:
    """End this process group when the parent's end of our stdin closes, so no orphan trains on."""

    def wait() -> None:
        while os.read(0, 1024):
            pass
        _kill_group()

    threading.Thread(target=wait, daemon=True).start()


def _end_when_told() -> None:
    """End this process group at SIGTERM.

    In a thread: Python runs a handler in the main thread, and that may wait for another process of
    the training, which never comes, in a function that does not return.
    """
    told, tell = os.pipe()
    os.set_blocking(tell, False)

    def wait() -> None:
        while os.read(told, 1) != bytes([signal.SIGTERM]):
            pass
        _kill_group()

    signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
    # Else a child that was forked, and is ended, tells us through the pipe that it shares with us.
    os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
    signal.signal(signal.SIGTERM, _terminate)
    threading.Thread(target=wait, daemon=True).start()


def _terminate(number: int, frame: FrameType | None) -> None:
    _kill_group()


def _kill_group() -> NoReturn:
    """Everything that is half done is void without a result, so there is nothing to clean up."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
