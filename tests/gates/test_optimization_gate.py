"""Every check of the optimization gate: a run that passes it, and a fault that it finds."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from planted import (
    Copied,
    Fault,
    artifact_edited,
    as_parameters,
    assert_found,
    edit,
    json_edited,
    without_failing_case,
)
from support import TrainedProject, judge_gate, phase_folder

from pytest_mltrainer.core.artifacts import RunFolder
from pytest_mltrainer.core.catalogue import catalogue
from pytest_mltrainer.core.digests import sha256_file
from pytest_mltrainer.core.ledger import ROUND
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.evaluation.predictions import Predictions
from pytest_mltrainer.training.observation.telemetry import STEPS_FILE, read_steps

Trained = Callable[..., TrainedProject]

PROJECT = "underfit"
TRIAL = r"r1-\d\d"


def folder(project: Path) -> Path:
    return phase_folder(project, "optimization")


def trial_folder(project: Path, name: str) -> Path:
    return folder(project) / "trials" / name


def winner_of(project: Path) -> str:
    found: str = json.loads((folder(project) / "winner.json").read_text())["id"]
    return found


def loser_of(project: Path) -> str:
    """Another trial than the winner: the search goes on behind the first one, which falls short."""
    rounds = json.loads((folder(project) / "rounds.json").read_text())
    return next(name for name in rounds[0]["trials"] if name != winner_of(project))


def seeds_of(project: Path, origin: str) -> list[str]:
    return [f"seed-{number}-{origin}" for number in (1, 2, 3)]


def seal_trial(project: Path, name: str) -> None:
    """Make the digests in `trial.json` true again, so that they are not what is found."""
    own = trial_folder(project, name)
    with json_edited(own / "trial.json") as trial:
        trial["artifacts"] = {part: sha256_file(own / part) for part in trial["artifacts"]}


def predictions_edited(
    project: Path, name: str, change: Callable[[Predictions], Predictions]
) -> None:
    path = trial_folder(project, name) / "predictions/validation.npz"
    change(Predictions.load(path)).save(path)
    seal_trial(project, name)


def step_edited(project: Path, name: str, step: int, loss: float) -> None:
    path = trial_folder(project, name) / STEPS_FILE
    steps = read_steps(path).copy()
    steps["loss"][step] = loss
    path.write_bytes(steps.tobytes())
    seal_trial(project, name)


def rounds_edited(project: Path) -> Any:
    return artifact_edited(project, "optimization/rounds.json")


def baseline_called_winner(project: Path) -> None:
    with artifact_edited(project, "optimization/winner.json") as winner:
        winner["id"] = "baseline"


def another_key_proposed(project: Path) -> None:
    edit(folder(project) / "optimization_config.yaml", "epochs: 30", "epochs: 31")


def skipped_without_a_reason(project: Path) -> None:
    with rounds_edited(project) as rounds:
        rounds[0]["recommendations"][0] |= {"status": "skipped", "reason": " ", "trial": None}


def recommendation_forgotten(project: Path) -> None:
    with rounds_edited(project) as rounds:
        rounds[0]["recommendations"] = []


def trial_of_a_recommendation_unnamed(project: Path) -> None:
    with rounds_edited(project) as rounds:
        rounds[0]["recommendations"][0]["trial"] = None


def bad_trial_hidden(project: Path) -> None:
    with rounds_edited(project) as rounds:
        rounds[0]["trials"].remove(loser_of(project))
        rounds[0]["recommendations"][0]["trial"] = None


def artifact_of_a_trial_touched(project: Path) -> None:
    path = trial_folder(project, loser_of(project)) / "diagnoses.json"
    path.write_text(path.read_text() + "\n")


def loss_not_finite(project: Path) -> None:
    step_edited(project, loser_of(project), 5, float("nan"))


def other_samples(project: Path) -> None:
    predictions_edited(
        project,
        loser_of(project),
        lambda found: Predictions(found.outputs[::-1], found.targets[::-1]),
    )


def code_of_the_trials_changed(project: Path) -> None:
    with artifact_edited(project, "optimization/manifest.json") as manifest:
        manifest["steps"]["search"]["inputs"]["code/task.py"] = "0" * 64


def raw_predictions_edited(project: Path) -> None:
    # Larger where it is largest already, so that no score changes.
    predictions_edited(
        project,
        seeds_of(project, winner_of(project))[0],
        lambda found: Predictions(found.outputs * 1.01, found.targets),
    )


def baseline_left_out(project: Path) -> None:
    with rounds_edited(project) as rounds:
        rounds[0]["comparison"].remove(seeds_of(project, "baseline")[2])


def gain_edited(project: Path) -> None:
    with artifact_edited(project, "optimization/improvement.json") as gains:
        gains[0]["absolute"]["value"] += 0.01


def significance_denied(project: Path) -> None:
    with artifact_edited(project, "optimization/improvement.json") as gains:
        gains[0]["is_significant"] = False


def another_winner_preselected(project: Path) -> None:
    with rounds_edited(project) as rounds:
        rounds[0]["winner"] = loser_of(project)


def seed_that_was_chosen_by(project: Path) -> None:
    for origin in (winner_of(project), "baseline"):
        name = seeds_of(project, origin)[0]
        with json_edited(trial_folder(project, name) / "trial.json") as trial:
            trial["seed"] = 7


def one_model_for_two_seeds(project: Path) -> None:
    names = seeds_of(project, winner_of(project))
    first, second = (trial_folder(project, name) for name in names[:2])
    shutil.copy(first / "checkpoints/best.pt", second / "checkpoints/best.pt")
    seal_trial(project, names[1])


def one_seed_failed(project: Path) -> None:
    name = seeds_of(project, winner_of(project))[2]
    with json_edited(trial_folder(project, name) / "trial.json") as trial:
        trial |= {"status": "failed", "reason": "out of memory", "value": None}


def more_memory_than_allowed(project: Path) -> None:
    for name in seeds_of(project, winner_of(project)):
        with json_edited(trial_folder(project, name) / "trial.json") as trial:
            trial["memory"]["host_mb"] *= 10


def first_steps_edited(project: Path) -> None:
    step_edited(project, winner_of(project), 3, 0.5)


def last_in_the_place_of_best(project: Path) -> None:
    own = trial_folder(project, winner_of(project)) / "checkpoints"
    shutil.copy(own / "last.pt", own / "best.pt")
    seal_trial(project, winner_of(project))


def best_in_the_place_of_last(project: Path) -> None:
    own = trial_folder(project, winner_of(project)) / "checkpoints"
    shutil.copy(own / "best.pt", own / "last.pt")
    seal_trial(project, winner_of(project))


def comment_removed(project: Path) -> None:
    path = folder(project) / "optimization_config.yaml"
    path.write_text(re.sub(r"( +width: \d+)  # CHANGED .*", r"\1", path.read_text()))


def another_patch_decided(project: Path) -> None:
    for name in ("manifest.json", "decision.json"):
        with artifact_edited(project, f"optimization/{name}") as stored:
            decision = stored["decision"] if name == "manifest.json" else stored
            decision["patch"]["model.width"] = 1


def curves_of_something_else(project: Path) -> None:
    plots = folder(project) / "plots"
    shutil.copy(plots / "improvement.svg", plots / "learning_curves.svg")


def number_edited(project: Path) -> None:
    edit(folder(project) / "optimization_results.md", "0.9667", "0.9867")


def section_renamed(project: Path) -> None:
    edit(folder(project) / "optimization_results.md", "## Trials", "## Successes")


def plot_gone(project: Path) -> None:
    (folder(project) / "plots/improvement.svg").unlink()


def decision_edited(project: Path) -> None:
    with artifact_edited(project, "optimization/decision.json") as decision:
        decision["status"] = "diminishing returns"


def decision_of_the_round_edited(project: Path) -> None:
    with rounds_edited(project) as rounds:
        rounds[0]["decision"]["status"] = "next round"


def round_not_entered(project: Path) -> None:
    ledger = RunFolder(Project.load(project).run_folder).ledger
    lines = ledger.read_text().splitlines(keepends=True)
    ledger.write_text("".join(line for line in lines if ROUND not in line))


def fault(check: str, plant: Callable[[Path], None], says: str, **also: str) -> Fault:
    return Fault(
        check=f"optimization/{check}",
        plant=plant,
        says=says,
        also=also,  # type: ignore[arg-type]
        project=PROJECT,
    )


FAULTS = [
    fault(
        "config_from_recommendations",
        baseline_called_winner,
        r"winner\.json: found .*baseline",
        guards_hold="not applicable",
    ),
    fault(
        "config_from_recommendations",
        another_key_proposed,
        r"training\.epochs: 31 instead of 30",
    ),
    fault(
        "recommendations_covered",
        skipped_without_a_reason,
        "was skipped without a reason",
        results_reported="fail",
    ),
    fault(
        "recommendations_covered",
        recommendation_forgotten,
        "recommendations of the first round, against those of the diagnosis",
        results_reported="fail",
        config_from_recommendations="fail",
    ),
    fault(
        "recommendations_covered",
        trial_of_a_recommendation_unnamed,
        "was tried by None, which does not exist",
        results_reported="fail",
    ),
    fault(
        "training_completed",
        bad_trial_hidden,
        rf"trials with a folder.*{TRIAL}",
        recommendations_covered="fail",
        results_reported="fail",
    ),
    fault(
        "training_completed",
        artifact_of_a_trial_touched,
        rf"artifacts of {TRIAL} that are not those recorded: \['diagnoses\.json'\]",
    ),
    fault("training_stable", loss_not_finite, rf"steps of trial {TRIAL} .*: 1 of \d+, wanted 0"),
    fault(
        "same_data_same_evaluation",
        other_samples,
        rf"other validation targets: \['{TRIAL}'\]",
    ),
    fault(
        "same_data_same_evaluation",
        code_of_the_trials_changed,
        r"code/task\.py in the trials, and in the baseline: 0000",
    ),
    fault(
        "compared_with_baseline",
        raw_predictions_edited,
        rf"largest difference between stored and repeated predictions of seed-1-{TRIAL}",
    ),
    fault(
        "compared_with_baseline",
        baseline_left_out,
        "seeds of the baseline beside",
        training_completed="fail",
        seeds_repeated="fail",
        improvement_quantified="fail",
        decision_recorded="fail",
        results_reported="fail",
    ),
    fault("improvement_quantified", gain_edited, r"improvement\.json, computed anew"),
    fault(
        "improvement_significant",
        significance_denied,
        r"significance claimed for round 1: gain in accuracy .*: False, wanted True",
        improvement_quantified="fail",
    ),
    fault(
        "improvement_significant",
        another_winner_preselected,
        rf"winner of round 1, against the best .*: {TRIAL}, wanted {TRIAL}",
    ),
    fault(
        "improvement_significant",
        seed_that_was_chosen_by,
        r"seeds of round 1 that are not fresh: \[7\]",
    ),
    fault(
        "seeds_repeated",
        one_model_for_two_seeds,
        rf"distinct models of {TRIAL}: 2, wanted 3",
        compared_with_baseline="fail",
    ),
    fault(
        "seeds_repeated",
        one_seed_failed,
        rf"fresh seeds of {TRIAL} and baseline in round 1: 2, wanted at least 3",
        improvement_quantified="fail",
        decision_recorded="fail",
        results_reported="fail",
    ),
    fault(
        "guards_hold",
        more_memory_than_allowed,
        r"peak memory, over the baseline's: \d+\.\d+, wanted at most 2",
        config_from_recommendations="fail",
        changes_documented="fail",
        decision_recorded="fail",
        results_reported="fail",
    ),
    fault("reproducible", first_steps_edited, r"loss of step 3, trained again from the beginning"),
    fault(
        "best_and_last_checkpoints",
        last_in_the_place_of_best,
        r"epoch of the best checkpoint",
    ),
    fault(
        "best_and_last_checkpoints",
        best_in_the_place_of_last,
        rf"step of the last checkpoint of {TRIAL}",
    ),
    fault(
        "changes_documented",
        comment_removed,
        r"changed keys without a comment in .*\['model\.width'\]",
    ),
    fault(
        "changes_documented",
        another_patch_decided,
        r"patch of the decision in manifest\.json: .*'model\.width': 1[,}]",
        decision_recorded="fail",
    ),
    fault("curves_compared", curves_of_something_else, r"learning_curves\.svg shows the recorded"),
    fault("results_reported", number_edited, r"lines of optimization_results\.md .*0\.9867"),
    fault(
        "results_reported",
        section_renamed,
        r"missing sections of optimization_results\.md: \['Trials'\]",
    ),
    fault("results_reported", plot_gone, r"plots/improvement\.svg shows the recorded"),
    fault("decision_recorded", decision_edited, r"decision\.json: .*diminishing returns"),
    fault("decision_recorded", decision_of_the_round_edited, r"decision of round 1: .*next round"),
    fault("decision_recorded", round_not_entered, r"rounds that the ledger does not know: \[1\]"),
]


def test_every_check_has_a_planted_fault() -> None:
    assert without_failing_case("optimization", FAULTS) == set()


def test_the_gate_has_its_sixteen_checks() -> None:
    assert len(catalogue("optimization")) == 16


def test_passes_on_what_was_really_optimized(copied: Copied) -> None:
    """All 16, one of which starts a process."""
    results = judge_gate("optimization", copied(PROJECT, "optimization"))
    for check, result in results.items():
        assert result.outcome == "pass", f"{check}: {result.reason}"
        assert result.judgements


@pytest.mark.parametrize("planted", as_parameters(FAULTS))
def test_finds(planted: Fault, copied: Copied) -> None:
    assert_found(planted, copied(planted.project, "optimization"))


def test_the_report_shows_what_was_worse_and_what_chance_could_do(trained: Trained) -> None:
    project = trained(PROJECT, "optimization")
    assert project.returncode == 0
    report = (folder(project.path) / "optimization_results.md").read_text()
    assert "| recommended | model.width 32 | finished |" in report
    assert re.search(r"show a gain of 0\.\d+ in 8 of 10 repetitions", report)
    assert "interval 0." in report
    decision = json.loads((folder(project.path) / "decision.json").read_text())
    assert (decision["status"], decision["next"]) == ("target met", "finalization")
    assert decision["patch"]["model.width"] > 2
