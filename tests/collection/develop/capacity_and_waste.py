"""Models that cannot, or may not, learn enough, and programs that waste time or memory."""

import zlib

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from pytest_mltrainer import Config, Splits, Task
from pytest_mltrainer.training.session import TrainingSession

from .. import samples, scenes
from ..cases import Case, Check, Outcome, settings, worse
from ..samples import Array


class AveragedPlaces(Task):
    """Where the spot lies is the class, and the average over the picture forgets it."""

    places = 1

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(),
            nn.AdaptiveAvgPool2d(self.places), nn.Flatten(), nn.Linear(8 * self.places**2, 4),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        return samples.divided(*scenes.spots(config.seed, noise=0.1), config.seed).splits()


class KeptPlaces(AveragedPlaces):
    places = 4


class NothingBetween(Task):
    """Four layers without an activation between them: one linear map."""

    between: type[nn.Module] = nn.Identity

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Linear(6, 64), self.between(), nn.Linear(64, 64), self.between(),
            nn.Linear(64, 32), self.between(), nn.Linear(32, 3),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        return samples.divided(*samples.rings(config.seed), config.seed).splits()


class SiluBetween(NothingBetween):
    between = nn.SiLU


class DroppedMost(Task):
    """Dropout of 0.9 behind each layer of a narrow net."""

    share = 0.9

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Linear(64, 32), nn.ReLU(), nn.Dropout(self.share), nn.Linear(32, 32), nn.ReLU(),
            nn.Dropout(self.share), nn.Linear(32, 10),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        return samples.digits(config.seed).splits()


class DroppedFew(DroppedMost):
    share = 0.1


class HeldDown(Task):
    """A weight decay of 0.8, in a sum with the gradient."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(10, 48), nn.Tanh(), nn.Linear(48, 1))

    def data(self, config: Config) -> Splits:
        return samples.divided(*samples.straight(config.seed), config.seed).splits()


class Decoding(Dataset):
    """Pictures that are unpacked, parsed and sharpened each time one is asked for."""

    def __init__(self, x: Array, y: Array, *, once: bool) -> None:
        self.packed = [zlib.compress(" ".join(map(str, row.ravel())).encode()) for row in x]
        self.labels = samples.as_tensor(y)
        self.shape = x.shape[1:]
        self.ready = [self.decoded(index) for index in range(len(y))] if once else None

    def decoded(self, index: int) -> Tensor:
        numbers = [float(text) for text in zlib.decompress(self.packed[index]).split()]
        picture = np.array(numbers).reshape(self.shape)
        for _ in range(25):
            picture = picture + 0.01 * (picture - np.roll(picture, 1, axis=-1))
        return samples.as_tensor(picture)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.ready[index] if self.ready else self.decoded(index), self.labels[index]


class DecodedEachTime(Task):
    once = False

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 8, 5), nn.ReLU(), nn.AdaptiveMaxPool2d(3), nn.Flatten(), nn.Linear(72, 4)
        )

    def data(self, config: Config) -> Splits:
        x, y = samples.shapes(config.seed)
        return scenes.thirds(lambda rows: Decoding(x[rows], y[rows], once=self.once), len(y))


class DecodedOnce(DecodedEachTime):
    once = True


class LossesKept(Task):
    """A history of losses, each with the graph and the activations that made it."""

    detached = False

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 24, 3, padding=1), nn.ReLU(),
            nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(96, 4),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        return samples.divided(*samples.shapes(config.seed), config.seed).splits()

    def train(self, session: TrainingSession) -> None:
        history: list[Tensor] = []
        for epoch in session.epochs():
            for inputs, targets in session.batches():
                loss = session.loss(inputs, targets)
                history.append(loss.detach() if self.detached else loss)
                loss.backward(retain_graph=not self.detached)
                session.update()
            session.finish_epoch(epoch)


class LossesDetached(LossesKept):
    detached = True


class CachedViews(Dataset):
    """Keeps each augmented view it ever made, under a key that never comes again."""

    def __init__(self, x: Array, y: Array, *, kept: bool) -> None:
        self.x, self.y = samples.as_tensor(x), samples.as_tensor(y)
        self.kept = kept
        self.cache: dict[tuple[int, float], Tensor] = {}

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        strength = float(torch.rand(()))
        views = (self.x[index] + 0.1 * strength * torch.randn(160, *self.x.shape[1:])).clone()
        if self.kept:
            self.cache[index, strength] = views
        return views[0], self.y[index]


class ViewsCached(Task):
    kept = True

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(144, 64), nn.ReLU(), nn.Linear(64, 4))

    def data(self, config: Config) -> Splits:
        x, y = scenes.spots(config.seed, noise=0.1)
        whole = scenes.thirds(lambda rows: CachedViews(x[rows], y[rows], kept=False), len(y))
        train = CachedViews(whole.train.x.numpy(), whole.train.y.numpy(), kept=self.kept)
        plain = samples.cut(x, y)
        return Splits(train=train, validation=plain.validation.tensors(), test=plain.test.tensors())


class ViewsDropped(ViewsCached):
    kept = False


def waits_more(run: Outcome, twin: Outcome | None) -> str:
    """Over half of the step time is waiting, and less than half of it in the twin."""
    assert twin is not None
    fine = run.waiting > 0.5 > twin.waiting
    return "" if fine else f"waits {run.waiting:.2f} of its time, the twin {twin.waiting:.2f}"


def grows_by(least_mb: float) -> Check:
    """The run takes `least_mb` more of memory than its twin."""

    def check(run: Outcome, twin: Outcome | None) -> str:
        assert twin is not None
        more = run.memory_mb - twin.memory_mb
        return "" if more >= least_mb else f"takes {more:.0f} MB more than its twin"

    return check


CASES = [
    Case(
        id="spots_averaged_places", label="underfitting", build=AveragedPlaces,
        config=settings(epochs=15), twin=KeptPlaces, verify=worse(0.2),
        notes="global average pooling, and the place matters",
    ),
    Case(
        id="rings_nothing_between", label="underfitting", build=NothingBetween,
        config=settings(epochs=20), twin=SiluBetween, verify=worse(0.2),
        notes="no activation between the layers",
    ),
    Case(
        id="digits_dropped_most", label="underfitting", build=DroppedMost,
        config=settings(epochs=12), twin=DroppedFew, verify=worse(0.2), notes="dropout of 0.9",
    ),
    Case(
        id="line_held_down", label="underfitting", build=HeldDown,
        config=settings(epochs=25, optimizer="sgd", learning_rate=0.03, weight_decay=0.8),
        twin_config={"training": {"weight_decay": 0.0}}, verify=worse(0.05),
        notes="weight decay of 0.8",
    ),
    Case(
        id="shapes_decoded_each_time", label="resource_inefficiency", build=DecodedEachTime,
        config=settings(epochs=5), twin=DecodedOnce, verify=waits_more,
        notes="unpacked in every epoch",
    ),
    Case(
        id="shapes_losses_kept", label="resource_inefficiency", build=LossesKept,
        config=settings(epochs=14), twin=LossesDetached, verify=grows_by(120),
        notes="losses kept with their graphs",
    ),
    Case(
        id="spots_views_cached", label="resource_inefficiency", build=ViewsCached,
        config=settings(epochs=9), twin=ViewsDropped, verify=grows_by(150),
        notes="a cache without a bound",
    ),
]  # fmt: skip
