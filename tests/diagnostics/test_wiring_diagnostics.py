"""Sick and sound wiring, rehearsed and probed for real: who speaks, and who stays silent."""

import copy
import functools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytest_mltrainer.diagnostics import detectors
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset
from wiring_tasks import (
    HEALTHY,
    WIRING,
    Encoder,
    Made,
    Recurrent,
    Tagger,
    deep,
    evidence_of,
    findings,
    images,
    labels,
    mlp,
    normal_,
    table,
    tagged,
    tokens,
    two_optimizers,
    uniform_,
    values,
)

from pytest_mltrainer.core.evidence import Diagnosis, Evidence, NotJudged


@dataclass(frozen=True, slots=True, kw_only=True)
class Sick:
    """A task, the diagnostic that must speak, and what it must name."""

    id: str
    make: Callable[[], Made]
    says: str = ""
    training: dict[str, Any] | None = None
    also: tuple[str, ...] = ()


def with_output(activation: nn.Module, **parts: Any) -> Callable[[], Made]:
    return lambda: Made(lambda: nn.Sequential(mlp(), activation), table, **parts)


class Function(nn.Module):
    """A model around an expression of two layers."""

    def __init__(self, forward: Callable[..., torch.Tensor], outputs: int = 4) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(8, 32), nn.Linear(32, outputs)
        self.expression = forward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.expression(x, self.first, self.head)


class InList(nn.Module):
    """Hidden layers in a plain list, or in a dict of lists."""

    def __init__(self, nested: bool = False) -> None:
        super().__init__()
        self.layers: Any = [nn.Linear(8, 8), nn.Linear(8, 8)]
        if nested:
            self.layers = {"a": self.layers}
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers["a"] if isinstance(self.layers, dict) else self.layers:
            x = layer(x).relu()
        return self.head(x)


def never_cleared(session: Any) -> None:
    for epoch in session.epochs():
        for inputs, targets in session.batches():
            session.loss(inputs, targets).backward()
            session.optimizer.step()
        session.finish_epoch(epoch)


def first_layer_cleared(session: Any) -> None:
    for epoch in session.epochs():
        for inputs, targets in session.batches():
            session.model[0].zero_grad()
            session.loss(inputs, targets).backward()
            session.optimizer.step()
        session.finish_epoch(epoch)


def never_cleared_but_clipped(session: Any) -> None:
    for epoch in session.epochs():
        for inputs, targets in session.batches():
            session.loss(inputs, targets).backward()
            nn.utils.clip_grad_norm_(session.model.parameters(), 0.5)
            session.optimizer.step()
        session.finish_epoch(epoch)


def stepped_within_accumulation(session: Any) -> None:
    for epoch in session.epochs():
        for number, (inputs, targets) in enumerate(session.batches()):
            (session.loss(inputs, targets) / 4).backward()
            session.optimizer.step()
            if number % 4 == 3:
                session.optimizer.zero_grad()
        session.finish_epoch(epoch)


def standard_values() -> TensorDataset:
    return values(shape=1)


