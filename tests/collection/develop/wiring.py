"""Programs that are put together wrongly: initial weights, losses, optimizers, axes, modes."""

import torch
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task
from pytest_mltrainer.training.session import TrainingSession

from .. import samples
from ..cases import Case, Outcome, both, last_worse, settings, worse


class Digits(Task):
    """Digits by one hidden layer; what each program does to it differs."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10))

    def data(self, config: Config) -> Splits:
        return samples.digits(config.seed).splits()


class EqualWeights(Digits):
    """Every weight starts at the same small number, so every unit stays the same unit."""

    def model(self, config: Config) -> nn.Module:
        net = super().model(config)
        for part in net.parameters():
            nn.init.constant_(part, 0.01)
        return net


class WideNormalWeights(Task):
    """`nn.init.normal_` with its default deviation of 1, in a network of some width."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        width = config.model["width"]
        net = nn.Sequential(
            nn.Linear(10, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, 1),
        )  # fmt: skip
        for layer in net:
            if isinstance(layer, nn.Linear):
                self.initialise(layer)
        return net

    def initialise(self, layer: nn.Linear) -> None:
        nn.init.normal_(layer.weight)

    def data(self, config: Config) -> Splits:
        x, y = samples.load("diabetes")
        return samples.divided(x, y, config.seed).standardised().targets_standardised().splits()


class DefaultWeights(WideNormalWeights):
    def initialise(self, layer: nn.Linear) -> None:
        pass


class SoftmaxTwice(Digits):
    """The network ends in a softmax, and cross entropy takes another."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(*super().model(config), nn.Softmax(dim=1))


class Broadcast(Task):
    """(n, 1) against (n,): the difference is an (n, n) table."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 1))

    def data(self, config: Config) -> Splits:
        x, y = samples.curved(config.seed)
        return samples.divided(x, y, config.seed).splits()

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        return ((outputs - targets) ** 2).mean()


class Squeezed(Broadcast):
    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        return ((outputs.squeeze(1) - targets) ** 2).mean()


class ListedLayers(nn.Module):
    """Hidden layers in a plain list, which no parameter search looks into."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = [nn.Linear(6, 24), nn.Linear(24, 24), nn.Linear(24, 24)]
        self.head = nn.Linear(24, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.hidden:
            x = torch.tanh(layer(x))
        return self.head(x)


class RegisteredLayers(ListedLayers):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(self.hidden)


class Rings(Task):
    net: type[nn.Module] = ListedLayers

    def model(self, config: Config) -> nn.Module:
        return self.net()

    def data(self, config: Config) -> Splits:
        x, y = samples.rings(config.seed)
        return samples.divided(x, y, config.seed).splits()


class RingsRegistered(Rings):
    net = RegisteredLayers


class DetachedFeatures(nn.Module):
    """Features detached before the head, left over from a debugging session."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 12, 3, padding=1), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Linear(12, 4)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.head(self.passed(self.features(pictures)))

    def passed(self, features: Tensor) -> Tensor:
        return features.detach()


class AttachedFeatures(DetachedFeatures):
    def passed(self, features: Tensor) -> Tensor:
        return features


class Shapes(Task):
    net: type[nn.Module] = DetachedFeatures

    def model(self, config: Config) -> nn.Module:
        return self.net()

    def data(self, config: Config) -> Splits:
        x, y = samples.shapes(config.seed, rows=600)
        return samples.divided(x, y, config.seed).splits()


class ShapesAttached(Shapes):
    net = AttachedFeatures


class NeverCleared(Digits):
    """A loop that forgets `zero_grad`."""

    clears = False

    def train(self, session: TrainingSession) -> None:
        for epoch in session.epochs():
            for inputs, targets in session.batches():
                session.loss(inputs, targets).backward()
                session.optimizer.step()
                if self.clears:
                    session.optimizer.zero_grad()
            session.finish_epoch(epoch)


class Cleared(NeverCleared):
    clears = True


class LoneUnitNorm(nn.Module):
    """A layer norm behind a bottleneck of one unit: one number less its own mean is 0."""

    def __init__(self, bottleneck: int) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Linear(13, 32), nn.ReLU(), nn.Linear(32, bottleneck), nn.LayerNorm(bottleneck)
        )
        self.decode = nn.Sequential(nn.Linear(bottleneck, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))


class Wine(Task):
    bottleneck = 1

    def model(self, config: Config) -> nn.Module:
        return LoneUnitNorm(self.bottleneck)

    def data(self, config: Config) -> Splits:
        x, y = samples.load("wine")
        return samples.divided(x, y, config.seed).standardised().splits()


class WineWider(Wine):
    bottleneck = 8


class TimeFirst(nn.Module):
    """A transformer that expects (time, batch) and is given (batch, time)."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(120, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=batch_first)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, 4)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(words))[:, 0])


class Topics(Task):
    """The first word's place is where the sentence is read: attention must bring it all there."""

    batch_first = False

    def model(self, config: Config) -> nn.Module:
        return TimeFirst(self.batch_first)

    def data(self, config: Config) -> Splits:
        x, y = samples.texts(config.seed, rows=800)
        return samples.divided(x, y, config.seed).splits()


class TopicsBatchFirst(Topics):
    batch_first = True


