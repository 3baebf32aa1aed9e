"""Tasks whose wiring is sound, in many shapes, and one rehearsal that probes any of them."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from pytest_mltrainer.diagnostics import detectors
from torch import nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from pytest_mltrainer import Config, Splits, Task
from pytest_mltrainer.core.evidence import Diagnosis, Evidence, NotJudged
from pytest_mltrainer.training.probes import UpdateWatcher, probe
from pytest_mltrainer.training.reproducibility import RngState
from pytest_mltrainer.training.session import TrainingSession

WIRING = (
    "loss_mismatch",
    "params_not_updated",
    "missing_zero_grad",
    "input_ignored",
    "batch_mixing",
    "train_eval_mismatch",
    "bad_init",
)
STEPS = 8
ROWS = 192


class Made(Task):
    """A task of given parts; what is not given is the default of `Task`."""

    def __init__(
        self,
        make: Callable[[], nn.Module],
        data: Callable[[], TensorDataset],
        kind: str = "classification",
        loss: Callable[[Any, Any], torch.Tensor] | None = None,
        predict: Callable[[nn.Module, Any], torch.Tensor] | None = None,
        optimizer: Callable[[nn.Module], torch.optim.Optimizer] | None = None,
        train: Callable[[TrainingSession], None] | None = None,
        collate: Callable[[Any], Any] | None = None,
    ) -> None:
        self.kind = kind  # type: ignore[misc,assignment]
        self._make, self._data, self._loss, self._predict = make, data, loss, predict
        self._optimizer, self._train, self._collate = optimizer, train, collate

    def model(self, config: Config) -> nn.Module:
        return self._make()

    def data(self, config: Config) -> Splits:
        data = self._data()
        return Splits(train=data, validation=data, test=data)

    def loss(self, outputs: Any, targets: Any, config: Config) -> torch.Tensor:
        return (
            self._loss(outputs, targets) if self._loss else super().loss(outputs, targets, config)
        )

    def predict(self, model: nn.Module, inputs: Any) -> torch.Tensor:
        return self._predict(model, inputs) if self._predict else super().predict(model, inputs)

    def optimizer(self, model: nn.Module, config: Config) -> torch.optim.Optimizer:
        return self._optimizer(model) if self._optimizer else super().optimizer(model, config)

    def train(self, session: TrainingSession) -> None:
        self._train(session) if self._train else super().train(session)

    def collate(self, samples: Any) -> Any:
        return self._collate(samples) if self._collate else super().collate(samples)


@functools.cache
def table(columns: int = 8, classes: int = 4) -> TensorDataset:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(ROWS, columns, generator=draw)
    return TensorDataset(x, (x @ torch.randn(columns, classes, generator=draw)).argmax(1))


@functools.cache
def images(classes: int = 4) -> TensorDataset:
    draw = torch.Generator().manual_seed(2)
    y = torch.arange(ROWS) % classes
    return TensorDataset(torch.randn(ROWS, 1, 8, 8, generator=draw) + y[:, None, None, None], y)


@functools.cache
def values(columns: int = 8, scale: float = 1.0, offset: float = 0.0, shape: int = 2) -> Any:
    draw = torch.Generator().manual_seed(3)
    x = torch.randn(ROWS, columns, generator=draw)
    y = x @ torch.randn(columns, 1, generator=draw)
    y = offset + scale * y / y.std()
    return TensorDataset(x, y if shape == 2 else y[:, 0])


def far_values() -> TensorDataset:
    draw = torch.Generator().manual_seed(4)
    shape = ROWS, 8
    return TensorDataset(
        torch.randn(shape, generator=draw), 100 + torch.randn(shape, generator=draw)
    )


def counts() -> TensorDataset:
    draw = torch.Generator().manual_seed(5)
    x = torch.randn(ROWS, 8, generator=draw)
    rates = (x @ torch.randn(8, 1, generator=draw) / 2 + 5).exp()
    return TensorDataset(x, torch.poisson(rates, generator=draw))


@functools.cache
def labels() -> TensorDataset:
    draw = torch.Generator().manual_seed(4)
    x = torch.randn(ROWS, 8, generator=draw)
    return TensorDataset(x, (x @ torch.randn(8, 5, generator=draw) > 1.0).float())


@functools.cache
def tokens() -> TensorDataset:
    draw = torch.Generator().manual_seed(5)
    x = torch.randint(0, 20, (ROWS, 6), generator=draw)
    return TensorDataset(x, (x.sum(1) > 57).long())


@functools.cache
def tagged() -> TensorDataset:
    draw = torch.Generator().manual_seed(6)
    x = torch.randint(0, 20, (ROWS, 6), generator=draw)
    return TensorDataset(x, x % 3)


def mlp(inputs: int = 8, outputs: int = 4, width: int = 32) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, outputs))


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
        nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.3), nn.Linear(8, 4),
    )  # fmt: skip


class Recurrent(nn.Module):
    def __init__(self, batch_first: bool = True, kind: type[nn.RNNBase] = nn.LSTM) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.rnn = kind(8, 16, batch_first=batch_first)
        self.head = nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(self.embed(x))[0][:, -1])


class Tagger(Recurrent):
    def __init__(self, batch_first: bool = True) -> None:
        super().__init__(batch_first)
        self.head = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(self.embed(x))[0])


class Encoder(nn.Module):
    def __init__(self, batch_first: bool = True) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.position = nn.Parameter(torch.zeros(6, 16))
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.encoder(self.embed(x) + self.position).mean(1))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.mix = nn.GRU(16, 16, batch_first=True)
        self.norm = nn.LayerNorm(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(self.norm(self.mix(self.embed(x))[0]), self.embed.weight) / 4


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(20, 16)
        self.head = nn.Linear(16, 2)

    def forward(self, inputs: Any) -> torch.Tensor:
        return self.head(self.bag(*inputs))


def bagged(samples: Any) -> Any:
    flat = torch.cat([x for x, _ in samples])
    offsets = torch.tensor([6 * i for i in range(len(samples))])
    return (flat, offsets), torch.stack([y for _, y in samples])


class Residual(nn.Module):
    """Ten branches whose last layers start at zero, and so does the head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(8, 32)
        self.branches = nn.ModuleList(mlp(32, 32) for _ in range(10))
        self.head = nn.Linear(32, 4)
        for layer in [*(branch[2] for branch in self.branches), self.head]:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for branch in self.branches:
            x = x + branch(x)
        return self.head(x)


