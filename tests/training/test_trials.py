"""One trial after the other: how each ends, what is kept of it, and that a killed one goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cheap_trials import EPOCHS, FOLDER, cheap_config, identify, score

from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.core.work import WorkRequest
from pytest_mltrainer.launchers import LocalLauncher
from pytest_mltrainer.training.optimization.trial_queue import TrialQueue
from pytest_mltrainer.training.optimization.trial_runner import TrialPlan, TrialRunner
from pytest_mltrainer.training.optimization.trials import Trial, read_trial, trial_config

Make = Callable[..., TrialRunner]


def plan(name: str = "r1-01", **changes: Any) -> TrialPlan:
    """A recommended trial that widens the model."""
    values = {
        "id": name,
        "round": 1,
        "kind": "recommended",
        "origin": "underfitting",
        "patch": {"model.width": 32},
        "seed": 3,
    }
    return TrialPlan(**{**values, **changes})


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A runner of cheap trials in a folder of its own."""

    def runner(folder: str = "phase", before: str = "before", **sections: Any) -> TrialRunner:
        config = cheap_config(**sections)
        request = WorkRequest(
            entry="unused:unused",
            phase="optimization",
            project_root=str(FOLDER),
            attempt=str(tmp_path / folder),
            config=config.to_json(),
            seed=3,
            threads=1,
        )
        return TrialRunner(
            request=request,
            config=config,
            metric="accuracy",
            launcher=LocalLauncher(),
            identify=identify,
            before=tmp_path / before,
            entry="cheap_trials:work",
        )

    return runner


def checkpoints(runner: TrialRunner, name: str) -> set[str]:
    return {path.name for path in (runner.folder(name) / "checkpoints").glob("*")}


def test_finished_trial_has_its_score_curve_and_the_digests_of_its_files(make: Make) -> None:
    runner = make()
    trial = runner.run(plan())
    config = trial_config(runner.config, {"model.width": 32}, 3).for_phase("optimization")
    assert trial.status == "finished"
    assert trial.value == pytest.approx(score(config) * (1 - 0.5**EPOCHS))
    assert len(trial.progress) == EPOCHS
    assert trial.progress[-1] == trial.value
    assert read_trial(runner.folder("r1-01")) == trial
    assert {"checkpoints/best.pt", "checkpoints/last.pt"} <= set(trial.artifacts)
    assert checkpoints(runner, "r1-01") == {"best.pt", "last.pt"}


def test_seed_trial_keeps_the_best_checkpoint_alone(make: Make) -> None:
    runner = make()
    trial = runner.run(plan("seed-1-baseline", kind="seed", origin="baseline", patch={}, seed=99))
    assert trial.seed == 99
    assert checkpoints(runner, "seed-1-baseline") == {"best.pt"}


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        ("raise", "failed", "ValueError: no such layer\ncheap_trials.py:"),
        ("memory", "failed", "out of memory: try a smaller training.batch_size"),
        ("exit", "failed", "left no result"),
        ("nan", "broken", "loss not finite at step 3"),
        ("hang", "failed", "the minutes of the budget are used up"),
    ],
)
def test_trial_that_goes_wrong_says_how(make: Make, fault: str, status: str, reason: str) -> None:
    runner = make(model={"fault": fault})
    trial = runner.run(plan(), left_s=4.0 if fault == "hang" else 60.0)
    assert trial.status == status
    assert trial.value is None
    assert reason in trial.reason
    assert read_trial(runner.folder("r1-01")) == trial


def test_killed_worker_is_a_failed_trial_and_the_next_one_is_run(make: Make) -> None:
    runner = make(model={"fault": "exit"})
    told: list[Trial] = []
    queue = TrialQueue(runner, jobs=1, minutes=10, told=told.append)
    first, second = queue.run_all([plan(), plan("r1-02", patch={"model.fault": ""})])
    assert (first.status, second.status) == ("failed", "finished")
    assert told == [first, second]


def test_trial_that_cannot_write_stops_the_search_and_is_run_again_later(make: Make) -> None:
    make().run(plan("r1-02", patch={}))
    runner = make(model={"fault": "disk"})
    with pytest.raises(StorageError, match=r"the disk is full.*every finished trial are kept"):
        runner.run(plan())
    assert (runner.folder("r1-02") / "trial.json").exists()
    assert runner.done(plan()) is None, "its failure says nothing of its patch"


