"""Modes that do not reach the model."""

from torch import Tensor, nn
from torch.nn import functional

from pytest_mltrainer import Config, Splits, Task

from .. import samples
from ..cases import Case, settings, worse


class AlwaysDropping(nn.Module):
    """`F.dropout` with its default, on the states of a GRU."""

    always = True

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(1, 32, batch_first=True)
        self.head = nn.Linear(32, 3)

    def forward(self, series: Tensor) -> Tensor:
        state = self.gru(series)[0][:, -1]
        return self.head(functional.dropout(state, 0.8, training=self.always or self.training))


class DroppingInTraining(AlwaysDropping):
    always = False


class WavesDropped(Task):
    net: type[nn.Module] = AlwaysDropping

    def model(self, config: Config) -> nn.Module:
        return self.net()

    def data(self, config: Config) -> Splits:
        return samples.divided(
            *samples.waves(config.seed, rows=700, noise=0.5), config.seed
        ).splits()


class WavesDroppedRight(WavesDropped):
    net = DroppingInTraining


class SlowStatistics(Task):
    """`momentum=0.001` means 0.999 of the old in torch; a picture net with two norms."""

    momentum = 0.001

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 12, 3), nn.BatchNorm2d(12, momentum=self.momentum), nn.ReLU(),
            nn.MaxPool2d(2), nn.Conv2d(12, 24, 3), nn.BatchNorm2d(24, momentum=self.momentum),
            nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(24, 4),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = samples.shapes(config.seed)
        return samples.divided(4 * x - 1, y, config.seed).splits()


class UsualStatistics(SlowStatistics):
    momentum = 0.1


class DeafToEval(nn.Sequential):
    """`train` was overridden to keep a part in training mode and forgets its argument."""

    deaf = True

    def train(self, mode: bool = True) -> "DeafToEval":
        return super().train(True if self.deaf else mode)


class Hearing(DeafToEval):
    deaf = False


class CurveDeaf(Task):
    kind = "regression"
    net: type[DeafToEval] = DeafToEval

    def model(self, config: Config) -> nn.Module:
        return self.net(
            nn.Linear(8, 96), nn.SiLU(), nn.Dropout(0.5), nn.Linear(96, 48), nn.SiLU(),
            nn.Dropout(0.5), nn.Linear(48, 1),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        return samples.divided(*samples.straight(config.seed, columns=8), config.seed).splits()


class CurveHearing(CurveDeaf):
    net = Hearing


CASES = [
    Case(
        id="waves_dropped_always", label="train_eval_mismatch", build=WavesDropped,
        config=settings(epochs=12, learning_rate=0.01), twin=WavesDroppedRight,
        verify=worse(0.02), notes="F.dropout without training=",
    ),
    Case(
        id="shapes_slow_norm", label="train_eval_mismatch", build=SlowStatistics,
        config=settings(epochs=5), twin=UsualStatistics, verify=worse(0.1),
        notes="momentum 0.001",
    ),
    Case(
        id="line_deaf_to_eval", label="train_eval_mismatch", build=CurveDeaf,
        config=settings(epochs=20), twin=CurveHearing, verify=worse(0.03),
        notes="train() ignores its argument",
    ),
]  # fmt: skip