SICK = {
    # Outputs, targets and loss.
    "softmax before cross entropy": Sick(
        id="loss_mismatch", make=with_output(nn.Softmax(1)), says="softmax"
    ),
    "softmax in a tagger": Sick(
        id="loss_mismatch",
        make=lambda: Made(lambda: nn.Sequential(Tagger(), nn.Softmax(2)), tagged, "sequence"),
        says="softmax",
    ),
    "sigmoid before cross entropy": Sick(
        id="loss_mismatch", make=with_output(nn.Sigmoid()), says="sigmoid"
    ),
    "sigmoid before bce with logits": Sick(
        id="loss_mismatch",
        make=lambda: Made(
            lambda: nn.Sequential(mlp(outputs=5), nn.Sigmoid()), labels, "multilabel"
        ),
        says="sigmoid",
    ),
    "tanh before cross entropy": Sick(
        id="loss_mismatch", make=with_output(nn.Tanh()), says="tanh"
    ),
    "nll on scores": Sick(
        id="loss_mismatch", make=lambda: Made(mlp, table, loss=functional.nll_loss), says="log-prob"
    ),
    "nll on probabilities": Sick(
        id="loss_mismatch",
        make=with_output(nn.Softmax(1), loss=functional.nll_loss),
        says="log-probabilities and gets probabilities",
    ),
    "column against row": Sick(
        id="loss_mismatch",
        make=lambda: Made(
            lambda: mlp(outputs=1), standard_values, "regression", functional.mse_loss
        ),
        says="broadcast",
    ),
    "column against row, absolute": Sick(
        id="loss_mismatch",
        make=lambda: Made(
            lambda: mlp(outputs=1), standard_values, "regression", functional.l1_loss
        ),
        says="broadcast",
    ),
    "sigmoid for targets of any size": Sick(
        id="loss_mismatch",
        make=lambda: Made(
            lambda: nn.Sequential(mlp(outputs=1), nn.Sigmoid()),
            lambda: values(scale=5.0, offset=20.0),
            "regression",
        ),
        says="outside",
    ),
    "relu for standardised targets": Sick(
        id="loss_mismatch",
        make=lambda: Made(
            lambda: nn.Sequential(mlp(outputs=1), nn.ReLU()), values, "regression"
        ),
        says="outside",
    ),
    # What updates do not reach.
    "layers in a list": Sick(
        id="params_not_updated", make=lambda: Made(InList, table), says=r"layers\[0\] \(Linear\)"
    ),
    "layers in a dict of lists": Sick(
        id="params_not_updated", make=lambda: Made(lambda: InList(True), table), says="'a'"
    ),
    "optimizer of the head only": Sick(
        id="params_not_updated",
        make=lambda: Made(
            mlp, table, optimizer=lambda model: torch.optim.Adam(model[2].parameters(), 1e-3)
        ),
        says="0.weight, 0.bias",
    ),
    "detached": Sick(
        id="params_not_updated",
        make=lambda: Made(
            lambda: Function(lambda x, first, head: head(first(x).relu().detach())), table
        ),
        says="first.weight",
    ),
    "unused head": Sick(
        id="params_not_updated",
        make=lambda: Made(
            lambda: Function(lambda x, first, head: first(x)[:, :1], outputs=2),
            values,
            "regression",
        ),
        says="head.weight",
    ),
    "rounded": Sick(
        id="params_not_updated",
        make=lambda: Made(
            lambda: Function(lambda x, first, head: head(first(3 * x).round())), table
        ),
        says="first.weight",
    ),
    "rate 0": Sick(
        id="params_not_updated",
        make=lambda: Made(
            lambda: Recurrent(),
            tokens,
            optimizer=lambda model: torch.optim.SGD(model.parameters(), 0.0),
        ),
        says="embed.weight",
    ),
    # Gradients that add up.
    "never cleared": Sick(
        id="missing_zero_grad", make=lambda: Made(mlp, table, train=never_cleared)
    ),
    "never cleared, regression, clipped": Sick(
        id="missing_zero_grad",
        make=lambda: Made(
            lambda: mlp(outputs=1), values, "regression", train=never_cleared_but_clipped
        ),
    ),
    "stepped within the accumulation": Sick(
        id="missing_zero_grad",
        make=lambda: Made(Tagger, tagged, "sequence", train=stepped_within_accumulation),
    ),
    "never cleared, sgd, multilabel": Sick(
        id="missing_zero_grad",
        make=lambda: Made(lambda: mlp(outputs=5), labels, "multilabel", train=never_cleared),
        training={"optimizer": "sgd", "learning_rate": 0.1},
    ),
    "one group of two is cleared": Sick(
        id="missing_zero_grad",
        make=lambda: Made(mlp, table, train=first_layer_cleared),
        training={"optimizer": "sgd", "learning_rate": 0.1},
    ),
    "the second of two optimizers forgets": Sick(
        id="missing_zero_grad",
        make=lambda: Made(mlp, table, train=functools.partial(two_optimizers, cleared=1)),
    ),
    "both of two optimizers forget": Sick(
        id="missing_zero_grad",
        make=lambda: Made(mlp, table, train=functools.partial(two_optimizers, cleared=0)),
    ),
    # Inputs that do not matter.
    "zeros in place of the input": Sick(
        id="input_ignored",
        make=lambda: Made(
            lambda: Function(lambda x, first, head: head(first(torch.zeros_like(x)).relu())), table
        ),
        says="first",
    ),
    "one constant feature map": Sick(
        id="input_ignored",
        make=lambda: Made(
            lambda: Function(lambda x, first, head: head((0 * first(x)).relu())), table
        ),
        says="between first",
        also=("params_not_updated", "bad_init"),
    ),
    "one sample for all": Sick(
        id="input_ignored",
        make=lambda: Made(
            Recurrent,
            lambda: TensorDataset(tokens().tensors[0][:1].expand(192, 6), tokens().tensors[1]),
        ),
        says="Task.data",
        also=("bad_init",),
    ),
    # Samples that see each other.
    "softmax over the batch": Sick(
        id="batch_mixing",
        make=lambda: Made(
            lambda: Function(lambda x, first, head: head(first(x).softmax(0))), table
        ),
        says=r"between first \(Linear\) and head",
    ),
    "recurrent over the batch": Sick(
        id="batch_mixing",
        make=lambda: Made(lambda: Recurrent(batch_first=False), tokens),
        says=r"rnn \(LSTM\)",
    ),
    "attention over the batch": Sick(
        id="batch_mixing",
        make=lambda: Made(lambda: Encoder(batch_first=False), tokens),
        says="MultiheadAttention",
    ),
    "norm without running statistics": Sick(
        id="batch_mixing",
        make=lambda: Made(
            lambda: nn.Sequential(nn.BatchNorm1d(8, track_running_stats=False), mlp(outputs=1)),
            values,
            "regression",
        ),
        says="BatchNorm1d",
    ),
    "view for permute": Sick(
        id="batch_mixing",
        make=lambda: Made(
            lambda: Function(
                lambda x, first, head: head(first(x).t().reshape(len(x), 32).relu())
            ),
            table,
        ),
        says="between first",
    ),
    # Evaluation that is something else.
    "dropout without training=": Sick(
        id="train_eval_mismatch",
        make=lambda: Made(
            lambda: Function(lambda x, first, head: head(functional.dropout(first(x), 0.5))), table
        ),
        says="between first",
    ),
    "noise in predict": Sick(
        id="train_eval_mismatch",
        make=lambda: Made(
            lambda: mlp(outputs=1),
            values,
            "regression",
            predict=lambda model, x: model(x + 0.1 * torch.randn_like(x)),
        ),
        says="two evaluations|Two evaluations",
    ),
    "eval without effect": Sick(
        id="train_eval_mismatch",
        make=lambda: Made(lambda: StillTraining(), labels, "multilabel"),
        says="Dropout",
    ),
    "momentum of another library": Sick(
        id="train_eval_mismatch",
        make=lambda: Made(
            lambda: nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8, momentum=1e-3), mlp()), table
        ),
        says="momentum 0.001",
    ),
    "batches of two": Sick(
        id="train_eval_mismatch",
        make=lambda: Made(lambda: nn.Sequential(nn.BatchNorm1d(8), mlp()), table),
        training={"batch_size": 2},
        says="2 values",
    ),
    # Weights before training.
    "all weights equal": Sick(
        id="bad_init", make=lambda: Made(lambda: uniform_(mlp(), 0.1), table), says="same weights"
    ),
    "all weights zero": Sick(
        id="bad_init",
        make=lambda: Made(lambda: uniform_(mlp(outputs=1), 0.0), values, "regression"),
        says="at zero",
        also=("params_not_updated", "input_ignored"),
    ),
    "weights of deviation 1": Sick(
        id="bad_init", make=lambda: Made(lambda: normal_(mlp(width=128), 1.0), table), says="large"
    ),
    "weights of deviation 1, multilabel": Sick(
        id="bad_init",
        make=lambda: Made(lambda: normal_(mlp(width=128, outputs=5), 1.0), labels, "multilabel"),
        says="large",
    ),
    "weights of deviation 1, regression": Sick(
        id="bad_init",
        make=lambda: Made(lambda: normal_(mlp(outputs=1), 1.0), values, "regression"),
        says="large",
    ),
    "tiny weights over depth": Sick(
        id="bad_init", make=lambda: Made(lambda: normal_(deep(nn.Tanh, 4), 1e-3), table),
        says="small",
    ),
    "biases of 50": Sick(
        id="bad_init", make=lambda: Made(lambda: biased(mlp()), table), says="biases drown"
    ),
}  # fmt: skip


