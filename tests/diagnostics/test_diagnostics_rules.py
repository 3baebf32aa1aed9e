"""Rules of single diagnostics at and around their limits, on evidence written by hand."""

from dataclasses import replace

import numpy as np
import pytest
from pytest_mltrainer.diagnostics import detectors

from pytest_mltrainer.core.evidence import Cause, Diagnosis, EpochRecord, Evidence, NotJudged

DETECTORS = detectors()
TRAINING = {
    "learning_rate": 0.1,
    "optimizer": "sgd",
    "clip_norm": None,
    "weight_decay": 0.0,
    "early_stopping": None,
}


def evidence(**parts: object) -> Evidence:
    base = Evidence(
        kind="classification",
        metric="accuracy",
        maximize=True,
        target=None,
        config={"training": TRAINING, "model": {"dropout": 0.0}, "data": {"standardize": False}},
    )
    return replace(base, **parts)


def epochs(train: list[float], validation: list[float], losses: list[float]) -> list[EpochRecord]:
    return [
        EpochRecord(
            epoch=i,
            steps=10,
            learning_rate=0.1,
            duration_s=0.0,
            train={"accuracy": score, "loss": 1 / (i + 1)},
            validation={"accuracy": held, "loss": loss},
        )
        for i, (score, held, loss) in enumerate(zip(train, validation, losses, strict=True))
    ]


def found(name: str, **parts: object) -> Diagnosis:
    diagnosis = DETECTORS[name](evidence(**parts))
    assert diagnosis is not None
    return diagnosis


def silent(name: str, **parts: object) -> bool:
    try:
        return DETECTORS[name](evidence(**parts)) is None
    except NotJudged:
        return True


FAULT = {
    "step": 37,
    "epoch": 2,
    "what": "loss",
    "loss": "nan",
    "batch_ids": list(range(64)),
    "module": "net.2",
    "module_type": "Linear",
    "direction": "forward",
    "learning_rate": 0.1,
    "last_finite": {"loss": 812.5, "gradient_norm": 4.2e6},
    "inputs_finite": True,
    "targets_finite": True,
    "max_abs_input": 1.0,
}


def test_nan_names_step_module_samples_and_last_values() -> None:
    diagnosis = found("nan_loss", fault=FAULT)
    assert diagnosis.where == (
        "step 37, epoch 2, module net.2 (Linear), in the forward pass, "
        "samples 0, 1, 2, 3, 4 and 59 more"
    )
    assert "last finite loss: 812.5" in diagnosis.details
    patches = [dict(entry.patch) for entry in diagnosis.recommendations]
    assert patches == [{"training.learning_rate": 0.01}, {"training.clip_norm": 1.0}]


@pytest.mark.parametrize("part", ["inputs", "targets"])
def test_nan_in_the_data_is_the_datas_fault(part: str) -> None:
    diagnosis = found("nan_loss", fault={**FAULT, f"{part}_finite": False})
    assert diagnosis.cause is Cause.DATA_NOT_FINITE
    assert part in diagnosis.summary
    assert not any(entry.patch for entry in diagnosis.recommendations)


def test_nan_out_of_a_calm_run_is_an_undefined_operation() -> None:
    fault = {**FAULT, "last_finite": {"loss": 0.4, "gradient_norm": 0.8}}
    first = found("nan_loss", fault=fault).recommendations[0]
    assert "log, sqrt, division" in first.instruction
    assert "net.2" in first.instruction


def test_nan_with_huge_inputs_mentions_their_scale() -> None:
    assert "5.0e+06" in found("nan_loss", fault={**FAULT, "max_abs_input": 5e6}).summary


def test_no_rate_patch_when_the_task_makes_the_optimizer() -> None:
    config = {"training": {**TRAINING, "optimizer": "task"}}
    for entry in found("nan_loss", fault=FAULT, config=config).recommendations:
        assert "training.learning_rate" not in entry.patch


def steps(losses: list[float], norms: list[float]) -> np.ndarray:
    rows = [(i, 0, *pair, 0.1) for i, pair in enumerate(zip(losses, norms, strict=True))]
    names = ("step", "epoch", "loss", "gradient_norm", "learning_rate")
    return np.array(rows, dtype=[(name, "f8") for name in names])


def test_a_step_that_a_loss_scaler_skipped_is_harmless() -> None:
    assert silent("nan_loss", steps=steps([1.0, 0.9, 0.8], [1.0, float("inf"), 1.0]))
    assert silent("nan_loss", steps=steps([1.0, 0.9], [float("nan")] * 2))


def test_the_first_step_that_is_not_finite_is_named() -> None:
    nan = float("nan")
    assert "step 1," in found("nan_loss", steps=steps([1.0, nan, nan], [1.0, nan, nan])).where
    assert "gradient" in found("nan_loss", steps=steps([1.0, 1.0, 1.0], [1.0, nan, nan])).summary