def test_trial_that_is_done_is_not_run_again(make: Make) -> None:
    runner = make()
    queue = TrialQueue(runner, jobs=1, minutes=10, told=lambda trial: None)
    first = queue.run(plan())
    second = queue.run(plan())
    assert first == second
    assert (runner.folder("r1-01") / "starts.txt").read_text() == "x"


def test_trial_of_other_settings_under_the_same_id_is_run_anew(make: Make) -> None:
    make().run(plan())
    changed = make(training={"learning_rate": 0.01})
    assert changed.done(plan()) is None
    assert not changed.folder("r1-01").exists()


def test_same_training_is_taken_over_from_the_optimization_before(make: Make) -> None:
    first = make("before/artifacts").run(plan())
    runner = make(before="before/artifacts/artifacts")
    taken = runner.done(plan("r2-05", round=2))
    assert taken is not None
    assert (taken.id, taken.round, taken.worker_s) == ("r2-05", 2, 0.0)
    assert (taken.value, taken.artifacts) == (first.value, first.artifacts)
    assert read_trial(runner.folder("r2-05")) == taken


def test_budget_of_minutes_ends_the_queue(make: Make) -> None:
    runner = make(model={"epoch_s": 0.2})
    queue = TrialQueue(runner, jobs=1, minutes=3 / 60, told=lambda trial: None)
    plans = [plan(f"r1-{k:02d}", patch={"model.width": k}) for k in range(1, 9)]
    done = queue.run_all(plans)
    assert 1 <= len(done) < len(plans)
    assert queue.is_used_up
    assert queue.run(plans[0]) == done[0], "what is done costs nothing, whatever is used up"


def test_two_jobs_run_the_same_trials(make: Make) -> None:
    plans = [plan(f"r1-{k:02d}", patch={"model.width": k}) for k in range(1, 5)]
    results = []
    for jobs in (1, 2):
        queue = TrialQueue(make(f"jobs-{jobs}"), jobs=jobs, minutes=10, told=lambda trial: None)
        results.append([(entry.id, entry.value, entry.patch) for entry in queue.run_all(plans)])
    assert results[0] == results[1]


def test_killed_trial_goes_on_in_its_own_folder(make: Make, tmp_path: Path) -> None:
    """Kill -9 of the process that runs the trial: its worker goes too, and the next run resumes."""
    runner = make(model={"epoch_s": 0.3})
    script = tmp_path / "run.py"
    stored = {"request": runner.request.config, "attempt": runner.request.attempt}
    (tmp_path / "stored.json").write_text(json.dumps(stored))
    script.write_text(RUN_ONE)
    process = subprocess.Popen([sys.executable, str(script), str(tmp_path), str(FOLDER)])
    attempt = runner.request.folder / "trials/r1-01"
    epochs = attempt / "artifacts/telemetry/epochs.jsonl"
    end = time.monotonic() + 60
    while not (epochs.exists() and epochs.read_bytes().count(b"\n") >= 2):
        assert time.monotonic() < end
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert runner.done(plan()) is None
    trial = runner.run(plan())
    assert trial.status == "finished"
    assert (runner.folder("r1-01") / "starts.txt").read_text() == "xx"


RUN_ONE = """
import json, sys
from pathlib import Path
folder, tests = sys.argv[1:]
sys.path.insert(0, tests)
from cheap_trials import cheap_config, identify
from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.work import WorkRequest
from pytest_mltrainer.launchers import LocalLauncher
from pytest_mltrainer.training.optimization.trial_runner import TrialPlan, TrialRunner
stored = json.loads((Path(folder) / "stored.json").read_text())
request = WorkRequest(
    entry="unused:unused", phase="optimization", project_root=tests, attempt=stored["attempt"],
    config=stored["request"], seed=3, threads=1,
)
runner = TrialRunner(
    request=request, config=Config.from_json(stored["request"]), metric="accuracy",
    launcher=LocalLauncher(), identify=identify, before=Path(folder) / "before",
    entry="cheap_trials:work",
)
runner.run(TrialPlan(
    id="r1-01", round=1, kind="recommended", origin="underfitting", patch={"model.width": 32},
    seed=3,
))
"""


def test_damaged_trial_is_refused_by_name(make: Make) -> None:
    runner = make()
    runner.run(plan())
    path = runner.folder("r1-01") / "trial.json"
    path.write_text(path.read_text().replace('"status"', '"state"'))
    with pytest.raises(StorageError, match=r"trial\.json: not a trial"):
        read_trial(runner.folder("r1-01"))
    assert runner.done(plan()) is None
