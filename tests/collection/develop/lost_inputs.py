"""Inputs that do not reach the answer."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pytest_mltrainer import Config, Splits, Task

from .. import samples, scenes
from ..cases import Case, settings, worse


class FirstState(nn.Module):
    """The head reads the state that the GRU was given, not the one it came to."""

    stale = True

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 24, batch_first=True)
        self.start = nn.Parameter(torch.zeros(1, 1, 24))
        self.head = nn.Linear(24, 3)

    def forward(self, series: Tensor) -> Tensor:
        state = self.start.expand(1, len(series), 24).contiguous()
        _, last = self.gru(series.transpose(1, 2), state)
        return self.head(state[0] if self.stale else last[0])


class LastState(FirstState):
    stale = False


class Sensors(Task):
    net: type[nn.Module] = FirstState

    def model(self, config: Config) -> nn.Module:
        return self.net()

    def data(self, config: Config) -> Splits:
        return samples.divided(*scenes.sensors(config.seed, rows=700), config.seed).splits()


class SensorsRight(Sensors):
    net = LastState


class SamePicture(torch.utils.data.Dataset):
    """`__getitem__` reads the picture behind a variable of the loop that made the data set."""

    def __init__(self, x: samples.Array, y: samples.Array, *, own: bool) -> None:
        self.pictures, self.labels, self.own = samples.as_tensor(x), samples.as_tensor(y), own
        for place in range(len(y)):
            self.place = place

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.pictures[index if self.own else self.place], self.labels[index]


class SpotsByPlace(Task):
    own = False

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.GELU(), nn.MaxPool2d(3), nn.Flatten(),
            nn.Linear(128, 32), nn.GELU(), nn.Linear(32, 4),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = scenes.spots(config.seed)
        return scenes.thirds(lambda rows: SamePicture(x[rows], y[rows], own=self.own), len(y))


class SpotsByIndex(SpotsByPlace):
    own = True


class ForgottenMessages(nn.Module):
    """Message passing whose read-out pools a mask of the nodes instead of their states."""

    pooled_mask = True

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 24), nn.Linear(48, 24)
        self.head = nn.Linear(24, 2)

    def forward(self, graph: tuple[Tensor, Tensor]) -> Tensor:
        nodes, links = graph
        own = functional.elu(self.first(nodes))
        mask = torch.ones_like(own)
        heard = links @ own / links.sum(-1, keepdim=True).clamp_min(1)
        state = functional.elu(self.second(torch.cat([own, heard], dim=-1))) * mask
        return self.head((mask if self.pooled_mask else state).mean(1))


class RememberedMessages(ForgottenMessages):
    pooled_mask = False


class Graphs(Task):
    net: type[nn.Module] = ForgottenMessages

    def model(self, config: Config) -> nn.Module:
        return self.net()

    def data(self, config: Config) -> Splits:
        nodes, links, y = scenes.graphs(config.seed, rows=900)
        return scenes.thirds(
            lambda rows: scenes.Tuples((nodes[rows], links[rows]), y[rows]), len(y)
        )


class GraphsRight(Graphs):
    net = RememberedMessages


CASES = [
    Case(
        id="sensors_first_state", label="input_ignored", build=Sensors,
        config=settings(epochs=12, learning_rate=0.01), twin=SensorsRight, verify=worse(0.2),
        notes="the initial state is read",
    ),
    Case(
        id="spots_same_picture", label="input_ignored", build=SpotsByPlace,
        config=settings(epochs=10), twin=SpotsByIndex, verify=worse(0.2),
        notes="each index gives the last picture",
    ),
    Case(
        id="graphs_pooled_mask", label="input_ignored", build=Graphs,
        config=settings(epochs=20, learning_rate=0.01), twin=GraphsRight, verify=worse(0.15),
        notes="the mask is pooled instead of the states",
    ),
]  # fmt: skip
