"""The diagnostics of the data on planted data sets and on healthy ones, through the real profile.

Every case is a data set: it is split, profiled as planning does it, and all seven are asked.
"""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_mltrainer.diagnostics import detectors
from torch.utils.data import Dataset

from pytest_mltrainer import Splits, Task
from pytest_mltrainer.core.evidence import Diagnosis, EpochRecord, Evidence, NotJudged
from pytest_mltrainer.training.data.profile import profile_data

OURS = (
    "bad_input_values",
    "class_imbalance",
    "data_leakage",
    "label_noise",
    "train_val_skew",
    "unnormalized_data",
    "unshuffled_data",
)
DETECTORS = {name: detect for name, detect in detectors().items() if name in OURS}
TRAINING = {
    "batch_size": 32,
    "shuffle": True,
    "class_weights": "none",
    "label_smoothing": 0.0,
    "weight_decay": 0.0,
    "early_stopping": None,
}


class Rows(Dataset[Any]):
    """Samples as they are in two lists."""

    def __init__(self, inputs: Any, targets: Any) -> None:
        self.inputs, self.targets = inputs, targets

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> Any:
        value = self.inputs[index]
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(np.array(value))
        return value, torch.as_tensor(self.targets[index])


@dataclass
class Case:
    """Three splits, as arrays of inputs and targets, and how the run is configured."""

    x: list[Any]
    y: list[Any]
    kind: str = "classification"
    training: dict[str, Any] = field(default_factory=dict)
    group: Callable[[str, int], str] | None = None
    first_layer: str = "Linear"

    def evidence(self, **parts: Any) -> Evidence:
        case = self

        class Planted(Task):
            kind = case.kind  # type: ignore[assignment]

            def sample_key(self, split: str, index: int) -> str | None:
                return case.group(split, index) if case.group else None

        datasets = [Rows(x, y) for x, y in zip(self.x, self.y, strict=True)]
        splits = Splits(train=datasets[0], validation=datasets[1], test=datasets[2])
        _, profile = profile_data(Planted(), splits)
        base = Evidence(
            kind=self.kind,
            metric="r2" if self.kind == "regression" else "accuracy",
            maximize=True,
            target=None,
            config={"training": TRAINING | self.training, "model": {}, "data": {}},
            profile={**profile, "model": {"first_layer": self.first_layer}},
        )
        return replace(base, **parts)


def said(evidence: Evidence) -> dict[str, Diagnosis]:
    """What the diagnostics of the data say; not to be able to look is no diagnosis."""
    found = {}
    for name, detect in DETECTORS.items():
        try:
            diagnosis = detect(evidence)
        except NotJudged:
            continue
        if diagnosis is not None:
            found[name] = diagnosis
    return found


def cut(x: Any, y: Any, *, seed: int | None = 0, shares: Any = (0.6, 0.2), **parts: Any) -> Case:
    """Split at random, or in order without a seed."""
    order = np.arange(len(x)) if seed is None else np.random.default_rng(seed).permutation(len(x))
    edges = np.cumsum([int(share * len(x)) for share in shares])
    rows = np.split(order, edges)
    return Case([x[part] for part in rows], [y[part] for part in rows], **parts)


@functools.cache
def shipped(name: str) -> tuple[np.ndarray, np.ndarray]:
    """A data set of scikit-learn, its columns standardised."""
    from sklearn import datasets

    bunch = getattr(datasets, f"load_{name}")()
    x = bunch.data.astype(np.float32)
    y = bunch.target if name != "diabetes" else bunch.target.astype(np.float32)
    return (x - x.mean(0)) / (x.std(0) + 1e-6), y


def generated(
    rows: int = 800, columns: int = 8, classes: int = 3, seed: int = 0, apart: float = 1.5
) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes in all columns."""
    draw = np.random.default_rng(seed)
    y = draw.integers(0, classes, rows)
    centers = apart * draw.normal(size=(classes, columns))
    return (centers[y] + draw.normal(size=(rows, columns))).astype(np.float32), y


def linear(rows: int = 600, columns: int = 8, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(3)
    x = draw.normal(size=(rows, columns)).astype(np.float32)
    y = x @ draw.normal(size=columns) + noise * draw.normal(size=rows)
    return x, y.astype(np.float32)


def images(rows: int = 400, side: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Colour images between 0 and 1 of a bright spot on the left or on the right."""
    draw = np.random.default_rng(4)
    y = draw.integers(0, 2, rows)
    x = draw.random((rows, 3, side, side), dtype=np.float32) * 0.5
    for image, label in zip(x, y, strict=True):
        column = label * side // 2 + draw.integers(0, side // 2 - 4)
        image[:, :, column : column + 4] += 0.5
    return x, y


