"""Real processes that work together: how their ends are told, that none outlives the others."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_local import assert_gone, eventually, is_alive

from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.errors import ConfigError
from pytest_mltrainer.core.settings import Launch
from pytest_mltrainer.core.work import WorkRequest
from pytest_mltrainer.launchers import LocalLauncher, TorchrunLauncher, choose
from pytest_mltrainer.launchers.torchrun import TorchrunWork

pytestmark = pytest.mark.timeout(120)

JOBS = """
import os, signal, sys, time
from pathlib import Path

def note_pid(request):
    path = Path(request.project_root, f"pid-{request.rank}")
    path.with_suffix(".new").write_text(str(os.getpid()))
    path.with_suffix(".new").rename(path)

def done(request):
    note_pid(request)
    return {"rank": request.rank, "ranks": request.ranks, "safe_path": sys.flags.safe_path,
            "steps": request.steps, "hash_seed": os.environ["PYTHONHASHSEED"]}

def mistake_on_one(request):
    if request.rank == 1:
        raise ValueError("the user's mistake")
    time.sleep(60)

def killed_on_one(request):
    note_pid(request)
    if request.rank == 1:
        while not Path(request.project_root, "pid-0").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)

def hangs(request):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note_pid(request)
    time.sleep(60)
"""

PARENT = """
import sys, time
from pathlib import Path
from pytest_mltrainer.core.settings import Launch
from pytest_mltrainer.core.work import WorkRequest
from pytest_mltrainer.launchers import TorchrunLauncher
launcher = TorchrunLauncher(Launch(kind="torchrun", processes=2))
work = launcher.start(WorkRequest.load(Path(sys.argv[1])), timeout_s=60)
time.sleep(60)
"""

NODE_JOBS = """
def sums(request):
    import torch
    from pytest_mltrainer.training.ranks import Ranks
    ranks = Ranks.join(request, torch.device("cpu"))
    mean = ranks.mean(torch.tensor(float(10 + ranks.rank)))
    told = ranks.gather(f"rank {ranks.rank}")
    ranks.leave()
    return {"mean": mean.item(), "told": told}
"""


class Crew:
    """A project whose module `jobs` holds the entries, done by two processes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "jobs.py").write_text(JOBS + NODE_JOBS)
        (root / "pyproject.toml").write_text('[tool.mltrainer]\ntask = "task:Task"\n')
        self.attempt = root / ".mltrainer" / "attempts" / "baseline"
        self.attempt.mkdir(parents=True)

    def request(self, entry: str) -> WorkRequest:
        request = WorkRequest(
            entry=f"jobs:{entry}",
            phase="baseline",
            project_root=str(self.root),
            attempt=str(self.attempt),
            config=Config().to_json(),
            seed=11,
            threads=1,
            steps=("train", "evaluate"),
        )
        request.save()
        return request

    def start(self, entry: str, timeout_s: float = 60.0, **launch: object) -> TorchrunWork:
        settings = {"kind": "torchrun", "processes": 2, **launch}
        launcher = TorchrunLauncher(Launch.model_validate(settings))
        return launcher.start(self.request(entry), timeout_s=timeout_s)

    def pids(self) -> list[int]:
        """The two processes, as soon as both have noted themselves."""
        paths = [self.root / f"pid-{rank}" for rank in (0, 1)]
        eventually(lambda: all(path.exists() for path in paths), within_s=60)
        return [int(path.read_text()) for path in paths]


@pytest.fixture
def crew(tmp_path: Path) -> Iterator[Crew]:
    crew = Crew(tmp_path)
    yield crew
    for path in tmp_path.glob("pid-?"):
        if is_alive(int(path.read_text())):
            os.kill(int(path.read_text()), signal.SIGKILL)


def test_both_work_and_the_first_one_s_values_come_back(crew: Crew) -> None:
    result = crew.start("done").result()
    assert result.status == "done"
    assert result.values == {
        "rank": 0,
        "ranks": 2,
        "safe_path": True,
        "steps": ["train", "evaluate"],
        "hash_seed": "11",
    }
    other = WorkRequest.load(crew.attempt).of_rank(1, 2)
    assert (other.folder / "result.json").exists()
    assert (other.steps, other.output) == (("train",), crew.attempt / "rank-1" / "artifacts")
    assert_gone(crew.pids())


