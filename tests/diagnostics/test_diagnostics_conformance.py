"""What every diagnostic must keep, whichever are found in the package."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_mltrainer import diagnostics
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.evidence import Diagnosis, EpochRecord, Evidence, NotJudged

DETECTORS = diagnostics.detectors()
SECTIONS = (
    "## In short",
    "## Symptoms",
    "## Why it happens",
    "## What to change",
    "## How to see that it worked",
    "## When it is harmless",
    "## References",
)
TRAINING_KEYS = [
    "epochs",
    "batch_size",
    "optimizer",
    "learning_rate",
    "momentum",
    "weight_decay",
    "scheduler",
    "scheduler_step_epochs",
    "scheduler_gamma",
    "scheduler_patience",
    "warmup_steps",
    "clip_norm",
    "accumulate",
    "label_smoothing",
    "class_weights",
    "shuffle",
    "loader_workers",
    "early_stopping",
    "checkpoint_every",
    "unused_parameters",
]

every_diagnostic = pytest.mark.parametrize("name", DETECTORS)

numbers = st.one_of(
    st.sampled_from([0.0, 1.0, -1.0, 0.1, 0.97, 1e-30, 1e30, float("nan"), float("inf")]),
    st.floats(),
    st.integers(-5, 10**6),
)
values = st.one_of(numbers, st.none(), st.booleans(), st.text(max_size=5), st.lists(numbers))


def tree_of(*keys: str, leaves: st.SearchStrategy = values) -> st.SearchStrategy:
    return st.dictionaries(st.sampled_from(keys), leaves, max_size=len(keys))


counts = tree_of("train", "validation", "test")
overlap = tree_of("ids", "content", "share", "examples")
inputs = tree_of("dtype", "shape", "columns", "nonfinite", "max_abs", "scale_ratio", "widest")
telling_inputs = st.fixed_dictionaries(
    {"tabular": st.just(True), "scale_ratio": numbers, "max_abs": numbers}
)
profiles = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {},
        optional={
            "splits": tree_of("validation", leaves=tree_of("n", "sampled")),
            "inputs": st.one_of(inputs, telling_inputs, values),
            "targets": st.one_of(
                values,
                st.fixed_dictionaries({"classes": st.dictionaries(st.text(max_size=2), counts)}),
            ),
            "overlap": st.one_of(values, tree_of("train/validation", "train/test", leaves=overlap)),
            "model": tree_of("first_layer", "trainable_parameters"),
        },
    ),
)
faults = st.one_of(
    st.none(),
    tree_of("step", "epoch", "what", "batch_ids", "module", "inputs_finite", "max_abs_input")
    | tree_of("last_finite", "what", leaves=tree_of("loss", "gradient_norm") | values),
)
logged = st.fixed_dictionaries({}, optional={"loss": numbers, "accuracy": numbers, "rmse": numbers})
epochs = st.lists(
    st.builds(
        EpochRecord,
        epoch=st.integers(0, 50),
        steps=st.integers(0, 50),
        learning_rate=st.floats(0, 10),
        duration_s=st.just(0.0),
        train=logged,
        validation=logged,
    ),
    max_size=12,
)


@st.composite
def recorded_steps(draw: st.DrawFn) -> np.ndarray | None:
    if draw(st.booleans()):
        return None
    names = draw(st.lists(st.sampled_from(["loss", "gradient_norm", "learning_rate"]), unique=True))
    rows = draw(st.integers(0, 40))
    fill = draw(st.lists(st.floats(), min_size=1, max_size=5))
    steps = np.zeros(rows, dtype=[(name, "f8") for name in ["step", *names]])
    for name in names:
        steps[name] = np.resize(np.array(fill), rows)
    return steps


training = st.fixed_dictionaries(
    {},
    optional={
        "learning_rate": values,
        "weight_decay": values,
        "clip_norm": values,
        "epochs": values,
        "early_stopping": st.none() | st.just({"patience": 3, "min_delta": 0.0}),
        "scheduler": st.sampled_from(["none", "step", "cosine"]),
        "optimizer": st.sampled_from(["sgd", "adam", "adamw", "task"]),
        "warmup_steps": values,
    },
)
evidence = st.builds(
    Evidence,
    kind=st.sampled_from(["classification", "regression", "custom"]),
    metric=st.sampled_from(["accuracy", "rmse", "r2"]),
    maximize=st.booleans(),
    target=st.none() | st.floats(),
    config=st.fixed_dictionaries(
        {},
        optional={
            "training": training,
            "model": tree_of("width", "dropout", "hidden"),
            "data": tree_of("normalize", "standardize"),
        },
    ),
    config_reads=st.lists(st.sampled_from(["model.width", "model.dropout", "data.standardize"])),
    epochs=epochs,
    steps=recorded_steps(),
    profile=profiles,
    fault=faults,
    references=st.dictionaries(
        st.sampled_from(["trivial", "linear_train", "linear_validation"]), st.floats()
    ),
)


def said(name: str, partial: Evidence) -> Diagnosis | None:
    """What the detector says; None too where it cannot look, with a reason."""
    try:
        return DETECTORS[name](partial)
    except NotJudged:
        return None


def test_the_six_are_found() -> None:
    assert {
        "nan_loss",
        "convergence_stall",
        "overfitting",
        "underfitting",
        "data_leakage",
        "unnormalized_data",
    } <= set(DETECTORS)


@every_diagnostic
def test_silent_on_no_evidence(name: str) -> None:
    nothing = Evidence(
        kind="classification", metric="accuracy", maximize=True, target=None, config={}
    )
    assert said(name, nothing) is None


@every_diagnostic
@settings(max_examples=80, deadline=None, derandomize=True)
@given(partial=evidence)
def test_any_evidence_gives_a_storable_diagnosis(name: str, partial: Evidence) -> None:
    found = said(name, partial)
    if found is None:
        return
    stored = json.dumps(found.to_json(), allow_nan=False)
    assert Diagnosis.from_json(json.loads(stored)) == found
    assert found.id == name
    assert 0 < found.confidence <= 1
    assert found.symptoms
    assert found.recommendations
    for entry in found.recommendations:
        assert_patches_only_what_was_read(entry.patch, partial)
        assert entry.predicted is None or entry.predicted[0] <= entry.predicted[1]


def assert_patches_only_what_was_read(patch: dict[str, object], partial: Evidence) -> None:
    for key in patch:
        section, name = key.split(".")
        if section == "training":
            assert name in TRAINING_KEYS
            assert name in partial.config["training"]
        else:
            assert key in partial.config_reads
        if partial.config.get("training", {}).get("optimizer") == "task":
            assert name not in ("learning_rate", "momentum", "weight_decay")


@every_diagnostic
def test_guidance_has_its_sections_in_order(name: str) -> None:
    page = diagnostics.guidance(name)
    assert page.startswith("# ")
    assert re.findall(r"^## .*$", page, re.MULTILINE) == list(SECTIONS)
    parts = re.split(r"^## .*$", page, flags=re.MULTILINE)
    assert all(len(part.split()) > 10 for part in parts[1:])


@every_diagnostic
def test_guidance_names_only_keys_that_exist(name: str) -> None:
    named = set(re.findall(r"`training\.(\w+)", diagnostics.guidance(name)))
    assert named <= set(TRAINING_KEYS)


@every_diagnostic
def test_short_guidance_is_one_paragraph_of_the_page(name: str) -> None:
    short = diagnostics.short_guidance(name)
    assert "\n" not in short
    assert "##" not in short
    assert 20 < len(short.split()) < 90
    assert short in " ".join(diagnostics.guidance(name).split())


def test_no_page_without_its_module() -> None:
    pages = {page.stem for folder in diagnostics.__path__ for page in Path(folder).glob("*.md")}
    assert pages == set(DETECTORS)


@pytest.mark.parametrize("ask", [diagnostics.guidance, diagnostics.short_guidance])
def test_unknown_diagnostic_lists_and_suggests(ask: Callable[[str], str]) -> None:
    with pytest.raises(UserError, match=r"no diagnostic 'nan_los'; .*Did you mean 'nan_loss'\?"):
        ask("nan_los")


def test_a_helper_module_is_no_diagnostic() -> None:
    assert "readings" not in DETECTORS
    with pytest.raises(UserError):
        diagnostics.guidance("../README")
