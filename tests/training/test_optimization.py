"""The work of the optimization phase on a real project, and what it refuses before any trial."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import TrainedProject, inside

from pytest_mltrainer.core.artifacts import RunFolder
from pytest_mltrainer.core.config import Config, load_config
from pytest_mltrainer.core.execution import WorkFailed, do_phase
from pytest_mltrainer.core.ledger import ROUND, events
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.launchers import LocalLauncher
from pytest_mltrainer.training.optimization.trials import (
    BASELINE,
    read_rounds,
    read_trials,
    seed_trial,
    trial_run,
)
from pytest_mltrainer.training.run import TrainingRun

Trained = Callable[..., TrainedProject]


def loaded(project: Path) -> tuple[Project, Config]:
    found = Project.load(project)
    return found, load_config(found.config_path)


@pytest.fixture(scope="module")
def run(trained: Trained) -> TrainingRun:
    """The optimization of a project whose model is too narrow."""
    return TrainingRun(*loaded(trained("underfit", "optimization").path), "optimization")


def test_round_is_whole_and_in_the_ledger(run: TrainingRun) -> None:
    rounds = read_rounds(run)
    (entry, *_) = rounds
    assert (entry.number, entry.issue, entry.incumbent) == (1, "underfitting", BASELINE)
    assert entry.winner in entry.trials
    assert [tried.status for tried in entry.recommendations] == ["tried"]
    started = [event["round"] for event in events(run.run_folder) if event["event"] == ROUND]
    assert started == [entry.number for entry in rounds]


def test_every_trial_is_a_run_of_its_own(run: TrainingRun) -> None:
    trials = read_trials(run)
    assert {path.name for path in (run.folder.path / "trials").iterdir()} == set(trials)
    for trial in trials.values():
        own = trial_run(run, trial.id)
        assert trial.status == "finished"
        assert own.config.seed == trial.seed
        with inside(run.project.root):
            assert own.evaluation.validation.objective.value == pytest.approx(trial.value)
        for name in ("diagnoses.json", "telemetry/steps.rec", "predictions/validation.npz"):
            assert name in trial.artifacts


def test_winner_and_baseline_have_the_same_fresh_seeds(run: TrainingRun) -> None:
    trials = read_trials(run)
    (entry, *_) = read_rounds(run)
    assert entry.winner is not None
    names = [seed_trial(number, side) for number in (1, 2, 3) for side in (BASELINE, entry.winner)]
    assert list(entry.comparison) == names
    seeds = {side: {trials[name].seed for name in names if name.endswith(side)}
             for side in (BASELINE, entry.winner)}  # fmt: skip
    assert seeds[BASELINE] == seeds[entry.winner]
    assert len(seeds[BASELINE]) == 3
    assert run.config.seed not in seeds[BASELINE]


def test_decision_holds_the_patch_and_the_file_shows_it(run: TrainingRun) -> None:
    decision = run.manifest.decision
    assert decision is not None
    assert decision["next"] == "finalization"
    assert decision["status"] == "target met"
    assert decision["patch"]["model.width"] > 2
    text = run.text("optimization_config.yaml")
    assert f"width: {decision['patch']['model.width']}  # CHANGED 2 ->" in text


def test_terminal_has_one_line_for_each_trial(trained: Trained) -> None:
    said = trained("underfit", "optimization").stdout
    line = r"round 1, trial 1 \(model\.width \d+\): accuracy 0\.\d+ \(baseline 0\.\d+\), [\d.]+ s"
    assert re.search(line, said)
    assert len(re.findall(r"round 1, seed \d+ \(", said)) == 6


def refused(copied: Callable[..., Path], **optimization: Any) -> tuple[str, Path]:
    """What the optimization says when it cannot begin, and its attempt."""
    project, config = loaded(copied("underfit", "diagnostics"))
    stored = config.to_json()
    stored["optimization"] |= optimization
    with pytest.raises(WorkFailed) as failed:
        do_phase(
            project,
            Config.from_json(stored),
            "optimization",
            ("search", "documents"),
            LocalLauncher(),
            lambda event: None,
        )
    return str(failed.value), RunFolder(project.run_folder).attempt("optimization")


def test_search_space_against_the_schema_is_refused_before_any_trial(
    copied: Callable[..., Path],
) -> None:
    search = {
        "model.widht": {"low": 2, "high": 64},
        "training.learning_rate": {"low": -1.0, "high": 1.0},
    }
    said, attempt = refused(copied, search=search)
    assert "optimization.search.model.widht: found a key that the task does not read" in said
    assert "Did you mean 'model.width'?" in said
    assert "optimization.search.training.learning_rate: low: found -1.0" in said
    assert "Traceback" not in said
    assert not (attempt / "trials").exists()
    assert not (attempt / "artifacts/rounds.json").exists()


def test_storage_that_is_down_is_named_before_any_trial(copied: Callable[..., Path]) -> None:
    said, attempt = refused(copied, storage="sqlite:////no/such/folder/study.db")
    assert "optimization.storage: found sqlite:////no/such/folder/study.db" in said
    assert "Traceback" not in said
    assert not (attempt / "trials").exists()