# --- bad values -------------------------------------------------------------------------------


def with_value(case: Case, split: int, row: int, column: int, value: float) -> Case:
    case.x[split] = case.x[split].copy()
    case.x[split][row, column] = value
    return case


def bad_target() -> Case:
    case = cut(*linear(), kind="regression")
    case.y[1] = case.y[1].copy()
    case.y[1][4] = np.inf
    return case


def bad_image() -> Case:
    case = cut(*images())
    case.x[0] = case.x[0].copy()
    case.x[0][7, 1, 3, 3] = np.nan
    return case


# --- wrong labels -----------------------------------------------------------------------------


def relabelled(case: Case, share: float, classes: int) -> Case:
    draw = np.random.default_rng(1)
    labels = case.y[0].copy()
    changed = draw.random(len(labels)) < share
    labels[changed] = (labels[changed] + draw.integers(1, classes, changed.sum())) % classes
    case.y[0] = labels
    return case


def swapped_classes() -> Case:
    """Every third label of a pair of classes (0 and 9, 1 and 8, ...) is the other's."""
    case = cut(*shipped("digits"))
    swapped = np.random.default_rng(2).random(len(case.y[0])) < 0.33
    case.y[0] = np.where(swapped, 9 - case.y[0], case.y[0])
    return case


def shuffled_values(share: float) -> Case:
    case = cut(*linear(1000), kind="regression")
    draw = np.random.default_rng(1)
    values = case.y[0].copy()
    changed = np.flatnonzero(draw.random(len(values)) < share)
    values[changed] = values[draw.permutation(changed)]
    case.y[0] = values
    return case


# --- leaks ------------------------------------------------------------------------------------


def copied(case: Case, share: float, jitter: float = 0.0) -> Case:
    """A share of validation replaced by training samples, moved a little."""
    draw = np.random.default_rng(5)
    count = int(share * len(case.x[1]))
    rows = draw.choice(len(case.x[0]), count, replace=False)
    moved = case.x[0][rows] + jitter * draw.normal(size=case.x[0][rows].shape)
    case.x[1] = np.concatenate([moved.astype(np.float32), case.x[1][count:]])
    case.y[1] = np.concatenate([case.y[0][rows], case.y[1][count:]])
    return case


def give_away(kind: str, noise: float = 0.0) -> Case:
    x, y = linear(noise=3.0) if kind == "regression" else generated(apart=0.4)
    draw = np.random.default_rng(6)
    told = (y + noise * draw.normal(size=len(y)))[:, None].astype(np.float32)
    return cut(np.concatenate([x, told], axis=1), y, kind=kind)


def one_patient_in_two_splits() -> Case:
    groups = {"train": 0, "validation": 39, "test": 100}
    return cut(*generated(400), group=lambda split, row: f"patient {groups[split] + row // 6}")


def oversampled_before_the_split() -> Case:
    x, y = generated(300, classes=2)
    rows = np.concatenate([np.arange(300), np.repeat(np.flatnonzero(y == 1), 2)])
    return cut(x[rows], y[rows])


# --- order, skew, imbalance -------------------------------------------------------------------


def in_order(case: Case, batch: int = 32) -> Case:
    order = np.argsort(case.y[0], kind="stable")
    case.x[0], case.y[0] = case.x[0][order], case.y[0][order]
    case.training = {"shuffle": False, "batch_size": batch}
    return case


def in_blocks() -> Case:
    """Two recordings of each class, one after the other."""
    case = cut(*generated(900), training={"shuffle": False})
    recording = np.arange(len(case.y[0])) % 2
    order = np.lexsort((case.y[0], recording))
    case.x[0], case.y[0] = case.x[0][order], case.y[0][order]
    return case


def rescaled(case: Case, factor: float, shift: float, columns: Any = slice(None)) -> Case:
    case.x[1] = case.x[1].copy()
    case.x[1][:, columns] = case.x[1][:, columns] * factor + shift
    return case