def test_mistake_on_one_ends_the_other_and_is_told_with_its_lines(crew: Crew) -> None:
    start = time.monotonic()
    result = crew.start("mistake_on_one").result()
    assert time.monotonic() - start < 50
    assert (result.status, result.internal) == ("error", False)
    assert result.message == "rank 1 of 2: ValueError: the user's mistake"
    assert result.traceback[-1].endswith(
        'in mistake_on_one: raise ValueError("the user\'s mistake")'
    )
    assert not (crew.attempt / "result.json").exists()


def test_killed_process_is_named_and_the_other_one_ends(crew: Crew) -> None:
    result = crew.start("killed_on_one").result()
    assert result.status == "crash"
    assert "rank 1 of 2 was killed by SIGKILL" in result.message
    assert_gone(crew.pids())


def test_cancelled_work_is_gone_when_cancel_returns(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They ignore SIGTERM, so torchrun is killed before it has ended them: their stdin does."""
    monkeypatch.setattr("pytest_mltrainer.launchers.local.GRACE_S", 1.0)
    work = crew.start("hangs")
    pids = crew.pids()
    work.cancel()
    assert_gone(pids)
    assert work.result().status == "cancelled"


def test_killed_torchrun_takes_its_processes_along(crew: Crew) -> None:
    work = crew.start("hangs")
    pids = crew.pids()
    stat = Path(f"/proc/{pids[0]}/stat").read_text().rpartition(")")[2].split()
    os.kill(int(stat[1]), signal.SIGKILL)
    result = work.result()
    assert result.status == "crash"
    assert_gone(pids)


def test_killed_parent_takes_all_processes_along(crew: Crew) -> None:
    crew.request("hangs")
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(crew.attempt)])
    pids = crew.pids()
    assert all(is_alive(pid) for pid in pids)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert_gone(pids)


def test_a_node_that_joins_takes_part_and_goes_with_the_pipeline(crew: Crew) -> None:
    holder = crew.attempt.parents[1] / "lock.json"
    holder.write_text("{}")
    joined = subprocess.Popen(
        [sys.executable, "-m", "pytest_mltrainer.cli", "join", str(crew.root)],
        stdout=subprocess.PIPE,
        text=True,
    )
    meet = {"processes": 1, "nodes": 2, "rendezvous": f"localhost:{free_port()}"}
    try:
        result = crew.start("sums", **meet).result()
        assert (result.status, result.values) == (
            "done",
            {"mean": 10.5, "told": ["rank 0", "rank 1"]},
        )
        holder.unlink()
        said, _ = joined.communicate(timeout=30)
    finally:
        joined.kill()
    assert joined.returncode == 0
    assert "baseline: node 1 of 2, 1 processes" in said
    assert "the pipeline of the first node has ended" in said


def test_a_node_that_joins_nothing_says_so_and_one_that_is_told_ends(crew: Crew) -> None:
    command = [sys.executable, "-m", "pytest_mltrainer.cli", "join", str(crew.root)]
    alone = subprocess.run(
        [*command, "--wait=0.1"], capture_output=True, text=True, timeout=60, check=False
    )
    assert alone.returncode == 2
    assert "found no pipeline within 0 s" in alone.stderr
    (crew.attempt.parents[1] / "lock.json").write_text("{}")
    told = subprocess.Popen(command)
    time.sleep(1.0)
    told.terminate()
    assert told.wait(timeout=30) in (0, -signal.SIGTERM)


def launched(**launch: object) -> Config:
    return Config.from_json({"launch": launch})


def test_only_work_that_trains_is_shared() -> None:
    config = launched(kind="torchrun", processes=2)
    assert isinstance(choose(config, ["train", "evaluate"]), TorchrunLauncher)
    assert isinstance(choose(config, ["evaluate"]), LocalLauncher)
    assert isinstance(choose(Config(), ["train"]), LocalLauncher)
    own = LocalLauncher()
    assert choose(launched(kind="ray"), ["train"], {"ray": own}) is own


@pytest.mark.parametrize(
    ("launch", "says"),
    [
        ({"kind": "torchrum"}, "launch.kind: found 'torchrum'.*Did you mean 'torchrun'"),
        ({"processes": 2}, "launch: found 2 processes on 1 nodes with kind local"),
        ({"kind": "torchrun", "nodes": 2}, "launch.rendezvous: found nothing with 2 nodes"),
    ],
)
def test_contradictions_are_refused_before_anything_starts(
    launch: dict[str, object], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        choose(launched(**launch), ["train"])


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])
