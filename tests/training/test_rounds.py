"""The trials of a round: recommended alone, useful ones together, a search; killed and resumed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from cheap_trials import EPOCHS, FOLDER, cheap_config, identify

from pytest_mltrainer.core.config import apply_patch
from pytest_mltrainer.core.errors import StorageError, UserError
from pytest_mltrainer.core.work import WorkRequest
from pytest_mltrainer.launchers import LocalLauncher
from pytest_mltrainer.training.optimization.rounds import Best, RoundWork
from pytest_mltrainer.training.optimization.search import Search, StudyPlan
from pytest_mltrainer.training.optimization.search_space import space_around
from pytest_mltrainer.training.optimization.trial_queue import TrialQueue
from pytest_mltrainer.training.optimization.trial_runner import TrialRunner
from pytest_mltrainer.training.optimization.trials import Trial, Tried

WIDER = {"model.width": 32}
FASTER = {"training.learning_rate": 0.01}
SLOWER = {"training.learning_rate": 1e-5}


def advice(*patches: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "issue": "underfitting",
            "instruction": f"change {', '.join(patch) or 'the data'}",
            "patch": patch,
            "predicted": (0.5, 0.9),
        }
        for patch in patches
    ]


class Bench:
    """One round over cheap trials in a folder."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        optimization = {"trials": 6, "pruner": "none", **sections.pop("optimization", {})}
        config = cheap_config(optimization=optimization, **sections)
        request = WorkRequest(
            entry="unused:unused",
            phase="optimization",
            project_root=str(FOLDER),
            attempt=str(folder),
            config=config.to_json(),
            seed=3,
            threads=1,
        )
        request.output.mkdir(parents=True, exist_ok=True)
        self.config = config
        self.runner = TrialRunner(
            request=request,
            config=config,
            metric="accuracy",
            launcher=LocalLauncher(),
            identify=identify,
            before=folder / "before",
            entry="cheap_trials:work",
        )
        self.told: list[Trial] = []
        self.round = RoundWork(
            number=1,
            runner=self.runner,
            queue=TrialQueue(
                self.runner,
                jobs=config.optimization.jobs,
                minutes=config.budgets.optimization_minutes,
                told=self.told.append,
            ),
            best=Best(id="baseline", patch={}, value=0.4),
            maximize=True,
            known={self.runner.identity({}, 3): "baseline"},
        )

    def search(self, is_met: Callable[[Trial], bool] = lambda trial: False) -> None:
        best = self.round.best
        settings = self.config.optimization
        plan = StudyPlan(
            name="round-1",
            space=space_around(apply_patch(self.config, best.patch), best.patch, lambda key: True),
            maximize=True,
            pruner=settings.pruner,
            epochs=EPOCHS,
            seed=3,
            jobs=settings.jobs,
            storage=None,
            journal=self.runner.request.output / "study.log",
            owner="here",
        )
        self.round.search(Search(plan), is_met)

    def whole(self, recommended: Sequence[Mapping[str, Any]]) -> tuple[Tried, ...]:
        tried = self.round.recommended(advice(*recommended))
        self.round.joint(tried, lambda trial: False)
        self.search()
        return tried

    def summary(self) -> list[tuple[Any, ...]]:
        trials = self.round.trials
        return [
            (name, trials[name].kind, trials[name].status, dict(trials[name].patch))
            for name in sorted(trials)
        ]


def test_round_tries_each_recommendation_then_the_useful_together_then_searches(
    tmp_path: Path,
) -> None:
    bench = Bench(tmp_path / "phase")
    tried = bench.whole([WIDER, SLOWER, {}, FASTER, WIDER])
    assert [(entry.status, entry.trial, entry.reason) for entry in tried] == [
        ("tried", "r1-01", ""),
        ("tried", "r1-02", ""),
        ("skipped", None, "needs a person: change the data"),
        ("tried", "r1-03", ""),
        ("skipped", None, "the same training as r1-01"),
    ]
    joint = bench.round.trials["r1-04"]
    assert (joint.kind, dict(joint.patch)) == ("joint", {**WIDER, **FASTER})
    assert joint.origin == "r1-01 + r1-03" or joint.origin == "r1-03 + r1-01"
    kinds = [kind for _, kind, _, _ in bench.summary()]
    assert kinds == ["recommended"] * 3 + ["joint"] + ["search"] * 2
    for name in ("r1-05", "r1-06"):
        trial = bench.round.trials[name]
        assert trial.patch != joint.patch
        assert trial.origin == "around r1-04"
    best = max(entry.value or 0.0 for entry in bench.round.trials.values())
    assert bench.round.best.value == best
    assert all(entry.seed == 3 for entry in bench.round.trials.values())


def test_round_is_repeatable(tmp_path: Path) -> None:
    rounds = []
    for folder in ("one", "two"):
        bench = Bench(tmp_path / folder, optimization={"trials": 5})
        bench.whole([WIDER, FASTER])
        rounds.append(bench.summary())
    assert rounds[0] == rounds[1]


def test_two_jobs_try_the_same_recommendations(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "phase", optimization={"jobs": 2, "trials": 7})
    bench.whole([WIDER, FASTER])
    assert [entry[:2] for entry in bench.summary()][:3] == [
        ("r1-01", "recommended"),
        ("r1-02", "recommended"),
        ("r1-03", "joint"),
    ]
    assert len(bench.round.trials) == 7


def test_changes_that_contradict_each_other_are_not_tried_together(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "phase")
    tried = bench.round.recommended(advice(WIDER, {"model.width": 64}))
    bench.round.joint(tried, lambda trial: False)
    assert [kind for _, kind, _, _ in bench.summary()] == ["recommended"] * 2