def cut_sorted() -> Case:
    x, y = shipped("digits")
    order = np.argsort(y, kind="stable")
    return cut(x[order], y[order], seed=None)


def rare(share: float, rows: int = 2000, apart: float = 0.5) -> Case:
    draw = np.random.default_rng(8)
    y = (draw.random(rows) < share).astype(int)
    x = draw.normal(size=(rows, 6)) + apart * y[:, None]
    return cut(x.astype(np.float32), y)


def rare_label() -> Case:
    x, _ = generated(4000)
    draw = np.random.default_rng(9)
    y = (draw.random((4000, 4)) < (0.4, 0.3, 0.2, 0.002)).astype(np.float32)
    return cut(x, y, kind="multilabel")


def windows(seed: int | None, stride: int, steps_first: bool = False) -> Case:
    """Windows of 24 steps of 40 recordings in two channels, cut before they are divided."""
    draw = np.random.default_rng(11)
    noises = draw.normal(size=(40, 2, 24 + 15 * stride))
    x = np.stack([noise[:, i * stride :][:, :24] for noise in noises for i in range(16)])
    x = x.swapaxes(1, 2) if steps_first else x
    return cut(x.astype(np.float32), np.arange(len(x)) // 16 % 2, seed=seed)


def one_recording(seed: int | None) -> Case:
    """Windows of one long noise; what is to be told is whether its mean is above 0."""
    noise = np.random.default_rng(12).normal(size=900 + 32).astype(np.float32)
    x = np.stack([noise[start : start + 32] for start in range(900)])
    return cut(x, (x.mean(axis=1) > 0).astype(int), seed=seed)


def of_one_origin() -> Case:
    """Ten rows of each of 80 regions, which repeat ten columns of the region and have five own."""
    draw = np.random.default_rng(13)
    regions = np.repeat(draw.normal(size=(80, 10)), 10, axis=0)
    own = draw.normal(size=(800, 5))
    x = np.concatenate([regions, own, draw.normal(size=(800, 9))], axis=1).astype(np.float32)
    return cut(x, (own[:, 0] + draw.normal(size=800) > 0).astype(int))


def by_the_hour() -> Case:
    """Days of a noise beside the hour of the day, split over time with gaps."""
    draw = np.random.default_rng(14)
    starts = np.arange(300) * 13 + np.repeat([0, 100, 200], 100)
    hours = (starts[:, None] + np.arange(48)) % 24 / 24 + 0.01
    x = np.stack([hours, draw.normal(size=hours.shape)], axis=1).astype(np.float32)
    return cut(x, (x[:, 1].mean(axis=1) > 0).astype(int), seed=None)


PLANTED: dict[str, tuple[str, Callable[[], Case]]] = {
    "nan in a table": ("bad_input_values", lambda: with_value(cut(*generated()), 0, 3, 5, np.nan)),
    "inf in test": ("bad_input_values", lambda: with_value(cut(*linear()), 2, 9, 0, np.inf)),
    "inf among targets": ("bad_input_values", bad_target),
    "nan in an image": ("bad_input_values", bad_image),
    "30 % of digits relabelled": (
        "label_noise",
        lambda: relabelled(cut(*shipped("digits")), 0.3, 10),
    ),
    "30 % of two classes relabelled": (
        "label_noise",
        lambda: relabelled(cut(*shipped("breast_cancer")), 0.3, 2),
    ),
    "pairs of classes swapped": ("label_noise", swapped_classes),
    "40 % of overlapping classes": (
        "label_noise",
        lambda: relabelled(cut(*generated(1500)), 0.4, 3),
    ),
    "values slipped": ("label_noise", lambda: shuffled_values(0.5)),
    "a fifth of the values slipped": ("label_noise", lambda: shuffled_values(0.2)),
    "half of validation copied": ("data_leakage", lambda: copied(cut(*generated()), 0.5)),
    "15 % copied, jittered": (
        "data_leakage",
        lambda: copied(cut(*shipped("breast_cancer")), 0.15, 0.01),
    ),
    "images copied with noise": ("data_leakage", lambda: copied(cut(*images()), 0.3, 0.01)),
    "regression rows copied": (
        "data_leakage",
        lambda: copied(cut(*linear(), kind="regression"), 0.2, 1e-4),
    ),
    "oversampled before the split": ("data_leakage", oversampled_before_the_split),
    "patients in two splits": ("data_leakage", one_patient_in_two_splits),
    "a column holds the class": ("data_leakage", lambda: give_away("classification", 0.02)),
    "a column holds the value": ("data_leakage", lambda: give_away("regression", 0.05)),
    "windows that overlap, dealt": ("data_leakage", lambda: windows(0, 6)),
    "windows by step and channel": ("data_leakage", lambda: windows(0, 5, steps_first=True)),
    "lags of one series, dealt": ("data_leakage", lambda: one_recording(0)),
    "sorted classes": ("unshuffled_data", lambda: in_order(cut(*shipped("digits")))),
    "sorted, large batches": ("unshuffled_data", lambda: in_order(cut(*generated()), 128)),
    "sorted values": ("unshuffled_data", lambda: in_order(cut(*linear(), kind="regression"))),
    "classes in blocks": ("unshuffled_data", in_blocks),
    "validation not standardised": (
        "train_val_skew",
        lambda: rescaled(cut(*generated()), 5.0, 3.0),
    ),
    "validation shifted, regression": (
        "train_val_skew",
        lambda: rescaled(cut(*linear(), kind="regression"), 1.0, 2.0, 2),
    ),
    "validation brighter": ("train_val_skew", lambda: rescaled(cut(*images()), 0.7, 0.3)),
    "cut after sorting by class": ("train_val_skew", cut_sorted),
    "1 % of two classes": ("class_imbalance", lambda: rare(0.01)),
    "3 % of two classes": ("class_imbalance", lambda: rare(0.03)),
    "a label on 1 in 500 rows": ("class_imbalance", rare_label),
    "columns of very different scales": (
        "unnormalized_data",
        lambda: cut(generated()[0] * np.logspace(0, 5, 8, dtype=np.float32), generated()[1]),
    ),
    "raw pixels as floats": ("unnormalized_data", lambda: cut(images()[0] * 255, images()[1])),
    "large values, regression": (
        "unnormalized_data",
        lambda: cut(linear()[0] * 500, linear()[1], kind="regression"),
    ),
}


@pytest.mark.parametrize("case", PLANTED)
def test_planted_data_are_named_and_nothing_else(case: str) -> None:
    wanted, planted = PLANTED[case]
    found = said(planted().evidence())
    assert wanted in found, found
    follows = {"train_val_skew": {"class_imbalance"}}.get(wanted, set())
    assert set(found) - {wanted} <= follows, found
    diagnosis = found[wanted]
    assert diagnosis.where or wanted == "train_val_skew"
    assert diagnosis.recommendations


# --- healthy ----------------------------------------------------------------------------------


def blobs(rows: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import make_blobs

    x, y = make_blobs(rows, n_features=5, centers=3, random_state=1)
    return (x / 5).astype(np.float32), y


def one_strong_column() -> Case:
    """A measurement that tells most, among others that help."""
    x, y = generated(900, classes=2, apart=0.6)
    x[:, 2] += 4 * y
    return cut(x, y)


def categories() -> Case:
    """Three columns of a few categories: rows repeat by nature."""
    draw = np.random.default_rng(7)
    x = draw.integers(0, 4, (600, 3)).astype(np.float32)
    return cut(x, (x.sum(axis=1) + draw.normal(size=600) > 4).astype(int))


def rebalanced() -> Case:
    """The rare class repeated in the training split only."""
    case = rare(0.1, apart=2.0)
    again = np.flatnonzero(case.y[0] == 1)
    rows = np.concatenate([np.arange(len(case.y[0])), np.repeat(again, 8)])
    case.x[0], case.y[0] = case.x[0][rows], case.y[0][rows]
    return case


def over_time() -> Case:
    """A slow wave in the order of time, windows of it split at random and shuffled."""
    draw = np.random.default_rng(10)
    time = np.linspace(0, 60, 900)
    wave = np.stack([np.sin(time + lag) for lag in range(6)], axis=1)
    x = wave + 0.3 * draw.normal(size=wave.shape)
    return cut(x.astype(np.float32), np.cos(time).astype(np.float32), kind="regression")


HEALTHY: dict[str, Callable[[], Case]] = {
    "digits": lambda: cut(*shipped("digits")),
    "breast cancer": lambda: cut(*shipped("breast_cancer")),
    "wine": lambda: cut(*shipped("wine")),
    "iris": lambda: cut(*shipped("iris")),
    "diabetes": lambda: cut(*shipped("diabetes"), kind="regression"),
    "blobs": lambda: cut(*blobs(600)),
    "images": lambda: cut(*images()),
    "regression without noise": lambda: cut(*linear(noise=0.0), kind="regression"),
    "one strong column": one_strong_column,
    "categories": categories,
    "rebalanced on purpose": rebalanced,
    "90:10": lambda: rare(0.1, apart=2.0),
    "97:3, easily told apart": lambda: rare(0.03, apart=2.5),
    "a wave over time, shuffled": over_time,
    "windows of whole recordings": lambda: windows(None, 6),
    "windows without overlap, dealt": lambda: windows(0, 24),
    "lags of one series, over time": lambda: one_recording(None),
    "rows of one origin": of_one_origin,
    "a channel with the hour of the day": by_the_hour,
    "sorted, but shuffled": lambda: replace(in_order(cut(*generated())), training={}),
    "not shuffled, but mixed": lambda: cut(*generated(), training={"shuffle": False}),
    "pure noise": lambda: cut(generated()[0], np.random.default_rng(0).integers(0, 2, 800)),
    "hard: classes overlap": lambda: cut(*generated(1500, apart=0.4)),
    "noise alike in both splits": lambda: cut(
        generated(1500)[0], relabelled(Case([0], [generated(1500)[1]]), 0.3, 3).y[0]
    ),
    "raw columns before a norm": lambda: replace(
        cut(1e4 * generated()[0], generated()[1]), first_layer="BatchNorm1d"
    ),
    "uint8 images": lambda: cut((images()[0] * 255).astype(np.uint8), images()[1]),
}


@pytest.mark.parametrize("case", HEALTHY)
def test_healthy_data_are_silent(case: str) -> None:
    assert said(HEALTHY[case]().evidence()) == {}


@pytest.mark.parametrize("seed", range(8))
def test_small_splits_do_not_speak_by_chance(seed: int) -> None:
    assert said(cut(*shipped("wine"), seed=seed).evidence()) == {}
    assert said(cut(*generated(90, seed=seed), seed=seed).evidence()) == {}
    assert said(cut(*linear(90), kind="regression", seed=seed).evidence()) == {}


# --- after a training, and where it is --------------------------------------------------------


def epochs(train: float, validation: float) -> list[EpochRecord]:
    return [
        EpochRecord(
            epoch=i,
            steps=20,
            learning_rate=0.1,
            duration_s=0.0,
            train={"accuracy": train, "loss": 1.0 / (i + 1)},
            validation={"accuracy": validation, "loss": 1.0},
        )
        for i in range(6)
    ]


def recalls(**measured: float) -> dict[str, Any]:
    return {"class_recall": {name[1:]: {"recall": r, "n": 40} for name, r in measured.items()}}


def test_an_ignored_class_is_named_after_training_and_a_found_one_is_not() -> None:
    case = rare(0.05)
    ignored = case.evidence(epochs=epochs(0.95, 0.95), trained=recalls(_0=1.0, _1=0.05))
    found = said(ignored)["class_imbalance"]
    assert found.recommendations[0].patch == {"training.class_weights": "balanced"}
    assert "class 1" in found.where
    learned = replace(ignored, trained=recalls(_0=0.99, _1=0.8))
    nothing = replace(ignored, trained=recalls(_0=0.1, _1=0.1))
    assert said(learned) == said(nothing) == {}


def test_a_run_without_recalls_is_not_judged() -> None:
    with pytest.raises(NotJudged, match="recall"):
        DETECTORS["class_imbalance"](rare(0.01).evidence(epochs=epochs(0.99, 0.99)))


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("unshuffled_data", "sorted classes"),
        ("train_val_skew", "validation not standardised"),
        ("bad_input_values", "nan in a table"),
    ],
)
def test_what_did_no_harm_is_silent_after_training(name: str, case: str) -> None:
    before = PLANTED[case][1]().evidence(target=0.9)
    assert name in said(before)
    assert name not in said(replace(before, epochs=epochs(0.95, 0.95)))


