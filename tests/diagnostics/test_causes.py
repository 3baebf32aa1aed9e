"""What lets detectors tell causes apart: functional activations, time, what could be reached."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pytest_mltrainer.diagnostics import detectors
from torch import nn
from torch.utils.data import TensorDataset
from trainings import Recipe, digits, mlp, train
from wiring_tasks import Made, evidence_of

from pytest_mltrainer.core.evidence import Cause, Diagnosis, EpochRecord, Evidence, NotJudged
from pytest_mltrainer.core.ranking import diagnose
from pytest_mltrainer.evaluation.metrics import METRICS
from pytest_mltrainer.training.data.attainable import attainable_score
from pytest_mltrainer.training.data.neighbours import chance_equal, near_duplicates
from pytest_mltrainer.training.data.samples import Samples
from pytest_mltrainer.training.observation.activation_facts import activation_facts

DETECTORS = detectors()
DRAW = np.random.default_rng


class Functional(nn.Module):
    """Two hidden layers whose activations are functions; `bias` before, `scale` of the sums."""

    def __init__(self, activation: Callable[..., Any], bias: float = 0.0, scale: float = 1) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second, self.head = nn.Linear(8, 24), nn.Linear(24, 24), nn.Linear(24, 3)
        self.activation, self.scale = activation, scale
        nn.init.constant_(self.second.bias, bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.activation(self.scale * self.first(x))
        return self.head(self.activation(self.scale * self.second(hidden)))


class Reader(nn.Module):
    """The last state of a recurrent layer, and one value from it."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(24, 1)

    def forward(self, series: torch.Tensor) -> torch.Tensor:
        return self.head(self.layer(series)[0][:, -1])


def recurrent(kind: type[nn.Module], gain: float = 1.0) -> nn.Module:
    torch.manual_seed(0)
    layer = kind(2, 24, batch_first=True)
    with torch.no_grad():
        for name, part in layer.named_parameters():
            if "weight_hh" in name:
                part.mul_(gain)
    return layer


@functools.cache
def series() -> TensorDataset:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(96, 48, 2, generator=draw)
    return TensorDataset(x, x[:, -1].sum(1, keepdim=True))


def rows(count: int = 64) -> torch.Tensor:
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(1))


def said(name: str, evidence: Evidence) -> Diagnosis | None:
    try:
        return DETECTORS[name](evidence)
    except NotJudged:
        return None


def sound(activation: Callable[..., Any], **options: float) -> Any:
    model = Functional(activation, **options)
    return activation_facts(model, lambda: model(rows()))


def test_dead_and_saturated_units_of_functions_are_seen_by_place() -> None:
    dead = sound(torch.relu, bias=-50.0).dead
    assert list(dead) == ["relu behind first", "relu behind second"]
    assert dead["relu behind first"] < 0.2
    assert dead["relu behind second"] == 1.0
    flat = sound(torch.sigmoid, scale=500.0).saturated
    assert set(flat) == {"sigmoid behind first", "sigmoid behind second"}
    assert min(flat.values()) > 0.8
    assert max(sound(torch.tanh).saturated.values()) == 0.0


def test_modules_keep_their_names_and_an_output_is_no_hidden_activation() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.ReLU(), nn.Linear(16, 1), nn.Sigmoid())
    facts = activation_facts(model, lambda: model(1e4 * rows()))
    assert set(facts.saturated) == {"1"}
    assert set(facts.dead) == {"2"}


def test_a_rectifier_that_is_given_the_same_on_every_row_has_not_killed_it() -> None:
    model = Functional(torch.relu)
    facts = activation_facts(model, lambda: model(torch.zeros(64, 8)))
    assert facts.dead == {}


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_gates_of_recurrent_layers_saturate_with_their_inputs(kind: type[nn.Module]) -> None:
    layer = recurrent(kind)
    x = series().tensors[0]
    assert activation_facts(layer, lambda: layer(x)).saturated["(model)"] < 0.05
    assert activation_facts(layer, lambda: layer(500 * x)).saturated["(model)"] > 0.8


