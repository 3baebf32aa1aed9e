"""Gradients, activations, learning rate and resources: real small trainings, sick and healthy."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from pytest_mltrainer.diagnostics import detectors
from pytest_mltrainer.diagnostics.scores import is_well
from torch import nn
from trainings import (
    Data,
    Recipe,
    breast_cancer,
    digits,
    linear_regression,
    mlp,
    standardised,
    train,
)

from pytest_mltrainer.core.evidence import Cause, Diagnosis, EpochRecord, Evidence, NotJudged
from pytest_mltrainer.core.ranking import diagnose

DETECTORS = detectors()
SGD = {"optimizer": "sgd"}
Run = Callable[[], Evidence]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def said(name: str, evidence: Evidence) -> Diagnosis | None:
    try:
        return DETECTORS[name](evidence)
    except NotJudged:
        return None


def deep(data: Data, activation: type[nn.Module], depth: int, width: int = 24) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Linear(data.train_x.shape[1], width), activation()]
    for _ in range(depth):
        layers += [nn.Linear(width, width), activation()]
    return nn.Sequential(*layers, nn.Linear(width, data.classes or 1))


def scaled(model: nn.Sequential, factor: float) -> nn.Sequential:
    with torch.no_grad():
        for part in model.parameters():
            part.mul_(factor)
    return model


def biased(model: nn.Sequential, bias: float) -> nn.Sequential:
    with torch.no_grad():
        for module in list(model)[:-1]:
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.bias.fill_(bias)
    return model


def cnn() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(),
        nn.Linear(288, 24), nn.ReLU(), nn.Linear(24, 10),
    )  # fmt: skip


class Recurrent(nn.Module):
    """Reads the rows of an image one after the other."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gru, self.head = nn.GRU(8, 24, batch_first=True), nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gru(x.reshape(len(x), 8, 8))[0][:, -1])


def on_digits(model: nn.Module, **recipe: object) -> Evidence:
    return train(digits(300, 200), model, Recipe(**{"epochs": 8, **recipe}))


def on(data: Data, model: nn.Module, **recipe: object) -> Evidence:
    return train(data, model, Recipe(**{"epochs": 8, **recipe}))


def raw(data: Data, scale: float) -> Data:
    return Data(scale * data.train_x, data.train_y, scale * data.validation_x, data.validation_y)


TUMOURS, PLANE = standardised(breast_cancer(200)), linear_regression(0.5)