class BatchStatistics(nn.Module):
    """Standardises by hand with the mean and deviation of whatever batch it is given."""

    by_hand = True

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 48))
        self.norm = nn.Identity() if self.by_hand else nn.LayerNorm(48)
        self.head = nn.Linear(48, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.net(x)
        if self.by_hand:
            hidden = (hidden - hidden.mean()) / (hidden.std(0) + 1e-5)
            hidden = torch.softmax(hidden, dim=0) * len(hidden)
        return self.head(torch.relu(self.norm(hidden)))


class OwnStatistics(BatchStatistics):
    by_hand = False


class Curved(Task):
    kind = "regression"
    net: type[nn.Module] = BatchStatistics

    def model(self, config: Config) -> nn.Module:
        return self.net()

    def data(self, config: Config) -> Splits:
        x, y = samples.curved(config.seed)
        return samples.divided(x, y, config.seed).splits()


class CurvedSingly(Curved):
    net = OwnStatistics


class AlwaysDropping(nn.Module):
    """`F.dropout` without `training=self.training`: it drops when it is evaluated as well."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        hidden = torch.relu(self.first(pixels))
        return self.second(nn.functional.dropout(hidden, 0.7, training=self.drops()))

    def drops(self) -> bool:
        return True


class DroppingInTraining(AlwaysDropping):
    def drops(self) -> bool:
        return self.training


class DigitsDropped(Digits):
    net: type[nn.Module] = AlwaysDropping

    def model(self, config: Config) -> nn.Module:
        return self.net()


class DigitsDroppedRightly(DigitsDropped):
    net = DroppingInTraining


class SlowStatistics(Shapes):
    """Batch norm with the momentum as another library counts it: 0.99 of the old there."""

    momentum = 0.0005

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12, momentum=self.momentum), nn.ReLU(),
            nn.MaxPool2d(2), nn.Conv2d(12, 24, 3, padding=1),
            nn.BatchNorm2d(24, momentum=self.momentum), nn.ReLU(), nn.AdaptiveMaxPool2d(1),
            nn.Flatten(), nn.Linear(24, 4),
        )  # fmt: skip


class UsualStatistics(SlowStatistics):
    momentum = 0.1


def some_unchanged(run: Outcome, twin: Outcome | None) -> str:
    """Some trainable parameter is what it was at the start."""
    return "" if run.unchanged else "every parameter changed"


CASES = [
    Case(
        id="digits_equal_weights", label="bad_init", build=EqualWeights, config=settings(epochs=8),
        twin=Digits, verify=worse(0.2), notes="all weights 0.01: the units cannot become different",
    ),
    Case(
        id="diabetes_wide_normal_weights", label="bad_init", build=WideNormalWeights,
        config=settings(model={"width": 128}, epochs=10), twin=DefaultWeights, verify=worse(0.2),
        notes="weights of deviation 1 at a width of 128: outputs of deviation 200",
    ),
    Case(
        id="digits_softmax_twice", label="loss_mismatch", build=SoftmaxTwice,
        config=settings(optimizer="sgd", learning_rate=0.05, epochs=10), twin=Digits,
        verify=worse(0.03), notes="a softmax before cross entropy",
    ),
    Case(
        id="curve_broadcast", label="loss_mismatch", build=Broadcast, config=settings(epochs=20),
        twin=Squeezed, verify=worse(0.3), notes="outputs (n, 1) less targets (n,)",
    ),
    Case(
        id="rings_plain_list", label="params_not_updated", build=Rings, config=settings(epochs=20),
        twin=RingsRegistered, verify=worse(0.08), notes="layers in a Python list are not trained",
    ),
    Case(
        id="shapes_detached", label="params_not_updated", build=Shapes,
        config=settings(epochs=10), twin=ShapesAttached, verify=both(worse(0.1), some_unchanged),
        notes="detach() between the features and the head",
    ),
    Case(
        id="digits_never_cleared", label="missing_zero_grad", build=NeverCleared,
        config=settings(optimizer="sgd", learning_rate=0.05, momentum=0.9, epochs=8),
        twin=Cleared, verify=last_worse(0.03), notes="no zero_grad in a loop of one's own",
    ),
    Case(
        id="wine_lone_unit_norm", label="input_ignored", build=Wine, config=settings(),
        twin=WineWider, verify=worse(0.3), notes="layer norm over a single unit gives its bias",
    ),
    Case(
        id="topics_time_first", label="batch_mixing", build=Topics, config=settings(epochs=8),
        twin=TopicsBatchFirst, verify=worse(0.1), notes="batch_first is missing",
    ),
    Case(
        id="curve_softmax_over_batch", label="batch_mixing", build=Curved,
        config=settings(epochs=12), twin=CurvedSingly, verify=worse(0.05),
        notes="statistics and a softmax over the batch, in evaluation too",
    ),
    Case(
        id="digits_always_dropping", label="train_eval_mismatch", build=DigitsDropped,
        config=settings(epochs=10), twin=DigitsDroppedRightly, verify=worse(0.03),
        notes="functional dropout that never stops",
    ),
    Case(
        id="shapes_slow_statistics", label="train_eval_mismatch", build=SlowStatistics,
        config=settings(epochs=10), twin=UsualStatistics, verify=worse(0.05),
        notes="running statistics with momentum 0.0005 are still those of the start",
    ),
]  # fmt: skip