def test_a_validation_loss_that_is_infinite_is_named_with_its_epoch() -> None:
    records = epochs([0.5] * 3, [0.5] * 3, [1.0, float("inf"), 1.0])
    diagnosis = found("nan_loss", epochs=records)
    assert "validation loss" in diagnosis.summary
    assert diagnosis.where == "epoch 1"


MEMORISED = epochs([0.7, 0.9, 0.99, 1.0, 1.0], [0.6, 0.7, 0.7, 0.7, 0.7], [1, 0.8, 1.1, 1.2, 1.3])


def test_overfitting_names_the_best_epoch_and_patches_what_was_read() -> None:
    diagnosis = found("overfitting", epochs=MEMORISED, config_reads=["model.dropout"])
    assert diagnosis.where == "after epoch 1"
    patched = {key for entry in diagnosis.recommendations for key in entry.patch}
    assert patched == {"model.dropout", "training.weight_decay", "training.early_stopping"}


def overlap(pair: str = "train/validation", **facts: object) -> dict[str, object]:
    return {"overlap": {pair: {"ids": 0, "content": 0, "share": 0.0, "examples": [], **facts}}}


@pytest.mark.parametrize(
    "profile",
    [
        overlap(ids=1),
        overlap(share=0.2),
        {"targets": {"classes": {"0": {"train": 9, "validation": 5}, "1": {"validation": 5}}}},
        {"splits": {"validation": {"n": 6}}},
    ],
    ids=["shared id", "shared content", "unseen class", "6 samples"],
)
def test_overfitting_is_silent_when_something_else_explains_the_gap(
    profile: dict[str, object],
) -> None:
    assert silent("overfitting", epochs=MEMORISED, profile=profile)


@pytest.mark.parametrize("last", [0.95, 0.9])
def test_overfitting_needs_a_validation_loss_that_turned_or_a_missed_goal(last: float) -> None:
    course = [0.6, 0.7, 0.7, 0.7, 0.7], [1, 0.8, 0.9, 0.9, last]
    records = epochs([0.7, 0.8, 0.9, 0.92, 0.92], *course)
    assert silent("overfitting", epochs=records)
    known = epochs([0.7, 0.9, 0.99, 1, 1], *course)
    assert silent("overfitting", epochs=known, target=0.65)
    assert not silent("overfitting", epochs=known, target=0.8)


def test_samples_known_by_heart_are_overfitting_without_a_simple_model() -> None:
    course = [0.6, 0.7, 0.7, 0.7, 0.7], [1, 0.8, 0.8, 0.8, 0.8]
    assert not silent("overfitting", epochs=epochs([0.7, 0.9, 0.99, 1, 1], *course))
    assert silent("overfitting", epochs=epochs([0.7, 0.8, 0.8, 0.83, 0.84], *course))


@pytest.mark.parametrize("pair", ["train/validation", "train/test", "validation/test"])
def test_one_shared_identity_is_a_leak_in_any_pair(pair: str) -> None:
    one, other = pair.split("/")
    profile = overlap(pair, ids=1, examples=[[one, 17, other, 3]])
    diagnosis = found("data_leakage", profile=profile)
    assert diagnosis.where == f"{one} row 17 = {other} row 3"
    assert diagnosis.cause is Cause.LEAK_OR_SKEW


def test_equal_content_is_a_leak_from_5_percent() -> None:
    assert silent("data_leakage", profile=overlap(content=9, share=0.049))
    assert not silent("data_leakage", profile=overlap(content=9, share=0.05))


def test_a_leak_predicts_the_honest_score() -> None:
    records = epochs([1.0], [0.9], [0.1])
    diagnosis = found("data_leakage", profile=overlap(share=0.5), epochs=records)
    assert diagnosis.recommendations[0].predicted == pytest.approx((0.8, 0.9))


def inputs(layer: str = "Linear", **facts: object) -> dict[str, object]:
    measured = {"dtype": "float32", "shape": [8], "columns": 8, "tabular": True, **facts}
    return {"inputs": measured, "model": {"first_layer": layer}}


def test_unscaled_inputs_are_a_warning_before_training() -> None:
    diagnosis = found("unnormalized_data", profile=inputs(scale_ratio=1e4))
    assert diagnosis.confidence < 0.5
    patched = found(
        "unnormalized_data", profile=inputs(scale_ratio=1e4), config_reads=["data.standardize"]
    )
    assert patched.recommendations[0].patch == {"data.standardize": True}