class StillTraining(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.drop = mlp(outputs=5), nn.Dropout(0.5)

    def train(self, mode: bool = True) -> "StillTraining":
        return super().train(True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(self.drop(x))


def biased(model: nn.Sequential) -> nn.Module:
    nn.init.constant_(model[0].bias, 50.0)
    return model


def text_of(found: Diagnosis) -> str:
    return " ".join([found.summary, found.where, *(e.instruction for e in found.recommendations)])


@pytest.mark.filterwarnings("ignore:Using a target size")
@pytest.mark.parametrize("case", SICK)
def test_sick_wiring_is_named_and_located(case: str) -> None:
    sick = SICK[case]
    evidence = evidence_of(sick.make(), **(sick.training or {}))
    said, _ = findings(evidence)
    assert sick.id in said, evidence.probes
    assert set(said) <= {sick.id, *sick.also}
    assert re.search(sick.says, text_of(said[sick.id])), text_of(said[sick.id])


def test_units_that_never_fire_are_dead_and_no_fault_of_the_wiring() -> None:
    evidence = evidence_of(
        Made(
            lambda: Function(lambda x, first, head: head((first(x) - 1e3).relu()), 1),
            values,
            "regression",
        )
    )
    assert not findings(evidence)[0]
    found = detectors()["dead_relu"](evidence)
    assert found is not None
    assert found.where == "relu behind first"


@pytest.mark.parametrize("case", HEALTHY)
def test_sound_wiring_is_judged_and_silent(case: str) -> None:
    evidence = evidence_of(HEALTHY[case]())
    said, not_judged = findings(evidence)
    assert not said, evidence.probes
    assert not not_judged


def test_a_declared_parameter_is_silent() -> None:
    task = SICK["unused head"].make()
    said, _ = findings(evidence_of(task, unused_parameters=["head.*"]))
    assert "params_not_updated" not in said


def test_a_class_beyond_the_outputs_is_named_though_no_batch_held_it() -> None:
    evidence = evidence_of(Made(mlp, table))
    profile = {**(evidence.profile or {}), "targets": {"max": 4.0}}
    found = detectors()["loss_mismatch"](replace(evidence, profile=profile))
    assert found is not None
    assert "class 4" in found.summary


@pytest.mark.parametrize(
    ("kind", "metric", "train", "held", "speaks"),
    [
        ("classification", "accuracy", 0.95, 0.60, True),
        ("classification", "accuracy", 0.70, 0.95, False),
        ("classification", "accuracy", 0.95, 0.85, False),
        ("regression", "r2", 0.9, 0.4, True),
        ("regression", "r2", 0.9, 0.7, False),
    ],
)
def test_modes_of_the_trained_model(
    kind: str, metric: str, train: float, held: float, speaks: bool
) -> None:
    scores = {"judged": True, "train": train, "eval": held, "rows": 500}
    evidence = Evidence(
        kind=kind,
        metric=metric,
        maximize=True,
        target=None,
        config={},
        trained={"modes": scores},
    )
    assert (detectors()["train_eval_mismatch"](evidence) is not None) is speaks


@pytest.mark.parametrize("name", sorted({sick.id for sick in SICK.values()}))
def test_without_the_probe_nothing_is_judged(name: str) -> None:
    bare = Evidence(kind="classification", metric="accuracy", maximize=True, target=None, config={})
    with pytest.raises(NotJudged):
        detectors()[name](bare)


def test_probes_and_diagnoses_can_be_stored() -> None:
    evidence = evidence_of(SICK["never cleared"].make())
    json.dumps(evidence.probes, allow_nan=False)
    for found in findings(evidence)[0].values():
        assert Diagnosis.from_json(json.loads(json.dumps(found.to_json()))) == found


leaf = (
    st.none()
    | st.booleans()
    | st.floats()
    | st.text(max_size=3)
    | st.lists(st.text(max_size=3) | st.floats(), max_size=3)
)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(data=st.data(), kind=st.sampled_from(["classification", "regression", "custom"]))
@pytest.mark.parametrize("name", WIRING)
def test_odd_probes_raise_nothing_else(name: str, data: st.DataObject, kind: str) -> None:
    probes = {
        part: {"judged": True} | {key: data.draw(leaf) for key in facts if data.draw(st.booleans())}
        for part, facts in sound_probes().items()
    }
    if data.draw(st.booleans()):
        layers = {"name": "a", "input_std": data.draw(leaf), "row_std": data.draw(leaf)}
        probes["initial"]["layers"] = [layers, {**layers, "alike": data.draw(st.booleans())}]
    odd = Evidence(
        kind=kind, metric="accuracy", maximize=True, target=None, config={}, probes=probes
    )
    try:
        found = detectors()[name](odd)
    except NotJudged:
        return
    if found is not None:
        assert 0 < found.confidence <= 1
        json.dumps(found.to_json(), allow_nan=False)


@functools.cache
def sound_probes() -> dict[str, Any]:
    return dict(evidence_of(HEALTHY["mlp"]()).probes or {})


def test_images_are_no_special_case() -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, 4), nn.Softmax(1))
    said, _ = findings(evidence_of(Made(lambda: copy.deepcopy(model), images)))
    assert set(said) == {"loss_mismatch"}
