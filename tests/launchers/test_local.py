"""Real workers: how each way to end is told, that nothing outlives its parent, what is logged."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_mltrainer.core.work import WorkRequest, WorkResult
from pytest_mltrainer.launchers import local
from pytest_mltrainer.launchers.local import LocalLauncher, LocalWork

JOBS = """
import os, signal, subprocess, sys, time
from pathlib import Path

def note_pids(request, *pids):
    path = request.folder / "pids"
    path.with_suffix(".new").write_text(" ".join(map(str, pids)))
    path.with_suffix(".new").rename(path)

def child():
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid

def done(request):
    return {"phase": request.phase, "hash_seed": os.environ["PYTHONHASHSEED"],
            "threads": os.environ["OMP_NUM_THREADS"]}

def nothing(request):
    pass

def one(request):
    two()

def two():
    three()

def three():
    four()

def four():
    raise ValueError("the user's mistake")

def mistake(request):
    from pytest_mltrainer.core.errors import UserError
    raise UserError("training_config.yaml:3 seed: mend it")

def exits(request):
    sys.exit(0)

def exits_hard(request):
    os._exit(0)

def kills_itself(request):
    os.kill(os.getpid(), signal.SIGKILL)

def memory(request):
    raise MemoryError

def device_memory(request):
    raise RuntimeError("CUDA out of memory. Tried to allocate 20 GiB")

def hangs(request):
    note_pids(request, os.getpid(), child())
    time.sleep(60)

def hangs_and_ignores(request):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    hangs(request)

def ends_a_fork(request):
    import multiprocessing
    fork = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    fork.start()
    time.sleep(0.2)
    fork.terminate()
    fork.join()
    time.sleep(0.5)
    return {"status": fork.exitcode}

def leaves_a_child(request):
    note_pids(request, child())

def prints(request):
    line = b"\\0\\x1b[31mred\\x1b[0m" + b"x" * 1000 + b"\\n"
    os.write(1, b"first line\\n")
    for _ in range(20_000):
        sys.stdout.buffer.write(line)
    sys.stdout.flush()
    os.write(2, b"last line\\n")

def events(request):
    with (request.folder / "events.jsonl").open("ab", buffering=0) as stream:
        for number in range(50):
            stream.write(b'{"kind": "note", "number": %d}\\n' % number)
            if number == 20:
                stream.write(b'{"kind": "no')
                time.sleep(0.4)
                stream.write(b'te", "number": "torn"}\\n')
        stream.write(b'{"kind": "never fin')
"""

PARENT = """
import sys, time
from pathlib import Path
from pytest_mltrainer.core.work import WorkRequest
from pytest_mltrainer.launchers.local import LocalLauncher
work = LocalLauncher().start(WorkRequest.load(Path(sys.argv[1])), timeout_s=60)
time.sleep(60)
"""


class Office:
    """A project whose module `jobs` holds the entries."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "jobs.py").write_text(JOBS)
        self.attempt = root / "attempt"
        self.attempt.mkdir()

    def request(self, entry: str) -> WorkRequest:
        request = WorkRequest(
            entry=entry if ":" in entry else f"jobs:{entry}",
            phase="baseline",
            project_root=str(self.root),
            attempt=str(self.attempt),
            config={},
            seed=11,
            threads=1,
        )
        request.save()
        return request

    def start(self, entry: str, timeout_s: float = 30.0) -> LocalWork:
        return LocalLauncher().start(self.request(entry), timeout_s=timeout_s)

    def result(self, entry: str, timeout_s: float = 30.0) -> WorkResult:
        return self.start(entry, timeout_s).result()

    def pids(self) -> list[int]:
        """The processes that a worker has noted, as soon as it has."""
        eventually(lambda: (self.attempt / "pids").exists())
        return [int(pid) for pid in (self.attempt / "pids").read_text().split()]


def eventually(condition: "object", within_s: float = 10.0) -> None:
    assert callable(condition)
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether the process still runs; one that has ended and waits for its parent does not."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return False
    return state != "Z"


def assert_gone(pids: list[int]) -> None:
    assert pids
    eventually(lambda: not any(is_alive(pid) for pid in pids))


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    office = Office(tmp_path)
    yield office
    if (office.attempt / "pids").exists():
        for pid in office.pids():
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)


def test_done_work_hands_its_values_back_and_ran_in_the_right_environment(office: Office) -> None:
    result = office.result("done")
    assert result.status == "done"
    assert result.values == {"phase": "baseline", "hash_seed": "11", "threads": "1"}
    assert office.result("nothing").values == {}


