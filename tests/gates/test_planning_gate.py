"""Every check of the planning gate: a run that passes it, and a fault that it finds."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from planted import (
    Copied,
    Fault,
    add_method,
    artifact_edited,
    as_parameters,
    assert_found,
    document_data,
    edit,
    edit_config,
    edit_task,
    rehearse_again,
    without_failing_case,
)
from support import judge_check, phase_folder, plant

from pytest_mltrainer.core.catalogue import catalogue
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.training.environment import LOCK_FILE, lock_of
from pytest_mltrainer.training.source import capture_source

LAYERS = "return nn.Sequential(nn.Linear(30, width), nn.ReLU(), nn.Linear(width, 2))"


def other_split(project: Path) -> None:
    edit_task(project, "random_state=0", "random_state=1")


def lost_row(project: Path) -> None:
    edit_task(project, "inputs[test], targets[test]", "inputs[test[1:]], targets[test[1:]]")


def validation_rows_in_train(project: Path) -> None:
    edit_task(
        project,
        "        mean, scale",
        "        train = train + validation[:2]\n        mean, scale",
    )
    document_data(project)


def a_table_of_few_categories(project: Path) -> None:
    edit_task(
        project,
        "        targets = ",
        "        inputs = (inputs > 0).float()\n        inputs[:, 4:] = 0.0\n        targets = ",
    )
    document_data(project)


def patient_in_two_splits(project: Path) -> None:
    add_method(
        project,
        "    def sample_key(self, split: str, index: int) -> str:\n"
        '        return "patient 17" if index == 17 else f"{split} {index}"',
    )
    document_data(project)


def nan_in_inputs(project: Path) -> None:
    edit_task(
        project,
        "        targets = torch",
        "        inputs[train[40], 7] = float('nan')\n        targets = torch",
    )
    rehearse_again(project)


def class_of_three_rows(project: Path) -> None:
    edit_task(
        project, "        return Splits", "        targets[train[:3]] = 2\n        return Splits"
    )
    edit_task(project, "nn.Linear(width, 2)", "nn.Linear(width, 3)")
    rehearse_again(project)


def infinite_target(project: Path) -> None:
    edit_task(
        project, "        return Splits", "        targets[7] = float('inf')\n        return Splits"
    )
    document_data(project)


def add_layer(project: Path, expression: str) -> None:
    """Put a layer without weights before the others."""
    edit_task(project, "nn.Sequential(nn.Linear", "nn.Sequential(Layer(), nn.Linear")
    with (project / "task.py").open("a") as task:
        task.write(
            "\n\nclass Layer(nn.Module):\n"
            "    def forward(self, inputs: torch.Tensor) -> torch.Tensor:\n"
            f"        return {expression}\n"
        )
    rehearse_again(project)


def centred_on_the_batch(project: Path) -> None:
    add_layer(project, "inputs - inputs.mean(0)")


def next_row_mixed_in(project: Path) -> None:
    add_layer(project, "inputs + torch.cat([inputs[1:], 0 * inputs[:1]])")


def batch_taken_for_time(project: Path) -> None:
    """What `nn.LSTM` does to rows without `batch_first`: each sees those before it."""
    edit_task(project, LAYERS, "return Recurrent()")
    with (project / "task.py").open("a") as task:
        task.write(
            "\n\nclass Recurrent(nn.Module):\n"
            "    def __init__(self) -> None:\n"
            "        super().__init__()\n"
            "        self.cell, self.head = nn.RNN(30, 16), nn.Linear(16, 2)\n\n"
            "    def forward(self, inputs: torch.Tensor) -> torch.Tensor:\n"
            "        return self.head(self.cell(inputs)[0])\n"
        )
    rehearse_again(project)


def logarithm_when_evaluating(project: Path) -> None:
    edit_task(project, "import torch\n", "import torch\nfrom torch import Tensor\n")
    add_method(
        project,
        "    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:\n"
        "        outputs = model(inputs)\n"
        "        return outputs if model.training else torch.log(outputs)",
    )
    rehearse_again(project)


def first_layer_in_no_optimizer(project: Path) -> None:
    add_method(
        project,
        "    def optimizer(self, model: nn.Module, config: Config) -> torch.optim.Optimizer:\n"
        "        return torch.optim.Adam(model[2].parameters(), lr=config.training.learning_rate)",
    )
    rehearse_again(project)


def layer_twice_in_the_optimizer(project: Path) -> None:
    add_method(
        project,
        "    def optimizer(self, model: nn.Module, config: Config) -> torch.optim.Optimizer:\n"
        "        wanted = [*model.parameters(), *model[2].parameters()]\n"
        "        return torch.optim.Adam(wanted, lr=config.training.learning_rate)",
    )
    rehearse_again(project)


def unused_head(project: Path) -> None:
    edit_task(
        project,
        LAYERS,
        f"{LAYERS.replace('return', 'model =')}\n"
        "        model[1].head = nn.Linear(3, 3)\n"
        "        return model",
    )
    rehearse_again(project)


def nothing_to_learn_with(project: Path) -> None:
    edit_task(
        project, LAYERS, "return nn.Sequential(nn.Linear(30, 2), nn.Softmax(1), nn.Softmax(1))"
    )
    rehearse_again(project)


def torch_was_another(project: Path) -> None:
    with artifact_edited(project, "planning/environment.json") as environment:
        environment["packages"]["torch"] = "1.0.0"
    (phase_folder(project, "planning") / LOCK_FILE).write_text(lock_of(environment))


def secret_in_the_environment(project: Path) -> None:
    with artifact_edited(project, "planning/environment.json") as environment:
        environment["variables"]["PYTHON_API_TOKEN"] = "hunter2"


def environment_without_threads(project: Path) -> None:
    with artifact_edited(project, "planning/environment.json") as environment:
        del environment["threads"]


def lock_of_other_packages(project: Path) -> None:
    path = phase_folder(project, "planning") / LOCK_FILE
    path.write_text(path.read_text().replace("numpy==", "numpy==0."))


def config_edited(project: Path) -> None:
    edit_config(project, "learning_rate: 0.005", "learning_rate: 0.05")


def other_draws(project: Path) -> None:
    with artifact_edited(project, "planning/rehearsal/second.json") as second:
        second["draws"]["numpy"] = "[0.25, 0.5, 0.75, 1.0]"


def determinism_switched_off_by_the_task(project: Path) -> None:
    edit_task(
        project,
        "        width = config",
        "        torch.use_deterministic_algorithms(False)\n        width = config",
    )
    rehearse_again(project)


def other_gradients_at_step_7(project: Path) -> None:
    with artifact_edited(project, "planning/rehearsal/second.json") as second:
        for step in second["steps"][7:]:
            step.update(dict.fromkeys(("gradients", "parameters", "optimizer"), "0" * 64))


def fewer_steps_in_the_second_process(project: Path) -> None:
    with artifact_edited(project, "planning/rehearsal/second.json") as second:
        del second["steps"][12:]


def seed_of_its_own(project: Path) -> None:
    edit_task(
        project, "        width = config", "        torch.manual_seed(0)\n        width = config"
    )
    edit_config(project, "  epochs: 8", "  epochs: 8\n  shuffle: false")
    rehearse_again(project)
    with artifact_edited(project, "planning/config_resolved.json") as resolved:
        resolved["training"]["shuffle"] = False


def learning_rate_of_its_own(project: Path) -> None:
    add_method(
        project,
        "    def optimizer(self, model: nn.Module, config: Config) -> torch.optim.Optimizer:\n"
        "        return torch.optim.Adam(model.parameters(), lr=0.005)",
    )
    rehearse_again(project)


def other_batches_in_the_second_process(project: Path) -> None:
    with artifact_edited(project, "planning/rehearsal/second.json") as second:
        second["loaders"]["0"][2] = "0" * 64


def loader_workers_that_draw_alike(project: Path) -> None:
    for role in ("first", "second"):
        with artifact_edited(project, f"planning/rehearsal/{role}.json") as found:
            found["worker_draws"]["1"] = found["worker_draws"]["0"]


def stored_source_edited(project: Path) -> None:
    source = phase_folder(project, "planning") / "sources/task.py"
    edit(source, "nn.ReLU()", "nn.Tanh()")


def put_under_git(project: Path) -> None:
    """Record the source as planning does in a repository whose last commit is not what trained."""
    shutil.rmtree(phase_folder(project, "planning") / "sources")
    for command in (
        ["init", "--quiet"],
        ["add", "task.py", "training_config.yaml", "pyproject.toml"],
        ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "first"],
    ):
        subprocess.run(["git", *command], cwd=project, check=True, capture_output=True)
    (project / ".gitignore").write_text(".mltrainer/\n")
    state = capture_source(Project.load(project))
    folder = phase_folder(project, "planning")
    (folder / "source.json").write_text(json.dumps(state.facts))
    (folder / "source.patch").write_bytes(state.patch)


def patch_of_another_tree(project: Path) -> None:
    put_under_git(project)
    edit(phase_folder(project, "planning") / "source.patch", "+.mltrainer/", "+.other/")


def patch_that_does_not_apply(project: Path) -> None:
    put_under_git(project)
    edit(phase_folder(project, "planning") / "source.patch", "@@ -0,0 +1", "@@ -0,0 +1,9")


def commit_of_other_code(project: Path) -> None:
    edit_task(project, "nn.ReLU()", "nn.Tanh()")
    put_under_git(project)


def target_lowered_after_planning(project: Path) -> None:
    edit_config(project, "target: 0.9", "target: 0.8")


def objective_not_entered_in_the_ledger(project: Path) -> None:
    ledger = project / ".mltrainer/ledger.jsonl"
    entry = json.loads(ledger.read_text())
    ledger.write_text(json.dumps({**entry, "objective": "0" * 64}) + "\n")


FAULTS = [
    Fault(
        check="planning/loader_workers_seeded",
        plant=other_batches_in_the_second_process,
        says=r"5 batches with 0 loader workers in two processes",
    ),
    Fault(
        check="planning/loader_workers_seeded",
        plant=loader_workers_that_draw_alike,
        says=r"different draws of the workers: 1, wanted 2",
    ),
    Fault(
        check="planning/source_state_recorded",
        plant=stored_source_edited,
        says=r"1 stored sources against what was rehearsed",
    ),
    Fault(
        check="planning/source_state_recorded",
        plant=patch_of_another_tree,
        says=r"tree of commit \w{12} with the recorded patch",
    ),
    Fault(
        check="planning/source_state_recorded",
        plant=patch_that_does_not_apply,
        says=r"commit and recorded patch: git apply",
    ),
    Fault(
        check="planning/source_state_recorded",
        plant=commit_of_other_code,
        says=r"1 sources in that tree, against the rehearsed ones",
    ),
    Fault(
        check="planning/objective_preregistered",
        plant=target_lowered_after_planning,
        says=r"objective\.json: .*0\.9.*wanted .*0\.8",
        also={"config_valid": "fail"},
    ),
    Fault(
        check="planning/objective_preregistered",
        plant=objective_not_entered_in_the_ledger,
        says=r"objective in the ledger at the last planning: 0000",
    ),
    Fault(
        check="planning/splits_documented",
        plant=other_split,
        says=r"digest of train",
    ),
    Fault(
        check="planning/splits_documented", plant=lost_row, says=r"samples in test: 130, wanted 129"
    ),
    Fault(
        check="planning/splits_disjoint",
        plant=validation_rows_in_train,
        says=r"equal samples in train/validation \(2: train\[309\] = validation\[0\]",
    ),
    Fault(
        check="planning/splits_disjoint",
        plant=patient_in_two_splits,
        says=r"identities shared by train/validation: 1",
    ),
    Fault(
        check="planning/data_valid",
        plant=nan_in_inputs,
        says=r"training inputs that are not finite \(rows \[40\]\)",
    ),
    Fault(
        check="planning/data_valid",
        plant=class_of_three_rows,
        says=r"training samples of class 2: 3.* at least 30",
    ),
    Fault(
        check="planning/data_valid",
        plant=infinite_target,
        project="healthy_regression",
        says=r"targets that are not finite: 1",
    ),
    Fault(
        check="planning/forward_pass",
        plant=centred_on_the_batch,
        says=r"batch of 1 against batch of B",
    ),
    Fault(
        check="planning/forward_pass",
        plant=next_row_mixed_in,
        says=r"influence of the other samples",
    ),
    Fault(
        check="planning/forward_pass",
        plant=batch_taken_for_time,
        says=r"batch of 1 against batch of B",
    ),
    Fault(
        check="planning/forward_pass",
        plant=logarithm_when_evaluating,
        says=r"outputs are finite: False",
    ),
    Fault(
        check="planning/model_trainable",
        plant=first_layer_in_no_optimizer,
        says=r"parameters in no optimizer: \['0\.weight', '0\.bias'\]",
    ),
    Fault(
        check="planning/model_trainable",
        plant=layer_twice_in_the_optimizer,
        says=r"parameters twice in the optimizer: \['2\.weight', '2\.bias'\]",
    ),
    Fault(
        check="planning/model_trainable",
        plant=unused_head,
        says=r"parameters without a gradient: \['1\.head\.weight', '1\.head\.bias'\]",
    ),
    Fault(
        check="planning/model_trainable",
        plant=nothing_to_learn_with,
        says=r"share of the loss left on 8 samples",
    ),
    Fault(
        check="planning/environment_captured",
        plant=secret_in_the_environment,
        says=r"should have been redacted: \['PYTHON_API_TOKEN'\]",
    ),
    Fault(
        check="planning/environment_captured",
        plant=lock_of_other_packages,
        says=r"lines of requirements\.lock\.txt that are not recorded: \['numpy==",
    ),
    Fault(
        check="planning/environment_captured",
        plant=torch_was_another,
        says=r"torch 1\.0\.0 -> \d",
    ),
    Fault(
        check="planning/environment_captured",
        plant=environment_without_threads,
        says=r"missing parts of the environment: \['threads'\]",
    ),
    Fault(
        check="planning/config_valid",
        plant=config_edited,
        says=r"sections .* differ from the file's: training",
    ),
    Fault(
        check="planning/seeds_fixed",
        plant=other_draws,
        says=r"draws of numpy in two processes: \[0\.25",
    ),
    Fault(
        check="planning/deterministic_algorithms",
        plant=determinism_switched_off_by_the_task,
        says=r"use_deterministic_algorithms: False, wanted True",
    ),
    Fault(
        check="planning/two_runs_identical",
        plant=other_gradients_at_step_7,
        says=r"step 7: gradients in two processes",
    ),
    Fault(
        check="planning/two_runs_identical",
        plant=fewer_steps_in_the_second_process,
        says=r"steps trained in the two processes: 12, wanted 20",
    ),
    Fault(
        check="planning/other_seed_differs",
        plant=seed_of_its_own,
        says=r"another seed: equal, wanted different",
    ),
    Fault(
        check="planning/config_governs_run",
        plant=learning_rate_of_its_own,
        says=r"1\.5 x the learning rate: equal, wanted different",
    ),
]


def nan_from_the_first_step(project: Path) -> None:
    add_method(
        project,
        "    def loss(self, outputs: torch.Tensor, targets: torch.Tensor, config: Config):\n"
        "        return outputs.sum() * float('nan')",
    )
    rehearse_again(project)


UNDECIDABLE = [
    Fault(
        check="planning/two_runs_identical",
        plant=nan_from_the_first_step,
        outcome="cannot judge",
        says=r"no step was trained in the rehearsal",
        also={
            "other_seed_differs": "cannot judge",
            "config_governs_run": "cannot judge",
            "model_trainable": "fail",
        },
    ),
]


def optimizer_of_the_task(project: Path) -> None:
    learning_rate_of_its_own(project)
    edit_config(project, "optimizer: adam", "optimizer: task")
    with artifact_edited(project, "planning/config_resolved.json") as resolved:
        resolved["training"]["optimizer"] = "task"


def test_every_check_has_a_planted_fault() -> None:
    assert without_failing_case("planning", FAULTS) == set()


@pytest.mark.parametrize("name", ["healthy", "healthy_regression"])
@pytest.mark.parametrize("check", [check.id for check in catalogue("planning")])
def test_passes_on_a_sound_project(check: str, name: str, copied: Copied) -> None:
    result = judge_check(check, copied(name))
    assert (result.outcome, result.reason) == ("pass", "")
    assert result.judgements


@pytest.mark.parametrize("fault", as_parameters([*FAULTS, *UNDECIDABLE]))
def test_finds(fault: Fault, copied: Copied) -> None:
    assert_found(fault, copied(fault.project))


def test_config_governs_run_does_not_concern_a_task_with_its_own_optimizer(copied: Copied) -> None:
    project = copied("healthy")
    optimizer_of_the_task(project)
    result = judge_check("planning/config_governs_run", project)
    assert result.outcome == "not applicable"
    assert "own optimizer" in result.reason


def test_source_under_git_is_made_again_from_commit_and_patch(copied: Copied) -> None:
    project = copied("healthy")
    put_under_git(project)
    result = judge_check("planning/source_state_recorded", project)
    assert result.outcome == "pass"
    assert "with the recorded patch" in result.judgements[0]["what"]


def test_unused_parameters_that_are_declared_are_no_fault(copied: Copied) -> None:
    project = copied("healthy")
    unused_head(project)
    edit_config(project, "  epochs: 8", '  epochs: 8\n  unused_parameters: ["1.head.*"]')
    assert judge_check("planning/model_trainable", project).outcome == "pass"


def test_rows_that_categories_repeat_by_nature_are_noted_and_not_counted(copied: Copied) -> None:
    project = copied("healthy")
    a_table_of_few_categories(project)
    result = judge_check("planning/splits_disjoint", project)
    assert result.outcome == "pass"
    assert "equal samples in train/validation are what chance explains" in str(result.notes)


def test_a_model_that_blows_rounding_up_is_not_said_to_mix_samples(copied: Copied) -> None:
    def measured_so(folder: Path) -> None:
        path = folder / "rehearsal/first.json"
        found = json.loads(path.read_text())
        found["forward"] |= {"single_difference": 0.36, "rounding_difference": 1.26}
        path.write_text(json.dumps(found))

    project = plant(copied("healthy"), measured_so, "planning")
    result = judge_check("planning/forward_pass", project)
    assert result.outcome == "cannot judge"
    assert "rounding alone moves the outputs by 1.3" in result.reason