def test_places_are_named() -> None:
    nan = said(with_value(cut(*generated()), 0, 3, 5, np.nan).evidence())["bad_input_values"]
    assert nan.where == "train inputs: 1 rows, first 3; columns 5"
    skew = said(rescaled(cut(*linear()), 1.0, 3.0, 2).evidence())["train_val_skew"]
    assert "column 2 (mean +" in skew.where
    leak = said(give_away("regression").evidence())["data_leakage"]
    assert leak.where == "columns 8"
    clean = cut(*shipped("digits"))
    noisy = said(relabelled(cut(*shipped("digits")), 0.3, 10).evidence())["label_noise"]
    row = int(noisy.where.split()[2])
    assert f"neighbours say {clean.y[0][row]})" in noisy.where.split(", row")[0]
    unseen = said(cut_sorted().evidence())["train_val_skew"]
    assert "classes 6, 7" in unseen.where
    groups = said(one_patient_in_two_splits().evidence())["data_leakage"]
    assert "train row 234 = validation row 0" in groups.where


def test_patches_touch_what_the_run_can_read() -> None:
    order = said(in_order(cut(*generated())).evidence())["unshuffled_data"]
    assert order.recommendations[0].patch == {"training.shuffle": True}
    noise = said(relabelled(cut(*generated(1500)), 0.4, 3).evidence())["label_noise"]
    patched = {key for entry in noise.recommendations for key in entry.patch}
    assert patched == {
        "training.label_smoothing",
        "training.early_stopping",
        "training.weight_decay",
    }