SICK: dict[str, tuple[str, Run]] = {
    "exploding: weights x 6, six layers": (
        "exploding_gradients",
        lambda: on_digits(scaled(deep(digits(), nn.ReLU, 6), 9), **SGD, learning_rate=1e-6),
    ),
    "exploding: regression": (
        "exploding_gradients",
        lambda: on(PLANE, scaled(deep(PLANE, nn.ReLU, 4), 6), **SGD, learning_rate=1e-12),
    ),
    "exploding: two classes, tanh-free and deep": (
        "exploding_gradients",
        lambda: on(TUMOURS, scaled(deep(TUMOURS, nn.LeakyReLU, 8), 8), **SGD, learning_rate=1e-9),
    ),
    "vanishing: ten sigmoids": (
        "vanishing_gradients",
        lambda: on_digits(deep(digits(), nn.Sigmoid, 9), learning_rate=1e-3),
    ),
    "vanishing: small weights, relu": (
        "vanishing_gradients",
        lambda: on(TUMOURS, scaled(deep(TUMOURS, nn.ReLU, 7), 0.1), **SGD),
    ),
    "vanishing: regression, tanh": (
        "vanishing_gradients",
        lambda: on(PLANE, scaled(deep(PLANE, nn.Tanh, 8), 0.1), **SGD, learning_rate=1e-3),
    ),
    "dead: biases far below zero": (
        "dead_relu",
        lambda: on_digits(biased(deep(digits(), nn.ReLU, 1), -20), learning_rate=1e-4),
    ),
    "dead: convolution": ("dead_relu", lambda: on_digits(biased(cnn(), -20), learning_rate=1e-4)),
    "dead: sgd rate far too high": (
        "dead_relu",
        lambda: on_digits(deep(digits(), nn.ReLU, 1), **SGD, learning_rate=50),
    ),
    "dead: regression": (
        "dead_relu",
        lambda: on(PLANE, biased(deep(PLANE, nn.ReLU, 1), -20), **SGD, learning_rate=1e-3),
    ),
    "saturated: raw inputs, tanh": (
        "saturation",
        lambda: on(raw(TUMOURS, 300), deep(TUMOURS, nn.Tanh, 1), **SGD, learning_rate=1e-5),
    ),
    "saturated: large weights, sigmoid": (
        "saturation",
        lambda: on_digits(scaled(deep(digits(), nn.Sigmoid, 2), 80), **SGD, learning_rate=1e-4),
    ),
    "saturated: rate too high": (
        "saturation",
        lambda: on_digits(deep(digits(), nn.Tanh, 2), learning_rate=5.0),
    ),
    "too low: adam": ("lr_too_low", lambda: on_digits(mlp(digits()), learning_rate=1e-6)),
    "too low: sgd, convolution": (
        "lr_too_low", lambda: on_digits(cnn(), **SGD, learning_rate=1e-5)),
    "too low: recurrent": ("lr_too_low", lambda: on_digits(Recurrent(), learning_rate=1e-6)),
    "too low: regression": ("lr_too_low", lambda: on(PLANE, mlp(PLANE), learning_rate=1e-6)),
    "too low: nothing moved far, weights so small that each update looks large": (
        "lr_too_low", lambda: on_digits(scaled(mlp(digits()), 0.01), learning_rate=2e-5)),
    "unstable: thrown far away at once, nothing learned": (
        "unstable_training",
        lambda: on_digits(deep(digits(), nn.GELU, 1), learning_rate=3.0, epochs=15),
    ),
    "unstable: thrown away by momentum": (
        "unstable_training",
        lambda: on_digits(deep(digits(), nn.GELU, 1), **SGD, learning_rate=3.0, momentum=0.9,
                          epochs=15),
    ),
    "unstable: adam, grows": (
        "unstable_training",
        lambda: on_digits(mlp(digits()), learning_rate=1e-3, rate_at=lambda s: 1 + 2000 * (s > 0.5),
                          epochs=12),
    ),
    "unstable: convolution, rate rises": (
        "unstable_training",
        lambda: on_digits(cnn(), learning_rate=3e-3, rate_at=lambda s: 1 + 300 * (s > 0.5),
                          epochs=12),
    ),
    "unstable: regression, rate rises": (
        "unstable_training",
        lambda: on(PLANE, mlp(PLANE), learning_rate=1e-2, rate_at=lambda s: 1 + 300 * (s > 0.5),
                   epochs=30),
    ),
}  # fmt: skip


def cosine(share: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * share))


def frozen() -> Evidence:
    model = deep(digits(), nn.ReLU, 1, 64)
    model[0].requires_grad_(False)
    return on_digits(model, epochs=30)


