"""`training_config.yaml` as a whole: defaults, errors in plain words, overrides, patches."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pytest_mltrainer.core.config import (
    Config,
    Section,
    apply_patch,
    flatten,
    json_schema,
    load_config,
)
from pytest_mltrainer.core.errors import ConfigError

NAME = "training_config.yaml"

TRAINING = st.fixed_dictionaries(
    {},
    optional={
        "epochs": st.integers(1, 500),
        "learning_rate": st.floats(1e-6, 1.0) | st.just(1),
        "optimizer": st.sampled_from(["sgd", "adam", "adamw", "task"]),
        "clip_norm": st.none() | st.floats(0.1, 10),
        "early_stopping": st.none()
        | st.fixed_dictionaries(
            {"patience": st.integers(1, 9)}, optional={"min_delta": st.just(0.1)}
        ),
        "unused_parameters": st.lists(st.sampled_from(["a.*", "b"]), max_size=2),
        "shuffle": st.booleans(),
    },
)
PHASE = st.fixed_dictionaries({}, optional={"training": TRAINING, "seed": st.integers(0, 99)})
FREE = st.dictionaries(
    st.sampled_from(["width", "depth", "path"]),
    st.integers() | st.lists(st.booleans(), max_size=2) | st.just({"inner": {"x": 1.5}}),
    max_size=3,
)
CONFIGS = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.integers(0, 2**32 - 1),
        "device": st.sampled_from(["auto", "cpu", "cuda:1", "mps"]),
        "training": TRAINING,
        "phases": st.fixed_dictionaries({}, optional={"baseline": PHASE, "finalization": PHASE}),
        "objective": st.just({"metric": "recall", "target": 0.9}),
        "model": FREE,
        "data": FREE,
    },
)


def load(folder: Path, text: str) -> Config:
    (folder / NAME).write_text(text)
    return load_config(folder / NAME)


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        load(folder, text)
    return raised.value.problems


def test_a_small_file_has_all_defaults(tmp_path: Path) -> None:
    config = load(tmp_path, "seed: 3\ntraining:\n  learning_rate: 1e-2\n")
    assert config.seed == 3
    assert config.training.learning_rate == 0.01
    assert (config.device, config.threads) == ("auto", 1)
    assert (config.training.epochs, config.training.batch_size) == (20, 64)
    assert config.training.optimizer == "adamw"
    assert config.training.early_stopping is None
    assert config.objective.target is None
    assert config.export.formats == ("onnx",)
    assert config.budgets.worker_timeout_minutes == 1440
    assert config.limits.max_flip_share == 0.005
    assert config.model == {}


def test_a_whole_number_is_a_number(tmp_path: Path) -> None:
    rate = load(tmp_path, "training: {learning_rate: 1}").training.learning_rate
    assert rate == 1.0
    assert isinstance(rate, float)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "training:\n  momentum: 0,8",
            f"{NAME}:2 training.momentum: found '0,8' (text), wanted a number from 0 to 1: "
            "write 0.8",
        ),
        (
            "training:\n  momentum: 80%",
            f"{NAME}:2 training.momentum: found '80%' (text), wanted a number from 0 to 1: "
            "write 0.8",
        ),
        (
            "training: {epochs: 20.0}",
            f"{NAME}:1 training.epochs: found 20.0 (number), wanted a whole number from 1 to "
            "1000000000: write 20",
        ),
        (
            "training:\n  shuffle: no",
            f"{NAME}:2 training.shuffle: found 'no' (text), wanted true or false: write false",
        ),
        (
            "training: {batch_size: true}",
            f"{NAME}:1 training.batch_size: found true (true/false), wanted a whole number from 1 "
            "to 1000000000: write such a value, or 64, the default",
        ),
        (
            "training: {weight_decay: true}",
            f"{NAME}:1 training.weight_decay: found true (true/false), wanted a number of at least "
            "0: write such a value, or 0.01, the default",
        ),
        (
            "training: {learning_rate: .inf}",
            f"{NAME}:1 training.learning_rate: found inf (not a finite number), wanted a number "
            "above 0 up to 100: write such a value, or 0.001, the default",
        ),
        (
            "training: {label_smoothing: 1}",
            f"{NAME}:1 training.label_smoothing: found 1 (whole number), wanted a number from 0 to "
            "below 1: write such a value, or 0.0, the default",
        ),
        (
            "training: {optimizer: AdamW}",
            f"{NAME}:1 training.optimizer: found 'AdamW' (text), wanted one of sgd, adam, adamw, "
            "task: write adamw",
        ),
        (
            "export:\n  formats: onnx",
            f"{NAME}:2 export.formats: found 'onnx' (text), wanted a list, each item a text: "
            "write a list: [onnx]",
        ),
        (
            "training:\n  early_stopping: {min_delta: 0.1}",
            f"{NAME}:2 training.early_stopping.patience: found nothing, wanted a whole number from "
            "1 to 1000000000: add the key",
        ),
        (
            "device: cudda",
            f"{NAME}:1 device: found 'cudda' (text), wanted one of auto, cpu, cuda, cuda:0, mps: "
            "write one of them. Did you mean 'cuda'?",
        ),
        (
            "objective: {metric: 3}",
            f"{NAME}:1 objective.metric: found 3 (whole number), wanted a text or null: "
            "write it in quotes: '3'",
        ),
        (
            "training: [1, 2]",
            f"{NAME}:1 training: found a list of 2, wanted a mapping: write such a value, or "
            "delete the key",
        ),
        (
            "training:\n  epoch: 3",
            f"{NAME}:2 training.epoch: found an unknown key, wanted one that exists: "
            "rename or delete it. Did you mean 'epochs'?",
        ),
        (
            "learning_rate: 3",
            f"{NAME}:1 learning_rate: found an unknown key, wanted one that exists: "
            "rename or delete it. Did you mean 'training.learning_rate'?",
        ),
        (
            "model:\n  a: [1, .nan]",
            f"{NAME}:2 model.a[1]: found nan (not a finite number), wanted a finite number: "
            "write another value or delete the key",
        ),
    ],
)
def test_an_error_has_four_parts(tmp_path: Path, text: str, sentence: str) -> None:
    assert problems(tmp_path, text) == [sentence]


@pytest.mark.parametrize("value", ["-1", "1.5", ".nan", "-.inf", "1e999", "half", "null", "[0.5]"])
def test_a_share_is_from_0_to_1(tmp_path: Path, value: str) -> None:
    (problem,) = problems(tmp_path, f"limits: {{min_class_recall: {value}}}")
    assert "wanted a number from 0 to 1" in problem


def test_an_unknown_key_of_ones_own_is_sent_to_model_or_data(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "xyzzy: 1")
    assert "below 'model' or 'data'" in problem
    assert "wanted one of seed, device" in problem


def test_all_problems_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = (
        "sed: 1\ndata: {a: .inf}\ntraining:\n  epochs: 0\n  epochs: 1\n  shuffle: 1\nmodel: &m {}\n"
    )
    found = problems(tmp_path, text)
    assert [problem.split()[0] for problem in found] == [f"{NAME}:{i}" for i in (1, 2, 5, 6, 7)]


def test_a_refused_value_is_one_problem_only(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "training:\n  epochs: *x\n")
    assert "alias" in problem


def test_tags_run_nothing(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    (problem,) = problems(tmp_path, f"model: {{a: !!python/object/apply:os.mkdir ['{target}']}}")
    assert "found the tag '!!python/object/apply:os.mkdir'" in problem
    assert not target.exists()


def test_thousands_of_problems_are_cut_and_quick(tmp_path: Path) -> None:
    started = time.process_time()
    found = problems(tmp_path, "\n".join(f"key{i}: 1" for i in range(3000)))
    assert len(found) == 51
    assert "more problems" in found[-1]
    assert time.process_time() - started < 2


def test_missing_file_says_init(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run `pytest-mltrainer init`"):
        load_config(tmp_path / NAME)


def test_everything_is_frozen() -> None:
    config = Config()
    with pytest.raises(ValidationError):
        config.seed = 1
    with pytest.raises(ValidationError):
        config.training.epochs = 1
    config.to_json()["model"]["a"] = 1
    assert config.model == {}


@given(values=CONFIGS)
@settings(deadline=None, max_examples=60)
def test_stored_and_read_back_it_is_the_same(values: dict[str, Any]) -> None:
    config = Config.from_json(values)
    stored = json.loads(json.dumps(config.to_json(), allow_nan=False))
    again = Config.from_json(stored)
    assert again.to_json() == config.to_json() == stored
    for phase in ("baseline", "finalization"):
        assert again.for_phase(phase) == config.for_phase(phase)


@given(values=CONFIGS)
@settings(deadline=None, max_examples=60)
def test_a_patch_with_every_leaf_makes_any_config_from_any_other(values: dict[str, Any]) -> None:
    config = Config.from_json(values)
    assert apply_patch(config, flatten(config.to_json())).to_json() == config.to_json()


@given(values=CONFIGS)
@settings(deadline=None, max_examples=60)
def test_a_phase_has_its_overrides_and_nothing_else(values: dict[str, Any]) -> None:
    config = Config.from_json(values)
    override = values.get("phases", {}).get("finalization", {})
    final = config.for_phase("finalization")
    wanted = Config.from_json(
        {
            **config.to_json(),
            "training": {**config.to_json()["training"], **override.get("training", {})},
            "seed": override.get("seed", config.seed),
            "phases": {},
        }
    )
    assert final == wanted
    assert final.for_phase("finalization") == final


def test_planning_and_diagnostics_use_the_baselines(tmp_path: Path) -> None:
    text = "phases:\n  baseline: {training: {epochs: 7}, seed: 5}\n  finalization: {seed: 6}\n"
    config = load(tmp_path, text)
    for phase in ("planning", "baseline", "diagnostics"):
        assert config.for_phase(phase).training.epochs == 7
        assert config.for_phase(phase).seed == 5
    assert config.for_phase("finalization").training.epochs == 20
    assert config.for_phase("finalization").seed == 6
    assert config.for_phase("optimization").seed == 5
    with pytest.raises(KeyError):
        config.for_phase("nothing")


def test_a_patch_of_a_phase_comes_last_and_planning_does_not_see_it(tmp_path: Path) -> None:
    text = "phases:\n  finalization: {training: {epochs: 7}}\nmodel: {width: 3}\n"
    config = load(tmp_path, text)
    patched = config.with_patch("finalization", {"training.epochs": 9, "model.width": 5, "seed": 2})
    final = Config.from_json(patched.to_json()).for_phase("finalization")
    assert (final.training.epochs, final.model["width"], final.seed) == (9, 5, 2)
    assert patched.for_phase("baseline") == config.for_phase("baseline")
    assert patched.without_patches() == config
    tried = config.with_patch("optimization", {"seed": 4})
    assert tried.without_patches() == config


def test_a_file_holds_no_patch(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"phases\.finalization\.patch: found patch"):
        load(tmp_path, "phases:\n  finalization: {patch: {seed: 3}}\n")


def test_an_override_may_take_back_what_the_project_set(tmp_path: Path) -> None:
    text = (
        "training: {early_stopping: {patience: 3}, epochs: 9}\n"
        "phases: {baseline: {training: {early_stopping: null, epochs: 20}}}\n"
    )
    baseline = load(tmp_path, text).for_phase("baseline")
    assert baseline.training.early_stopping is None
    assert baseline.training.epochs == 20


def test_overrides_are_checked_like_the_rest(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "phases:\n  finalization:\n    training: {epochs: 0}\n")
    assert problem.startswith(f"{NAME}:3 phases.finalization.training.epochs: found 0")


def test_a_patch_sets_existing_and_new_keys() -> None:
    config = Config.from_json({"model": {"encoder": {"width": 8}}})
    patched = apply_patch(
        config,
        {
            "training.epochs": 3,
            "training.early_stopping.patience": 4,
            "phases.finalization.training.epochs": 50,
            "model.encoder.width": 16,
            "model.decoder.sizes": (1, 2),
        },
    )
    assert patched.training.epochs == 3
    assert patched.training.early_stopping is not None
    assert patched.training.early_stopping.patience == 4
    assert patched.for_phase("finalization").training.epochs == 50
    assert patched.model == {"encoder": {"width": 16}, "decoder": {"sizes": [1, 2]}}
    assert config.model == {"encoder": {"width": 8}}
    assert config.training.epochs == 20


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("training.epoch", 3, "Did you mean 'epochs'?"),
        ("trainig.epochs", 3, "Did you mean 'training'?"),
        ("training.epochs", "3", "found '3' (text), wanted a whole number"),
        ("training.learning_rate", float("nan"), "not a finite number"),
        ("seed.x", 3, "patch seed: found 0 (whole number), wanted a mapping that can hold 'x'"),
        ("model.width.x", 3, "patch model.width: found 8 (whole number)"),
        ("model.width", float("inf"), "not a finite number"),
        ("model.width", object(), "found an object of type object"),
        ("model.", 3, "a text without a dot"),
        ("model..x", 3, "a text without a dot"),
    ],
)
def test_a_patch_is_refused(key: str, value: object, words: str) -> None:
    config = Config.from_json({"model": {"width": 8}})
    with pytest.raises(ConfigError) as raised:
        apply_patch(config, {key: value})
    assert words in str(raised.value)


def test_reads_of_model_and_data_are_recorded(tmp_path: Path) -> None:
    config = load(tmp_path, "model: {width: 4, unused: 1}\ndata: {files: {train: a.csv}}\n")
    assert isinstance(config.model, Section)
    assert config.model["width"] == 4
    assert config.data["files"]["train"] == "a.csv"
    assert config.reads == {"model.width", "data.files.train"}
    config.to_json()
    assert "unused" not in str(config.reads)
    assert config.for_phase("baseline").reads == frozenset()


def test_the_schema_describes_every_setting() -> None:
    schema = json_schema()
    json.dumps(schema)
    for name, node in [("Config", schema), *schema["$defs"].items()]:
        assert node["additionalProperties"] is False, name
        for key, field in node["properties"].items():
            assert field.get("description"), f"{name}.{key} has no description"
    assert "minimum" in schema["$defs"]["Training"]["properties"]["epochs"]


def test_the_defaults_written_out_are_a_valid_file(tmp_path: Path) -> None:
    config = load(tmp_path, yaml.safe_dump(Config().to_json()))
    assert config == Config()


def test_import_is_light() -> None:
    code = (
        "import sys, pytest_mltrainer.core.config; "
        "print([name for name in ('torch', 'numpy', 'pytest') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
