"""Makes the n-th file call of this process fail: by an error of the system, or by ending it."""

import errno
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import pytest

CALLS = ("open", "fsync", "replace", "rename", "mkdir", "unlink", "rmdir")
KILLED = 77


class FailingFiles:
    """Counts file calls; the n-th one fails, and with `stays_broken` every one behind it."""

    def __init__(self, nth: int, fail: Callable[[], None], *, stays_broken: bool = False) -> None:
        self.nth = nth
        self.fail = fail
        self.stays_broken = stays_broken
        self.calls = 0

    @property
    def struck(self) -> bool:
        return self.calls >= self.nth

    def call(self) -> bool:
        """Whether this call must fail."""
        self.calls += 1
        return self.calls == self.nth or (self.stays_broken and self.struck)

    @contextmanager
    def installed(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, self._counted(getattr(os, name)))
            patch.setattr(io, "open", self._counted_open(io.open))
            yield

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if self.call():
                self.fail()
            return real(*args, **options)

        return call

    def _counted_open(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            if self.call():
                self.fail()
            return _TornStream(real(*args, **options), self)

        return call


class _TornStream:
    """A stream whose failing write leaves the first half of its bytes in the file."""

    def __init__(self, stream: Any, files: FailingFiles) -> None:
        self._stream = stream
        self._files = files

    def write(self, data: Any) -> int:
        if self._files.call():
            self._stream.write(data[: len(data) // 2])
            self._stream.flush()
            self._files.fail()
        return int(self._stream.write(data))

    def __enter__(self) -> "_TornStream":
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def system_error(number: int) -> Callable[[], None]:
    def fail() -> None:
        raise OSError(number, os.strerror(number))

    return fail


def at_every_call(
    prepare: Callable[[], None],
    operate: Callable[[], object],
    check: Callable[[Exception | None], None],
    *,
    number: int,
    stays_broken: bool,
) -> int:
    """Run `operate` with the fault at call 1, 2, 3 ... until it is not met; `check` each time."""
    for nth in count(1):
        prepare()
        files = FailingFiles(nth, system_error(number), stays_broken=stays_broken)
        raised: Exception | None = None
        with files.installed():
            try:
                operate()
            except Exception as error:
                raised = error
        if not files.struck:
            assert raised is None
            return nth - 1
        check(raised)
    raise AssertionError


def killed_at_every_call(
    prepare: Callable[[], None], operate: Callable[[], object], check: Callable[[], None]
) -> int:
    """Run `operate` in a process that ends without a word at call 1, 2, 3 ..."""
    for nth in count(1):
        prepare()
        child = os.fork()
        if child == 0:
            files = FailingFiles(nth, lambda: os._exit(KILLED))
            try:
                with files.installed():
                    operate()
            finally:
                os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != KILLED:
            return nth - 1
        check()
    raise AssertionError


FAULTS = [
    pytest.param(errno.ENOSPC, False, id="no space once"),
    pytest.param(errno.ENOSPC, True, id="no space from then on"),
    pytest.param(errno.EIO, False, id="input/output error once"),
    pytest.param(errno.EROFS, True, id="read-only from then on"),
]