@pytest.mark.parametrize(
    "profile",
    [
        inputs(scale_ratio=999.0, max_abs=100.0),
        inputs("BatchNorm1d", scale_ratio=1e6),
        inputs("LayerNorm", max_abs=1e6),
        inputs("Embedding", max_abs=3e4, dtype="int64"),
        inputs(max_abs=255.0, dtype="uint8"),
        inputs("Conv1d", max_abs=3e4, tabular=False, shape=[1, 16000]),
    ],
    ids=["at the limits", "batch norm", "layer norm", "embedding", "integers", "a waveform"],
)
def test_scaled_or_scaling_inputs_are_silent(profile: dict[str, object]) -> None:
    assert silent("unnormalized_data", profile=profile)


def test_raw_pixels_into_a_convolution_count_unless_the_run_is_well() -> None:
    profile = inputs("Conv2d", max_abs=255.0, tabular=False, shape=[3, 8, 8])
    bad, good = epochs([0.3], [0.3], [2.0]), epochs([0.9], [0.9], [0.2])
    assert not silent("unnormalized_data", profile=profile)
    assert not silent("unnormalized_data", profile=profile, epochs=bad, target=0.8)
    assert silent("unnormalized_data", profile=profile, epochs=good, target=0.8)
    assert silent(
        "unnormalized_data",
        profile=profile,
        epochs=good,
        target=0.99,
        references={"linear_validation": 0.92},
    )


def test_underfitting_widens_only_a_width_that_was_read() -> None:
    parts = {
        "epochs": epochs([0.5] * 9, [0.5] * 9, [1.0] * 9),
        "references": {"trivial": 0.1, "linear_train": 0.95, "linear_validation": 0.9},
        "config": {"training": TRAINING, "model": {"width": 2}},
    }
    unread = found("underfitting", **parts)
    assert not any("model.width" in entry.patch for entry in unread.recommendations)
    read = found("underfitting", **parts, config_reads=["model.width"])
    change = next(entry for entry in read.recommendations if "model.width" in entry.patch)
    assert change.patch == {"model.width": 32}
    assert change.predicted == (0.5, 0.9)


@pytest.mark.parametrize(
    ("train", "validation"), [(0.86, 0.5), (0.5, 0.86), (0.9, 0.7)], ids=["near", "dropout", "gap"]
)
def test_underfitting_needs_both_splits_below_the_linear_model(
    train: float, validation: float
) -> None:
    assert silent(
        "underfitting",
        epochs=epochs([train] * 9, [validation] * 9, [1.0] * 9),
        references={"trivial": 0.1, "linear_train": 0.95, "linear_validation": 0.9},
    )


def test_a_training_of_a_few_updates_is_made_longer_first() -> None:
    diagnosis = found(
        "underfitting",
        epochs=epochs([0.2], [0.2], [2.2]),
        references={"trivial": 0.1, "linear_train": 0.95, "linear_validation": 0.9},
        config={"training": {**TRAINING, "epochs": 1}},
        config_reads=["training.epochs"],
    )
    assert "hardly trained at all" in diagnosis.summary
    assert diagnosis.recommendations[0].patch == {"training.epochs": 20}


def test_validation_far_ahead_of_training_is_held_back_not_small() -> None:
    diagnosis = found(
        "underfitting",
        epochs=epochs([0.3] * 9, [0.55] * 9, [1.0] * 9),
        references={"trivial": 0.1, "linear_train": 0.95, "linear_validation": 0.9},
    )
    assert "over-regularised" in diagnosis.summary
    assert any("dropout" in entry.instruction for entry in diagnosis.recommendations)


def test_what_was_never_learned_is_not_known_by_heart() -> None:
    losses = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    never = epochs([-0.1] * 6, [-9.0, -20, -30, -40, -45, -48], losses)
    parts = {"kind": "regression", "metric": "r2", "references": {"trivial": 0.0}}
    known = [replace(entry, train={"r2": 0.93, **entry.train}) for entry in never]
    as_r2 = [
        replace(entry, train={**entry.train, "r2": -0.1}, validation={"r2": -40.0, "loss": loss})
        for entry, loss in zip(never, losses, strict=True)
    ]
    assert silent("overfitting", epochs=as_r2, **parts)
    by_heart = [replace(entry, validation={"r2": 0.5, "loss": 1.0}) for entry in known]
    assert not silent("overfitting", epochs=by_heart, **parts)


def test_rows_that_are_alike_by_chance_do_not_explain_a_gap() -> None:
    pair = {"share": 0.48, "chance": 0.49, "ids": 0}
    alike = {"overlap": {"train/validation": pair}}
    assert not silent("overfitting", epochs=MEMORISED, profile=alike)
    shared = {"overlap": {"train/validation": {**pair, "chance": 0.0}}}
    assert silent("overfitting", epochs=MEMORISED, profile=shared)