# --- inputs of other kinds --------------------------------------------------------------------


def as_dicts(x: np.ndarray) -> list[Any]:
    return [{"age": float(row[0]), "rest": row[1:]} for row in x]


def test_inputs_by_name_are_a_table_with_names() -> None:
    case = rescaled(cut(*generated()), 1.0, 4.0, 0)
    case.x = [as_dicts(part) for part in case.x]
    assert "column age (mean +" in said(case.evidence())["train_val_skew"].where


@pytest.mark.parametrize(
    ("inputs", "reason"),
    [
        (lambda row: "a text", "no arrays"),
        (lambda row: {"text": "a", "age": row[0]}, "no arrays"),
        (lambda row: row[: 1 + int(abs(row[0]) * 3) % 5], "differ in shape"),
    ],
    ids=["texts", "a text among numbers", "sequences of several lengths"],
)
def test_what_cannot_be_judged_says_why(inputs: Any, reason: str) -> None:
    case = cut(*generated())
    case.x = [[inputs(row) for row in part] for part in case.x]
    evidence = case.evidence()
    assert said(evidence) == {}
    for name in ("label_noise", "train_val_skew"):
        with pytest.raises(NotJudged, match=reason):
            DETECTORS[name](evidence)


@pytest.mark.parametrize("kind", ["sequence", "custom"])
def test_targets_of_other_kinds_are_not_judged(kind: str) -> None:
    x, y = generated()
    evidence = cut(x, np.stack([y, y], axis=1), kind=kind).evidence()
    assert said(evidence) == {}
    with pytest.raises(NotJudged, match=kind):
        DETECTORS["label_noise"](evidence)


