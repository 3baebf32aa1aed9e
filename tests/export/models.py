"""Models of several kinds, with the inputs that they take, and faults that must not be exported."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from pytest_mltrainer.training.task import Task


class Case(NamedTuple):
    """A model and a function from a batch size to its inputs."""

    model: Callable[[], nn.Module]
    inputs: Callable[[int], Any]


class LastState(nn.Module):
    """An LSTM over a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 8, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.head(self.lstm(inputs)[0][:, -1])
        return outputs


class TinyTransformer(nn.Module):
    """Tokens through two layers of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.head(self.encoder(self.embedding(tokens)).mean(1))
        return outputs


class TwoInputs(nn.Module):
    """A mapping in: numbers and tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = nn.Linear(4, 3)
        self.tokens = nn.EmbeddingBag(20, 3)

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        outputs: torch.Tensor = self.numbers(inputs["numbers"]) + self.tokens(inputs["tokens"])
        return outputs


class Pair(nn.Module):
    """A tuple in."""

    def __init__(self) -> None:
        super().__init__()
        self.bilinear = nn.Bilinear(4, 4, 2)

    def forward(self, pair: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        left, right = pair
        outputs: torch.Tensor = self.bilinear(left, right)
        return outputs


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


def cnn() -> nn.Module:
    """Convolution and batch normalisation with statistics that are not those of a fresh layer."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(144, 3),
    )
    with torch.no_grad():
        for _ in range(5):
            model(2 + 3 * torch.randn(32, 1, 8, 8))
    return model


def numbers(*shape: int) -> Callable[[int], torch.Tensor]:
    return lambda batch: torch.randn(batch, *shape)


def tokens(length: int) -> Callable[[int], torch.Tensor]:
    return lambda batch: torch.randint(0, 20, (batch, length))


SOUND = {
    "mlp": Case(mlp, numbers(4)),
    "cnn": Case(cnn, numbers(1, 8, 8)),
    "lstm": Case(LastState, numbers(7, 5)),
    "transformer": Case(TinyTransformer, tokens(6)),
    "dict": Case(
        TwoInputs, lambda batch: {"numbers": numbers(4)(batch), "tokens": tokens(6)(batch)}
    ),
    "tuple": Case(Pair, lambda batch: (numbers(4)(batch), numbers(4)(batch))),
}


class TakesTheLength(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs / len(inputs)


class BranchesOnData(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if inputs.mean() > 0:
            return inputs * 2
        return inputs


class LoopsOnData(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        for _ in range(int(inputs.abs().max())):
            inputs = inputs * 2
        return inputs


class LeavesTorch(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(inputs.numpy() * 2)


class Airy(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.special.airy_ai(inputs)


class AlwaysDrops(nn.Module):
    """The dropout that forgot the mode."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.linear(functional.dropout(inputs, 0.5))
        return outputs


class Scaled(nn.Module):
    """A number that is no parameter and may change after the export."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.scale = 1.0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.linear(inputs) * self.scale
        return outputs


TASK = Task()