def test_trial_that_breaks_does_not_end_the_round(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "phase")
    bench.whole([{"model.fault": "exit"}, {"model.fault": "nan"}, WIDER])
    statuses = [status for _, _, status, _ in bench.summary()]
    assert statuses[:3] == ["failed", "broken", "finished"]
    assert set(statuses[3:]) == {"finished"}
    assert bench.round.best.id != "baseline"


def test_round_without_a_better_trial_keeps_the_incumbent(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "phase", optimization={"trials": 1})
    bench.whole([SLOWER])
    assert bench.round.best.id == "baseline"


def test_budget_of_trials_is_for_all_kinds(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "phase", optimization={"trials": 2})
    tried = bench.whole([WIDER, FASTER, SLOWER])
    assert tried[2].reason == "optimization.trials (2) are used up"
    assert len(bench.round.trials) == 2
    assert bench.round.remarks == ["joint trial left out: optimization.trials (2) are used up"]


def test_budget_of_minutes_ends_the_search(tmp_path: Path) -> None:
    bench = Bench(
        tmp_path / "phase",
        optimization={"trials": 500},
        budgets={"optimization_minutes": 6 / 60},
    )
    bench.whole([WIDER])
    assert 1 <= len(bench.round.trials) < 60
    assert bench.round.remarks[-1] == (
        "the search was cut short: budgets.optimization_minutes (0.1) is used up"
    )


def test_search_ends_when_the_best_is_surely_on_target(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "phase")
    bench.round.recommended(advice(WIDER))
    bench.search(is_met=lambda trial: trial.id == "r1-01")
    assert bench.round.remarks == ["the search ended early: r1-01 is surely on target"]
    assert len(bench.round.trials) == 1


def test_no_joint_trial_where_one_change_is_surely_enough(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "phase")
    tried = bench.round.recommended(advice(WIDER, FASTER))
    bench.round.joint(tried, lambda trial: trial.id == bench.round.best.id)
    assert [kind for _, kind, _, _ in bench.summary()] == ["recommended"] * 2
    (remark,) = bench.round.remarks
    assert remark == f"joint trial left out: {bench.round.best.id} is surely on target alone"


def test_hopeless_trials_are_pruned_and_keep_no_weights(tmp_path: Path) -> None:
    bench = Bench(
        tmp_path / "phase",
        optimization={"trials": 12, "pruner": "median"},
        model={"epoch_s": 0.15},
    )
    bench.whole([{**FASTER, "model.width": width} for width in (30, 32, 34, 36)])
    pruned = [trial for trial in bench.round.trials.values() if trial.status == "pruned"]
    assert pruned
    for trial in pruned:
        assert trial.kind == "search"
        assert trial.reason.startswith("ended by the median pruner behind epoch ")
        assert trial.value is None
        assert 0 < len(trial.progress) < EPOCHS
        assert not list((bench.runner.folder(trial.id) / "checkpoints").glob("*"))


def test_killed_search_ends_with_the_same_trials_and_repeats_none(tmp_path: Path) -> None:
    """Kill -9 in the middle of the search; the next run finishes what was drawn, then goes on."""
    settings = {"optimization": {"trials": 7}, "model": {"epoch_s": 0.1}}
    whole = Bench(tmp_path / "whole", **settings)
    whole.whole([WIDER, FASTER])
    folder = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder), str(FOLDER), json.dumps(settings)]
    )
    started = folder / "trials/r1-05/artifacts/telemetry/epochs.jsonl"
    end = time.monotonic() + 60
    while not started.exists():
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    done = sorted((folder / "artifacts/trials").glob("*/trial.json"))
    assert [path.parent.name for path in done] == ["r1-01", "r1-02", "r1-03", "r1-04"]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in done}
    again = Bench(folder, **settings)
    again.whole([WIDER, FASTER])
    assert again.summary() == whole.summary()
    assert before == {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in done}
    starts = {path.parent.name: path.read_text() for path in folder.rglob("starts.txt")}
    assert starts == {name: "xx" if name == "r1-05" else "x" for name in whole.round.trials}


RUN = """
import json, sys
from pathlib import Path
folder, tests, settings = sys.argv[1:]
sys.path.insert(0, tests)
from test_rounds import FASTER, WIDER, Bench
Bench(Path(folder), **json.loads(settings)).whole([WIDER, FASTER])
"""


def test_search_that_can_only_repeat_itself_ends(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "phase", optimization={"trials": 50})
    plan = StudyPlan(
        name="round-1",
        space=(),
        maximize=True,
        pruner="none",
        epochs=EPOCHS,
        seed=3,
        jobs=1,
        storage=None,
        journal=bench.runner.request.output / "study.log",
        owner="here",
    )
    bench.round.search(Search(plan), lambda trial: False)
    assert bench.round.trials == {}
    assert bench.round.remarks == ["the search ended early: it only repeats what was tried"]


def test_full_disk_stops_the_search_and_keeps_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path / "phase", optimization={"trials": 5})
    bench.round.recommended(advice(WIDER))
    # Nobody has 2**60 bytes free: to the check every disk is full from here on.
    monkeypatch.setattr(
        "pytest_mltrainer.training.optimization.trial_runner.LEAST_FREE_BYTES", 2**60
    )
    with pytest.raises(StorageError, match="the disk is full") as stopped:
        bench.round.recommended(advice({"model.fault": "exit"}))
    assert isinstance(stopped.value, UserError)
    assert "make room, then run again" in str(stopped.value)
    assert (bench.runner.folder("r1-01") / "trial.json").exists()
    assert not bench.runner.folder("r1-02").exists()