def test_exception_shows_the_last_three_frames_of_the_user(office: Office) -> None:
    result = office.result("one")
    assert (result.status, result.internal) == ("error", False)
    assert result.message == "ValueError: the user's mistake"
    line = JOBS[: JOBS.index("raise ValueError")].count("\n") + 1
    assert len(result.traceback) == 3
    assert (
        result.traceback[-1] == f'jobs.py:{line} in four: raise ValueError("the user\'s mistake")'
    )
    assert [frame.split()[2] for frame in result.traceback] == ["two:", "three:", "four:"]
    assert "Traceback" in (office.attempt / "worker.log").read_text()


def test_mistake_of_the_user_is_told_as_it_is(office: Office) -> None:
    result = office.result("mistake")
    assert result.status == "error"
    assert result.message == "training_config.yaml:3 seed: mend it"


def test_exception_of_ours_keeps_its_traceback(office: Office) -> None:
    result = office.result("no_such_module:work")
    assert (result.status, result.internal) == ("error", True)
    assert result.traceback[0].startswith("Traceback")


def test_source_that_does_not_parse_is_the_user_s_mistake(office: Office) -> None:
    (office.root / "broken.py").write_text("class Task(:\n")
    result = office.result("broken:work")
    assert (result.status, result.internal) == ("error", False)
    assert "broken.py, line 1" in result.message
    assert result.traceback == ("broken.py:1: class Task(:",)


def test_exit_is_an_error_whatever_its_status(office: Office) -> None:
    result = office.result("exits")
    assert result.status == "error"
    assert "sys.exit(0)" in result.message
    assert result.traceback[-1].endswith("in exits: sys.exit(0)")


def test_end_without_a_result_is_a_crash_whatever_the_exit_status(office: Office) -> None:
    result = office.result("exits_hard")
    assert result.status == "crash"
    assert "exit status 0 and left no result" in result.message


def test_killed_worker_is_a_crash_that_names_the_signal(office: Office) -> None:
    result = office.result("kills_itself")
    assert result.status == "crash"
    assert "SIGKILL" in result.message
    assert "out of memory" in result.message


@pytest.mark.parametrize("entry", ["memory", "device_memory"])
def test_out_of_memory_says_what_to_try(office: Office, entry: str) -> None:
    result = office.result(entry)
    assert result.status == "error"
    assert "out of memory" in result.message
    assert "smaller training.batch_size" in result.message


def test_hanging_worker_is_ended_with_its_children_at_the_timeout(office: Office) -> None:
    start = time.monotonic()
    result = office.result("hangs", timeout_s=2.0)
    assert time.monotonic() - start < 10
    assert result.status == "timeout"
    assert "budgets.worker_timeout_minutes" in result.message
    assert_gone(office.pids())


def test_worker_that_ignores_the_request_to_end_is_killed(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "GRACE_S", 0.5)
    assert office.result("hangs_and_ignores", timeout_s=2.0).status == "timeout"
    assert_gone(office.pids())


def test_cancelled_work_is_gone_when_cancel_returns(office: Office) -> None:
    work = office.start("hangs")
    pids = office.pids()
    work.cancel()
    assert_gone(pids)
    assert work.result().status == "cancelled"


def test_cancel_behind_the_end_changes_nothing(office: Office) -> None:
    work = office.start("done")
    assert work.result().status == "done"
    work.cancel()
    assert work.result().status == "done"


def test_work_may_end_processes_of_its_own(office: Office) -> None:
    result = office.result("ends_a_fork")
    assert (result.status, result.values) == ("done", {"status": 1})


def test_children_of_finished_work_end_with_it(office: Office) -> None:
    assert office.result("leaves_a_child").status == "done"
    assert_gone(office.pids())


def test_killed_parent_takes_the_worker_and_its_children_along(office: Office) -> None:
    office.request("hangs")
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(office.attempt)])
    pids = office.pids()
    assert all(is_alive(pid) for pid in pids)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert_gone(pids)


def test_flood_of_output_is_kept_short_and_keeps_both_ends(office: Office) -> None:
    assert office.result("prints").status == "done"
    log = (office.attempt / "worker.log").read_bytes()
    assert len(log) < 3_000_000
    assert log.startswith(b"first line\n")
    assert log.endswith(b"last line\n")
    assert b"bytes left out ..." in log
    assert b"\0\x1b[31mred" in log


def test_events_come_in_order_and_a_torn_one_waits_for_its_end(office: Office) -> None:
    work = office.start("events")
    events = list(work.events())
    assert work.result().status == "done"
    wanted: list[object] = list(range(50))
    wanted.insert(21, "torn")
    assert [event.values["number"] for event in events] == wanted
    assert {event.kind for event in events} == {"note"}


def test_events_are_there_before_the_work_has_ended(office: Office) -> None:
    work = office.start("events")
    first = next(work.events())
    assert first.values == {"number": 0}
    assert not (office.attempt / "result.json").exists()
    assert work.result().status == "done"
