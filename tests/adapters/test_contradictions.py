"""What contradicts the session is refused, by its name, with what to write instead."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from loops import needs
from small_trainings import Blobs, recorded, rehearse, small_config
from torch import nn

from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.training.session import TrainingSession

Train = Callable[[TrainingSession], None]


def refusal(folder: Path, train: Train, **training: Any) -> str:
    """The text of the error by which a loop is refused, before it has trained anything."""

    class Refused(Blobs):
        def train(self, session: TrainingSession) -> None:
            train(session)

    with pytest.raises(UserError) as raised:
        rehearse(Refused(), small_config(**training), folder)
    assert len(recorded(folder).steps) == 0
    return str(raised.value)


@pytest.mark.parametrize(
    ("module", "blocked", "extra"),
    [
        ("lightning", "lightning.pytorch", "lightning"),
        ("hugging_face", "transformers", "transformers"),
        ("accelerate", "accelerate", "accelerate"),
    ],
)
def test_framework_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, module: str, blocked: str, extra: str
) -> None:
    name = f"pytest_mltrainer.adapters.{module}"
    monkeypatch.setitem(sys.modules, blocked, None)
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(UserError, match=rf"pip install 'pytest-mltrainer\[{extra}\]'"):
        importlib.import_module(name)


@needs("lightning")
@pytest.mark.parametrize(
    ("options", "instead"),
    [
        ({"max_epochs": 7}, "training.epochs"),
        ({"gradient_clip_val": 1.0}, "training.clip_norm"),
        ({"accumulate_grad_batches": 3}, "training.accumulate"),
        ({"precision": "16-mixed"}, "torch.autocast in Task.predict"),
        ({"deterministic": True}, "training.deterministic_exceptions"),
        ({"logger": True}, "telemetry/"),
        ({"devices": 2, "enable_checkpointing": True}, "device in training_config.yaml"),
    ],
)
def test_options_of_lightning(tmp_path: Path, options: dict[str, Any], instead: str) -> None:
    from pytest_mltrainer.adapters.lightning import fit

    text = refusal(tmp_path, lambda session: fit(session, **options))
    for name, value in options.items():
        assert f"found {name}={value!r}" in text
    assert instead in text


@needs("lightning")
def test_options_that_agree_and_others_are_taken(tmp_path: Path) -> None:
    from pytest_mltrainer.adapters.lightning import fit

    class Agreeing(Blobs):
        def train(self, session: TrainingSession) -> None:
            fit(session, max_epochs=3, logger=False, log_every_n_steps=1, profiler="simple")

    rehearse(Agreeing(), small_config(), tmp_path)
    assert len(recorded(tmp_path).epochs) == 3


@needs("lightning")
@pytest.mark.parametrize(
    ("name", "instead"), [("EarlyStopping", "early_stopping"), ("ModelCheckpoint", "checkpoint")]
)
def test_callbacks_of_lightning(tmp_path: Path, name: str, instead: str) -> None:
    import lightning.pytorch.callbacks as kinds

    from pytest_mltrainer.adapters.lightning import fit

    callback = getattr(kinds, name)(monitor="loss")
    text = refusal(tmp_path, lambda session: fit(session, callbacks=[callback]))
    assert f"found the callback {name}" in text
    assert f"training.{instead}" in text


@needs("lightning")
@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"configure_optimizers": lambda self: None}, "Task.optimizer(model, config)"),
        ({"train_dataloader": lambda self: None}, "Task.data(config)"),
        ({"automatic_optimization": False}, "wanted True"),
        ({"model": nn.Linear(4, 3)}, "wanted session.model"),
        ({"extra": nn.Linear(2, 2)}, "(extra.weight, extra.bias)"),
    ],
    ids=["optimizer", "loader", "manual", "other model", "strangers"],
)
def test_modules_of_lightning(tmp_path: Path, change: dict[str, Any], wanted: str) -> None:
    from lightning.pytorch import LightningModule

    from pytest_mltrainer.adapters.lightning import fit

    def train(session: TrainingSession) -> None:
        methods = {name: value for name, value in change.items() if callable(value)}
        methods = {name: part for name, part in methods.items() if not isinstance(part, nn.Module)}
        module = type("Mine", (LightningModule,), methods)()
        module.model = session.model
        for name in change.keys() - methods.keys():
            setattr(module, name, change[name])
        fit(session, module)

    text = refusal(tmp_path, train)
    assert text.startswith("Mine: found ")
    assert wanted in text


@needs("lightning")
def test_what_is_no_module_of_lightning(tmp_path: Path) -> None:
    from pytest_mltrainer.adapters.lightning import fit

    text = refusal(tmp_path, lambda session: fit(session, nn.Linear(2, 2)))  # type: ignore[arg-type]
    assert "wanted a LightningModule" in text


@needs("transformers")
@pytest.mark.parametrize(
    ("options", "instead"),
    [
        ({"learning_rate": 0.3}, "training.learning_rate"),
        ({"num_train_epochs": 9}, "training.epochs"),
        ({"save_strategy": "epoch"}, "training.checkpoint_every"),
        ({"eval_strategy": "steps", "eval_steps": 1}, "Task.metrics"),
        ({"bf16": True}, "torch.autocast in Task.predict"),
        ({"seed": 9}, "seed in training_config.yaml"),
        ({"max_grad_norm": 2.0}, "training.clip_norm"),
        ({"report_to": ["tensorboard"]}, "telemetry/"),
    ],
)
def test_arguments_of_hugging_face(tmp_path: Path, options: dict[str, Any], instead: str) -> None:
    from transformers import TrainingArguments

    from pytest_mltrainer.adapters.hugging_face import fit

    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, **options)
    text = refusal(tmp_path, lambda session: fit(session, arguments))
    name, value = next(iter(options.items()))
    assert f"TrainingArguments: found {name}={value!r}" in text
    assert instead in text


@needs("transformers")
def test_arguments_that_agree_and_others_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import TrainerCallback, TrainingArguments

    from pytest_mltrainer.adapters.hugging_face import fit

    logged: list[dict[str, float]] = []

    class Listener(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: Any, **rest: Any) -> None:
            logged.append(logs)

    class Agreeing(Blobs):
        def train(self, session: TrainingSession) -> None:
            arguments = TrainingArguments(use_cpu=True, learning_rate=0.05, logging_steps=1)
            fit(session, arguments, callbacks=[Listener()])

    monkeypatch.chdir(tmp_path)
    rehearse(Agreeing(), small_config(), tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    losses = [entry["loss"] for entry in logged if "loss" in entry]
    assert losses == pytest.approx(list(recorded(tmp_path / "out").steps["loss"]), rel=1e-6)


@needs("accelerate")
@pytest.mark.parametrize(
    ("options", "instead"),
    [
        ({"mixed_precision": "bf16"}, "torch.autocast in Task.predict"),
        ({"gradient_accumulation_steps": 4}, "training.accumulate"),
        ({"log_with": "tensorboard"}, "telemetry/"),
        ({"project_dir": "here"}, "training.checkpoint_every"),
    ],
)
def test_options_of_accelerate(tmp_path: Path, options: dict[str, Any], instead: str) -> None:
    from pytest_mltrainer.adapters.accelerate import accelerated

    def train(session: TrainingSession) -> None:
        with accelerated(session, **options):
            pass

    text = refusal(tmp_path, train)
    assert f"found {next(iter(options))}=" in text
    assert instead in text


@needs("accelerate")
@pytest.mark.parametrize(
    "method",
    ["clip_grad_norm_", "clip_grad_value_", "save_state", "load_state",
     "register_for_checkpointing"],
)  # fmt: skip
def test_methods_of_accelerate(tmp_path: Path, method: str) -> None:
    from pytest_mltrainer.adapters.accelerate import accelerated

    def train(session: TrainingSession) -> None:
        with accelerated(session) as (accelerator, model, _):
            getattr(accelerator, method)(model.parameters(), 1.0)

    assert f"found accelerator.{method}()" in refusal(tmp_path, train)


@needs("accelerate")
def test_an_accelerator_of_before_keeps_its_settings(tmp_path: Path) -> None:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState, GradientState

    from pytest_mltrainer.adapters.accelerate import accelerated

    class Second(Blobs):
        def train(self, session: TrainingSession) -> None:
            with accelerated(session) as (accelerator, model, _):
                assert accelerator.mixed_precision == "no"
                assert model is session.model
                assert accelerator.device == torch.device("cpu")

    AcceleratorState._reset_state(reset_partial_state=True)
    first = Accelerator(cpu=True, mixed_precision="bf16", gradient_accumulation_steps=3)
    try:
        rehearse(Second(), small_config(), tmp_path)
        assert first.mixed_precision == "bf16"
        assert first.gradient_accumulation_steps == 3
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