HEALTHY: dict[str, Run] = {
    "convolution": lambda: on_digits(cnn(), target=0.8),
    "recurrent": lambda: on_digits(Recurrent(), epochs=40),
    "tanh, sure outputs": lambda: on(TUMOURS, deep(TUMOURS, nn.Tanh, 1)),
    "sigmoid, shallow": lambda: on_digits(deep(digits(), nn.Sigmoid, 0), epochs=25),
    "deep with relu": lambda: on_digits(deep(digits(), nn.ReLU, 3), epochs=25),
    "rate 0 at the end": lambda: on_digits(cnn(), rate_at=cosine),
    "frozen first layer": frozen,
    "tiny batches": lambda: on_digits(mlp(digits()), batch_size=2, learning_rate=2e-3, epochs=4),
    "noise ceiling": lambda: on(linear_regression(6.0), mlp(PLANE, 4)),
    "norm first, raw inputs": lambda: on(
        raw(TUMOURS, 1e3), nn.Sequential(nn.BatchNorm1d(30), mlp(TUMOURS))
    ),
    "dropout": lambda: on_digits(mlp(digits(), 64, 0.6), epochs=20),
    "large targets": lambda: on(
        replace(PLANE, train_y=100 * PLANE.train_y, validation_y=100 * PLANE.validation_y),
        mlp(PLANE, 64), learning_rate=0.1, epochs=30,
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SICK)
def test_a_sick_run_is_seen(case: str) -> None:
    name, run = SICK[case]
    found = said(name, run())
    assert found is not None
    assert found.confidence >= 0.5
    assert found.curve is None or len(found.curve.x) <= 200


@pytest.mark.parametrize("case", HEALTHY)
def test_a_healthy_run_is_silent(case: str) -> None:
    found = diagnose(HEALTHY[case](), DETECTORS)
    assert not found.failed
    assert not [(entry.id, entry.summary) for entry in found.diagnoses]


@pytest.mark.parametrize(
    "case", ["dead: sgd rate far too high", "unstable: adam, grows", "saturated: rate too high"]
)
def test_a_rate_that_is_too_high_is_lowered_first_and_never_called_underfitting(case: str) -> None:
    found = diagnose(SICK[case][1](), DETECTORS).primary
    assert found is not None
    assert found.id != "underfitting"
    assert "learning rate" in found.summary
    assert found.recommendations[0].patch["training.learning_rate"] < 5.0


def test_a_low_rate_explains_the_stall_and_the_underfitting() -> None:
    found = diagnose(SICK["too low: adam"][1](), DETECTORS)
    assert found.primary is not None
    assert found.primary.id == "lr_too_low"
    assert set(found.consequences) == {"convergence_stall", "underfitting"}


def test_a_constant_rate_far_below_the_configured_one_is_the_optimizers_own() -> None:
    slow = on_digits(mlp(digits()), learning_rate=1e-6)
    asked = {**slow.config["training"], "learning_rate": 0.03}
    slow = replace(slow, config={**slow.config, "training": asked})
    assert said("lr_too_low", slow) is not None
    warming = slow.steps.copy()
    warming["learning_rate"] = np.linspace(1e-8, 1e-6, len(warming))
    assert said("lr_too_low", replace(slow, steps=warming)) is None, "convergence_stall tells it"


def test_the_rate_of_sgd_is_raised_by_what_its_steps_lack() -> None:
    clipped = on_digits(mlp(digits()), optimizer="sgd", learning_rate=1e-4)
    far = said("lr_too_low", replace(clipped, layers=slower(clipped, 10)))
    near = said("lr_too_low", replace(clipped, layers=slower(clipped, 3)))
    assert far is not None
    assert near is not None
    rates = [one.recommendations[0].patch["training.learning_rate"] for one in (near, far)]
    assert 1e-2 < rates[0] < rates[1] <= 1.0


def slower(evidence: Evidence, times: float) -> np.ndarray:
    """The records of layers whose updates were smaller."""
    layers = evidence.layers.copy()
    layers["update_ratio"] /= times
    return layers


def test_an_epsilon_that_swallows_the_rate_is_told_by_the_way_of_the_weights() -> None:
    found = said("lr_too_low", on_digits(mlp(digits()), learning_rate=3e-3, epsilon=1.0))
    assert found is not None
    assert "all updates over weights" in [symptom.what for symptom in found.symptoms]
    assert "no layer by more than" in found.summary


def straight() -> Evidence:
    """Rings within rings, by three layers with nothing between them."""
    draw = np.random.default_rng(0)
    x = draw.normal(size=(700, 4)).astype(np.float32)
    y = np.digitize(np.linalg.norm(x[:, :2], axis=1), [0.9, 1.5])
    model = nn.Sequential(nn.Linear(4, 32), nn.Linear(32, 32), nn.Linear(32, 3))
    return replace(on(Data(x[:500], y[:500], x[500:], y[500:]), model, epochs=15), references=RINGS)


RINGS = {"trivial": 0.4, "linear_train": 0.45, "linear_validation": 0.42, "attainable": 0.95}


def test_layers_without_an_activation_explain_what_was_not_learned() -> None:
    layers = [{"name": str(place)} for place in range(3)]
    bent = replace(straight(), probes={"inputs": {"affine": False}, "initial": {"layers": layers}})
    found = said("underfitting", bent)
    assert found is not None
    assert (found.cause, "activation" in found.summary) == (Cause.CAPACITY, False)
    affine = replace(bent, probes={"inputs": {"affine": True}, "initial": {"layers": layers}})
    ranked = diagnose(affine, DETECTORS)
    assert [entry.id for entry in ranked.diagnoses] == ["underfitting"]
    assert ranked.diagnoses[0].cause == Cause.WIRING
    assert "no activation lies between its 3 layers" in ranked.diagnoses[0].summary
    narrow = replace(affine, references=RINGS | {"linear_train": 0.95, "linear_validation": 0.9})
    found = said("underfitting", narrow)
    assert found is not None
    assert found.cause == Cause.CAPACITY, "a linear model does better: no activation mends that"


def test_units_that_were_flat_before_training_are_told_though_the_model_learns() -> None:
    model = deep(digits(), nn.Tanh, 1)
    with torch.no_grad():
        model[0].weight.mul_(150)
    flat = replace(on_digits(model, learning_rate=3e-3), target=0.3)
    assert is_well(flat)
    found = said("saturation", flat)
    assert found is not None
    assert "from the first step on" in found.summary


@pytest.fixture(scope="module")
def sound() -> Evidence:
    return on_digits(mlp(digits()), epochs=12)


def timed(evidence: Evidence, *, step_s: float, wait_s: float) -> Evidence:
    steps = evidence.steps.copy()
    steps["step_s"], steps["wait_s"] = step_s, wait_s
    return replace(evidence, steps=steps)


def epochs(evidence: Evidence, **columns: list[float]) -> Evidence:
    records: list[EpochRecord] = [
        replace(record, **{name: values[row] for name, values in columns.items()})
        for row, record in enumerate(evidence.epochs)
    ]
    return replace(evidence, epochs=tuple(records))


def test_waiting_counts_where_it_wastes_a_minute(sound: Evidence) -> None:
    found = said("resource_inefficiency", timed(sound, step_s=3.0, wait_s=2.0))
    assert found is not None
    assert "67%" in found.summary
    assert said("resource_inefficiency", timed(sound, step_s=0.003, wait_s=0.002)) is None
    assert said("resource_inefficiency", timed(sound, step_s=3.0, wait_s=1.0)) is None


def test_memory_that_grows_in_each_epoch_is_a_leak(sound: Evidence) -> None:
    grows = epochs(sound, memory_mb=[500 + 20 * row for row in range(12)])
    found = said("resource_inefficiency", grows)
    assert found is not None
    assert ".detach()" in found.recommendations[0].instruction
    assert found.curve is not None
    fills = epochs(sound, memory_mb=[500 + 300 * (1 - 0.5 ** min(row, 4)) for row in range(12)])
    assert said("resource_inefficiency", fills) is None


def test_epochs_after_the_best_count_without_early_stopping(sound: Evidence) -> None:
    many = replace(sound, epochs=tuple(
        replace(record, epoch=row, duration_s=20.0,
                validation={"accuracy": 0.9 - 0.01 * (row != 2), "loss": 0.4})
        for row, record in enumerate([*sound.epochs, *sound.epochs])
    ))  # fmt: skip
    found = said("resource_inefficiency", many)
    assert found is not None
    assert "21 of 24 epochs" in found.summary
    stopping = {"training": {**many.config["training"], "early_stopping": {"patience": 3}}}
    assert said("resource_inefficiency", replace(many, config=stopping)) is None


@pytest.mark.parametrize("name", ["vanishing_gradients", "dead_relu", "saturation", "lr_too_low"])
def test_without_layers_nothing_is_judged(name: str, sound: Evidence) -> None:
    with pytest.raises(NotJudged):
        DETECTORS[name](replace(sound, layers=None, layer_names=(), trained=None))


def test_layers_of_nothing_but_nan_are_survived(sound: Evidence) -> None:
    layers = sound.layers.copy()
    for name in layers.dtype.names[3:]:
        layers[name] = np.nan
    found = diagnose(replace(sound, layers=layers), DETECTORS)
    assert not found.failed
