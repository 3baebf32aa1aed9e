"""The built-in loop with its telemetry against a hand-written loop and those of other frameworks.

CPU time of the training alone, whole runs interleaved, one thread. Printed are the ratio of the
quickest runs and the median of the ratios of neighbours with its spread. Ratios of whole runs are
noisy (some 8 %), so the telemetry is timed by itself too: the time spent in the observer's own
hooks against the rest of the step.

    python benchmarks/training_loop.py [--rounds 9] [--models cnn mlp large]
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from loops import Cnn, LargeMlp, Mlp, Training, by_hand, installed_peers, ours, session_of

from pytest_mltrainer.training.observation.observer import Observer

TASKS: dict[str, type[Cnn]] = {"cnn": Cnn, "mlp": Mlp, "large": LargeMlp}
Loop = Callable[[Cnn, Path], Training]


def cpu_time(loop: Loop, task: Cnn) -> float:
    """Seconds of CPU that the training takes, its set-up left out."""
    folder = Path(tempfile.mkdtemp(prefix="mltrainer-benchmark-"))
    try:
        train = loop(task, folder)
        start = time.process_time()
        train()
        return time.process_time() - start
    finally:
        shutil.rmtree(folder)


def telemetry_share(task: Cnn) -> float:
    """Time in the observer's hooks against the time of the training without them."""
    spent = 0.0
    originals = (Observer._before_step, Observer._after_step)

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any) -> Any:
            nonlocal spent
            start = time.perf_counter()
            try:
                return method(*args)
            finally:
                spent += time.perf_counter() - start

        return wrapper

    Observer._before_step, Observer._after_step = map(timed, originals)  # type: ignore[method-assign]
    try:
        with tempfile.TemporaryDirectory() as folder:
            session = session_of(task, Path(folder))
            start = time.perf_counter()
            session.run()
            whole = time.perf_counter() - start
    finally:
        Observer._before_step, Observer._after_step = originals  # type: ignore[method-assign]
    return spent / (whole - spent)


def compare(task: Cnn, loops: dict[str, Loop], rounds: int) -> None:
    """Print one line a loop."""
    for loop in (by_hand, *loops.values()):
        cpu_time(loop, task)
    by_hand_s: list[float] = []
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    ratios: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(rounds):
        for name, loop in loops.items():
            before = cpu_time(by_hand, task)
            measured = cpu_time(loop, task)
            after = cpu_time(by_hand, task)
            by_hand_s += [before, after]
            seconds[name].append(measured)
            ratios[name].append(2 * measured / (before + after))
    print(f"{type(task).__name__}: {task.__doc__}")
    for name, values in ratios.items():
        quickest = min(seconds[name]) / min(by_hand_s)
        spread = f"median {statistics.median(values):.3f}, {min(values):.3f} to {max(values):.3f}"
        print(f"  {name:18} {quickest:.3f} x by hand ({spread})")
    share = min(telemetry_share(task) for _ in range(3))
    print(f"  telemetry alone    {1 + share:.3f} x a step")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--models", nargs="+", choices=TASKS, default=list(TASKS))
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    loops: dict[str, Loop] = {"pytest-mltrainer": ours} | installed_peers()
    for name in parsed.models:
        compare(TASKS[name](), loops, parsed.rounds)


if __name__ == "__main__":
    main()