class Dictionary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()

    def forward(self, inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        return self.net(inputs["x"]) + 0 * inputs["unused"].sum(1, keepdim=True)


def as_mapping(samples: Any) -> Any:
    x = torch.stack([x for x, _ in samples])
    return {"x": x, "unused": x + 1}, torch.stack([y for _, y in samples])


def frozen_backbone() -> nn.Module:
    model = mlp()
    model[0].requires_grad_(False)
    return model


def deep(activation: type[nn.Module] = nn.ReLU, depth: int = 10) -> nn.Module:
    layers: list[nn.Module] = [nn.Linear(8, 32), activation()]
    for _ in range(depth):
        layers += [nn.Linear(32, 32), activation()]
    return nn.Sequential(*layers, nn.Linear(32, 4))


class Towers(nn.Module):
    """Two passes through one tower: its last bias cancels out in their difference."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8))
        self.head = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.tower(x[:, :4]) - self.tower(x[:, 4:]))


class Averaged(nn.Module):
    """Keeps a frozen teacher out of its own modules, in a list."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp()
        self.teacher = [mlp().requires_grad_(False)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x) + 0.1 * self.teacher[0](x)


def accumulating(session: TrainingSession) -> None:
    """Three backward passes an update, then clipped."""
    for epoch in session.epochs():
        for number, (inputs, targets) in enumerate(session.batches()):
            (session.loss(inputs, targets) / 3).backward()
            if number % 3 == 2:
                nn.utils.clip_grad_norm_(session.model.parameters(), 0.1)
                session.optimizer.step()
                session.optimizer.zero_grad(set_to_none=number % 2 == 0)
        session.finish_epoch(epoch)


def clipped_by_value(session: TrainingSession) -> None:
    """Every element of most gradients is cut to the same size, update for update."""
    for epoch in session.epochs():
        for inputs, targets in session.batches():
            session.optimizer.zero_grad()
            session.loss(inputs, targets).backward()
            nn.utils.clip_grad_value_(session.model.parameters(), 0.01)
            session.optimizer.step()
        session.finish_epoch(epoch)


def two_optimizers(session: TrainingSession, *, cleared: int = 2) -> None:
    """One for the first layers and one for the rest, of which the first `cleared` are cleared."""
    layers = list(session.model.children())
    halves = [nn.ModuleList(layers[:1]), nn.ModuleList(layers[1:])]
    optimizers = [torch.optim.SGD(half.parameters(), 0.01) for half in halves]
    for epoch in session.epochs():
        for inputs, targets in session.batches():
            for half in halves[:cleared]:
                half.zero_grad()
            session.loss(inputs, targets).backward()
            for optimizer in optimizers:
                optimizer.step()
        session.finish_epoch(epoch)


def two_losses(session: TrainingSession) -> None:
    """Two backward passes of one batch before each update."""
    for epoch in session.epochs():
        for inputs, targets in session.batches():
            session.optimizer.zero_grad()
            session.loss(inputs, targets).backward()
            sum(part.square().sum() for part in session.model.parameters()).backward()
            session.optimizer.step()
        session.finish_epoch(epoch)


def bce_on_logits(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(outputs, targets)


def nll_on_logarithms(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.nll_loss(outputs, targets)


def focal(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    each = functional.cross_entropy(outputs, targets, reduction="none")
    return ((1 - (-each).exp()) ** 2 * each).mean()


def summed(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(outputs, targets, reduction="sum") / 16


HEALTHY: dict[str, Callable[[], Made]] = {
    "mlp": lambda: Made(mlp, table),
    "linear": lambda: Made(lambda: nn.Linear(8, 4), table),
    "cnn with BatchNorm and Dropout": lambda: Made(cnn, images),
    "lstm": lambda: Made(Recurrent, tokens),
    "transformer encoder": lambda: Made(Encoder, tokens),
    "regression": lambda: Made(lambda: mlp(outputs=1), values, "regression"),
    "counts by their logarithm, the largest in thousands": lambda: Made(
        lambda: mlp(outputs=1), counts, "regression", functional.poisson_nll_loss
    ),
    "far targets, gradients clipped by value": lambda: Made(
        lambda: nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 8)),
        far_values,
        "regression",
        train=clipped_by_value,
    ),
    "two optimizers": lambda: Made(mlp, table, train=two_optimizers),
    "regression, flat targets": lambda: Made(
        lambda: mlp(outputs=1), functools.partial(values, shape=1), "regression"
    ),
    "regression, flat outputs": lambda: Made(
        lambda: nn.Sequential(mlp(outputs=1), nn.Flatten(0)),
        functools.partial(values, shape=1),
        "regression",
    ),
    "regression on raw targets": lambda: Made(
        lambda: mlp(outputs=1), functools.partial(values, scale=50.0, offset=2e5), "regression"
    ),
    "positive targets behind softplus": lambda: Made(
        lambda: nn.Sequential(mlp(outputs=1), nn.Softplus()),
        functools.partial(values, offset=6.0), "regression",
    ),
    "multilabel": lambda: Made(lambda: mlp(outputs=5), labels, "multilabel"),
    "multilabel, own loss on logits": lambda: Made(
        lambda: mlp(outputs=5), labels, "multilabel", bce_on_logits
    ),
    "multilabel, bce on probabilities": lambda: Made(
        lambda: nn.Sequential(mlp(outputs=5), nn.Sigmoid()), labels, "multilabel",
        functional.binary_cross_entropy,
    ),
    "nll on log-probabilities": lambda: Made(
        lambda: nn.Sequential(mlp(), nn.LogSoftmax(1)), table, loss=nll_on_logarithms
    ),
    "log_softmax before cross entropy": lambda: Made(
        lambda: nn.Sequential(mlp(), nn.LogSoftmax(1)), table
    ),
    "probabilities, logarithm in the loss": lambda: Made(
        lambda: nn.Sequential(mlp(), nn.Softmax(1)), table,
        loss=lambda o, t: functional.nll_loss(o.clamp_min(1e-7).log(), t),
    ),
    "focal loss": lambda: Made(mlp, table, loss=focal),
    "sum in place of a mean": lambda: Made(mlp, table, loss=summed),
    "tagging": lambda: Made(Tagger, tagged, "sequence"),
    "tied weights": lambda: Made(
        Tied, lambda: TensorDataset(tagged().tensors[0], tagged().tensors[0]), "sequence"
    ),
    "embedding bag": lambda: Made(Bag, tokens, collate=bagged),
    "frozen backbone": lambda: Made(frozen_backbone, table),
    "zero-initialised head and branches": lambda: Made(Residual, table),
    "a part of a mapping is not used": lambda: Made(Dictionary, table, collate=as_mapping),
    "difference of two passes": lambda: Made(Towers, table),
    "frozen teacher in a list": lambda: Made(Averaged, table),
    "gradients accumulated by hand": lambda: Made(mlp, table, train=accumulating),
    "two backward passes an update": lambda: Made(mlp, table, train=two_losses),
    "deep sigmoid, default init": lambda: Made(lambda: deep(nn.Sigmoid), table),
    "deep relu, default init": lambda: Made(deep, table),
    "raw inputs": lambda: Made(
        mlp, lambda: TensorDataset(1e3 * table().tensors[0] + 5e3, table().tensors[1])
    ),
}  # fmt: skip


def config_of(**training: Any) -> Config:
    usual = {"epochs": 50, "batch_size": 16, "optimizer": "adam", "learning_rate": 1e-3}
    return Config.from_json({"seed": 3, "device": "cpu", "training": usual | training})


def evidence_of(task: Task, *, steps: int = STEPS, **training: Any) -> Evidence:
    """What planning would know of a task: a rehearsal, watched, and its probes."""
    config = config_of(**training)
    rng, threads = RngState.capture(), torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        with TemporaryDirectory() as folder:
            session = TrainingSession.rehearse(config, task, Path(folder), steps=steps)
            session.observer.watchers.append(UpdateWatcher(session.model))
            session.run()
            probes = probe(task, config, session)
            highest = max(float(sample[1].max()) for sample in session.splits.train)
    finally:
        rng.restore()
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
    return Evidence(
        kind=task.kind,
        metric="accuracy",
        maximize=True,
        target=None,
        config=config.to_json(),
        profile={"targets": {"max": highest}},
        probes=probes,
    )


def findings(evidence: Evidence) -> tuple[dict[str, Diagnosis], dict[str, str]]:
    """What the wiring diagnostics say, and which of them could not judge."""
    said, not_judged = {}, {}
    for name in WIRING:
        try:
            found = detectors()[name](evidence)
        except NotJudged as reason:
            not_judged[name] = str(reason)
            continue
        if found is not None:
            said[name] = found
    return said, not_judged


def uniform_(model: nn.Module, value: float) -> nn.Module:
    """Every weight and bias at one value."""
    for part in model.parameters():
        nn.init.constant_(part, value)
    return model


def normal_(model: nn.Module, std: float) -> nn.Module:
    """Weights drawn with one deviation, whatever the width."""
    for part in model.parameters():
        if part.ndim > 1:
            nn.init.normal_(part, std=std)
    return model