def test_gradients_fade_and_explode_over_the_times() -> None:
    def reach(kind: type[nn.Module], gain: float = 1.0) -> float:
        task = Made(lambda: Reader(recurrent(kind, gain)), series, "regression")
        probes = evidence_of(task, steps=2).probes
        assert probes is not None
        return float(probes["recurrence"]["reach"]["layer"])

    assert reach(nn.RNN) < 1e-6
    assert 1e-3 < reach(nn.RNN, gain=1.9) < 1e3
    assert reach(nn.RNN, gain=6.0) > 1e3


class ByHand(nn.Module):
    """A recurrence written by hand, without anything that holds the state down."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.enter, self.step, self.head = nn.Linear(2, 16), nn.Linear(16, 16), nn.Linear(16, 1)
        nn.init.orthogonal_(self.step.weight, gain=gain)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state = torch.zeros(len(x), 16)
        for given in x.unbind(1):
            state = self.step(state + self.enter(given))
        return self.head(state)


def test_a_recurrence_by_hand_grows_with_its_weights() -> None:
    def facts(gain: float) -> Mapping[str, Any]:
        probes = evidence_of(Made(lambda: ByHand(gain), series, "regression"), steps=2).probes
        assert probes is not None
        return probes["recurrence"]  # type: ignore[no-any-return]

    wild, calm = facts(1.5), facts(1.0)
    assert wild["gain"]["step"] == pytest.approx(1.5)
    assert wild["reach"]["step"] > 1e3
    assert wild["growth"]["step"] > 1e3
    assert calm["reach"]["step"] < 10
    assert calm["growth"]["step"] < 100


@pytest.mark.parametrize("matrix", ["weight_ih_l0", "weight_hh_l0"])
def test_one_sided_weights_between_states_are_a_bad_start(matrix: str) -> None:
    def one_sided() -> nn.Module:
        layer = recurrent(nn.RNN)
        nn.init.uniform_(layer.get_parameter(matrix), 0.0, 1.0)
        return Reader(layer)

    task = Made(one_sided, series, "regression")
    found = said("bad_init", evidence_of(task, steps=2))
    # Two columns a time: the weights of the inputs are too few to say.
    assert (found is not None) == (matrix == "weight_hh_l0")


@pytest.mark.parametrize(("gain", "wanted"), [(6.0, "exploding_gradients"),
                                              (1.0, "vanishing_gradients")])  # fmt: skip
def test_time_is_blamed_only_when_nothing_was_learned(gain: float, wanted: str) -> None:
    task = Made(lambda: Reader(recurrent(nn.RNN, gain)), series, "regression")
    fields = [("loss", "f8"), ("gradient_norm", "f8"), ("learning_rate", "f8")]
    steps = np.array([(1.0, 1.0, 0.01)] * 40, dtype=fields)

    def of(score: float) -> Evidence:
        return replace(
            evidence_of(task, steps=2),
            metric="r2",
            epochs=tuple(epoch(number, score, score) for number in range(8)),
            steps=steps,
            references={"trivial": 0.0, "attainable": 0.9},
        )

    found = said(wanted, of(0.02))
    assert found is not None
    assert "layer" in found.summary or wanted == "exploding_gradients"
    assert said(wanted, of(0.9)) is None


def epoch(number: int, train_score: float, score: float, metric: str = "r2") -> EpochRecord:
    return EpochRecord(
        epoch=number,
        steps=5,
        learning_rate=0.01,
        duration_s=1.0,
        train={"loss": 1.0, metric: train_score},
        validation={"loss": 1.0, metric: score},
    )


def both(x: np.ndarray, y: np.ndarray) -> tuple[Any, Any]:
    half = len(x) // 2
    return (x[:half], y[:half]), (x[half:], y[half:])


def waves() -> tuple[np.ndarray, np.ndarray]:
    draw = DRAW(0)
    y = draw.integers(0, 3, 400)
    time = np.arange(32) / 32
    phase = draw.uniform(0, 6.3, 400)
    x = np.sin(6.3 * (2 * y[:, None] + 1) * time + phase[:, None])
    return x[..., None] + 0.2 * draw.normal(size=(400, 32, 1)), y


def bags() -> tuple[np.ndarray, np.ndarray]:
    draw = DRAW(0)
    y = draw.integers(0, 2, 600)
    x = draw.integers(0, 30, (600, 12))
    x[np.arange(600), draw.integers(0, 12, 600)] = 30 + y
    return x, y


def tags() -> tuple[np.ndarray, np.ndarray]:
    x = DRAW(0).integers(0, 4, (200, 9))
    return x, (x + np.roll(x, 1, axis=1)) % 2


def letters() -> tuple[np.ndarray, np.ndarray]:
    """Each letter is the one before it plus 0 to 3 at random: a quarter can be foretold."""
    x = np.cumsum(DRAW(0).integers(0, 4, (200, 13)), axis=1) % 12
    return x[:, :-1], x[:, 1:]


def signs() -> tuple[np.ndarray, np.ndarray]:
    x = DRAW(0).normal(size=(400, 5))
    return x, np.stack([x[:, 0] > 0, x[:, 1] * x[:, 2] > 0], 1).astype(np.float32)


def noise() -> tuple[np.ndarray, np.ndarray]:
    draw = DRAW(0)
    return draw.normal(size=(400, 5)), draw.normal(size=400)


ATTAINED: Mapping[str, tuple[str, str, Callable[[], Any], tuple[float, float]]] = {
    "waves at any phase": ("classification", "accuracy", waves, (0.9, 1.0)),
    "a word anywhere": ("classification", "accuracy", bags, (0.9, 1.0)),
    "tags by their neighbours": ("sequence", "token_accuracy", tags, (0.8, 1.0)),
    "the next letter, without looking at it": ("sequence", "token_accuracy", letters, (0.2, 0.35)),
    "two labels": ("multilabel", "micro_f1", signs, (0.8, 1.0)),
    "noise": ("regression", "r2", noise, (-0.5, 0.1)),
}


@pytest.mark.parametrize("case", ATTAINED)
def test_trees_say_what_can_be_reached(case: str) -> None:
    kind, metric, make, (low, high) = ATTAINED[case]
    reached = attainable_score(kind, METRICS[metric], *both(*make()))
    assert reached is not None
    assert low <= reached <= high


def test_nothing_is_said_of_few_rows_or_of_what_is_not_finite() -> None:
    x, y = noise()
    assert attainable_score("regression", METRICS["r2"], *both(x[:40], y[:40])) is None
    x[3, 2] = np.nan
    assert attainable_score("regression", METRICS["r2"], *both(x, y)) is None


def test_equal_rows_by_chance_are_counted_within_classes() -> None:
    draw = DRAW(0)
    y = np.repeat([0, 1], 300)
    x = (2 * y[:, None] + draw.integers(0, 2, (600, 6))).astype(np.float32)
    other = (2 * y[:, None] + draw.integers(0, 2, (600, 6))).astype(np.float32)
    assert max(chance_equal(x, other)) < 0.2
    assert min(chance_equal(x, other, y)) > 0.9
    assert chance_equal(draw.normal(size=(600, 6)), other, y) == (0.0, 0.0)


def test_the_columns_of_a_category_stay_together_where_chance_is_counted() -> None:
    draw = DRAW(0)

    def answers() -> np.ndarray[Any, Any]:
        kinds = [np.eye(size)[draw.integers(0, size, 800)] for size in (2, 3, 4)]
        return np.concatenate(kinds, axis=1).astype(np.float32)

    one, other = answers(), answers()
    assert chance_equal(one, other) == (1.0, 1.0)
    first_left_out = [1, 3, 4, 6, 7, 8]
    assert min(chance_equal(one[:, first_left_out], other[:, first_left_out])) > 0.98
    one[:, -1] += draw.normal(size=800)
    assert max(chance_equal(one, other)) < 0.1


def test_rows_cut_off_at_ten_deviations_are_no_duplicates() -> None:
    draw = DRAW(0)
    parts = {"train": draw.normal(size=(200, 4)), "validation": np.full((80, 4), 10.0),
             "test": np.full((80, 4), 10.0)}  # fmt: skip
    scaled = {name: part.astype(np.float32) for name, part in parts.items()}
    splits = {name: Samples(name=name, n=len(part), rows=list(range(len(part))))
              for name, part in parts.items()}  # fmt: skip
    pairs = near_duplicates(splits, scaled)["pairs"]
    assert pairs["validation/test"]["near"] == 0


MODES = {"judged": True, "rows": 1000}
SPLITS = {"splits": {"train": {"n": 1000}, "validation": {"n": 400}}}


@pytest.mark.parametrize(
    ("kind", "metric", "on_training", "validation", "profile", "is_noise"),
    [
        ("classification", "accuracy", 0.80, 0.95, {}, True),
        ("sequence", "token_accuracy", 0.70, 0.99, {}, True),
        ("regression", "r2", 0.40, 0.80, {}, True),
        ("classification", "accuracy", 0.93, 0.95, {}, False),
        ("classification", "accuracy", 0.99, 0.90, {}, False),
        ("classification", "accuracy", 0.80, 0.95, {"random": True}, False),
        ("classification", "accuracy", 0.80, 0.95, {"splits": {"validation": {"n": 20}}}, False),
    ],
)
def test_a_model_that_does_worse_on_its_own_samples_was_taught_wrong_ones(
    kind: str,
    metric: str,
    on_training: float,
    validation: float,
    profile: dict[str, Any],
    is_noise: bool,
) -> None:
    evidence = Evidence(
        kind=kind,
        metric=metric,
        maximize=True,
        target=None,
        config={},
        epochs=[epoch(0, on_training, validation, metric)],
        profile={**SPLITS, **profile},
        trained={"modes": {**MODES, "eval": on_training, "train": on_training}},
    )
    assert (said("label_noise", evidence) is not None) is is_noise


def test_a_step_too_large_for_the_units_is_no_standstill_without_a_reason() -> None:
    data = digits(300)
    evidence = train(data, mlp(data), Recipe(learning_rate=1.0))
    found = diagnose(evidence, DETECTORS)
    assert found.primary is not None
    assert found.primary.id == "dead_relu"
    assert found.primary.cause is Cause.LEARNING_RATE
    assert "convergence_stall" in found.consequences


@pytest.mark.parametrize(
    ("wait_s", "sick"), [(0.05, True), (0.0005, False)], ids=["slow rows", "tiny steps"]
)
def test_slow_loading_counts_in_a_short_run(wait_s: float, sick: bool) -> None:
    fields = [(name, "f8") for name in ("epoch", "step_s", "wait_s")]
    steps = np.array([(0, 1.2 * wait_s, wait_s)] * 60, dtype=fields)
    evidence = Evidence(
        kind="regression", metric="r2", maximize=True, target=None,
        config={"training": {"batch_size": 32}}, steps=steps,
    )  # fmt: skip
    assert (said("resource_inefficiency", evidence) is not None) is sick


def one_sided(weight: torch.Tensor) -> None:
    nn.init.uniform_(weight, 0.0, 0.3)


def test_weights_of_one_sign_and_ordinary_depth_are_told_apart() -> None:
    def evidence(make: Callable[[torch.Tensor], Any], depth: int) -> Evidence:
        def model() -> nn.Module:
            torch.manual_seed(0)
            layers: list[nn.Module] = [nn.Linear(8, 32), nn.ReLU()]
            for _ in range(depth):
                layers += [nn.Linear(32, 32), nn.ReLU()]
            for layer in layers[::2]:
                make(layer.weight)  # type: ignore[arg-type]
            return nn.Sequential(*layers, nn.Linear(32, 1))

        draw = torch.Generator().manual_seed(3)
        x = torch.randn(96, 8, generator=draw)
        return evidence_of(Made(model, lambda: TensorDataset(x, x[:, :1]), "regression"), steps=2)

    found = said("bad_init", evidence(one_sided, 2))
    assert found is not None
    assert "one sign" in found.summary
    assert said("bad_init", evidence(nn.init.kaiming_normal_, 2)) is None
    deep = evidence(lambda weight: nn.init.normal_(weight, 0.0, 0.5), 8)
    assert said("bad_init", deep) is None
    assert said("bad_init", evidence(lambda weight: nn.init.normal_(weight, 0.0, 2.0), 2))