# --- odd evidence -----------------------------------------------------------------------------

JUNK = st.sampled_from([None, True, -1, 0, 1e9, float("nan"), float("inf"), "x", [], {}, [1, {}]])


@functools.cache
def whole_profile(case: str) -> Evidence:
    return PLANTED[case][1]().evidence()


def damaged(tree: Any, draw: Callable[[st.SearchStrategy[Any]], Any]) -> Any:
    """The tree with one part, however deep, replaced or left out."""
    if not isinstance(tree, dict) or not tree or draw(st.integers(0, 4)) == 0:
        return draw(JUNK)
    key = draw(st.sampled_from(sorted(tree)))
    return {**tree, key: damaged(tree[key], draw)}


@pytest.mark.parametrize(
    "case", ["half of validation copied", "30 % of digits relabelled", "cut after sorting by class"]
)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_damaged_profiles_break_nothing(case: str, data: st.DataObject) -> None:
    evidence = whole_profile(case)
    profile = evidence.profile
    for _ in range(3):
        profile = damaged(profile, data.draw)
    for shuffle in (True, False):
        settings_ = {"training": {**TRAINING, "shuffle": shuffle}}
        for name, found in said(replace(evidence, profile=profile, config=settings_)).items():
            stored = json.dumps(found.to_json(), allow_nan=False)
            assert Diagnosis.from_json(json.loads(stored)) == found
            assert found.id == name
            assert 0 < found.confidence <= 1
