"""Small pictures of bars, columns, squares and crosses, and what is done to them on the way."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from pytest_mltrainer import Config, Splits, Task
from pytest_mltrainer.training.session import TrainingSession

from .. import samples
from ..cases import HEALTHY, Case, last_worse, patch, reaches, settings, worse


def convolutions(width: int = 12) -> list[nn.Module]:
    return [
        nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
        nn.Linear(width, 4),
    ]  # fmt: skip


class Signs(Task):
    """Which of four signs a picture shows."""

    noise = 0.25

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(*convolutions())

    def rows(self, config: Config) -> samples.Parts:
        return samples.divided(
            *samples.shapes(config.seed, rows=560, noise=self.noise), config.seed
        )

    def data(self, config: Config) -> Splits:
        return self.rows(config).splits()


class Probabilities(Signs):
    """The softmax that a tutorial put behind the last layer."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(*convolutions(), nn.Softmax(dim=1))


class Bytes(Signs):
    """Pixels from 0 to 255."""

    divisor = 1.0

    def rows(self, config: Config) -> samples.Parts:
        return super().rows(config).each(lambda x, y: (np.round(x * 255) / self.divisor, y))


class BytesDivided(Bytes):
    divisor = 255.0


class WideNormal(Signs):
    """All weights drawn with deviation 1."""

    def model(self, config: Config) -> nn.Module:
        net = nn.Sequential(*convolutions(24))
        for layer in net:
            if isinstance(layer, nn.Conv2d | nn.Linear):
                self.start(layer.weight)
        return net

    def start(self, weight: Tensor) -> None:
        nn.init.normal_(weight)


class HeNormal(WideNormal):
    def start(self, weight: Tensor) -> None:
        nn.init.kaiming_normal_(weight)


class Cropped(Dataset):
    """Padded, then cropped; the corner of the crop decides whether anything is left."""

    def __init__(self, rows: Dataset, corner: int) -> None:
        self.rows, self.corner = rows, corner

    def __len__(self) -> int:
        return len(self.rows)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        picture, label = self.rows[index]
        padded = nn.functional.pad(picture, (12, 12, 12, 12))
        end = self.corner + 12
        return padded[:, self.corner : end, self.corner : end], label


class CornerCrop(Signs):
    corner = 0

    def data(self, config: Config) -> Splits:
        found = super().data(config)
        return Splits(
            train=Cropped(found.train, self.corner),
            validation=Cropped(found.validation, self.corner),
            test=Cropped(found.test, self.corner),
        )


class CentreCrop(CornerCrop):
    corner = 12


class ClearedEachEpoch(Signs):
    """`zero_grad` stands one level too far left."""

    often = False

    def train(self, session: TrainingSession) -> None:
        for epoch in session.epochs():
            session.optimizer.zero_grad()
            for inputs, targets in session.batches():
                if self.often:
                    session.optimizer.zero_grad()
                session.loss(inputs, targets).backward()
                session.optimizer.step()
            session.finish_epoch(epoch)


class ClearedEachStep(ClearedEachEpoch):
    often = True


class FoldersInOrder(Signs):
    """The first folders became training, the last one validation and test."""

    mixed = False

    def rows(self, config: Config) -> samples.Parts:
        x, y = samples.shapes(config.seed, rows=560)
        order = np.argsort(y, kind="stable")
        return samples.divided(x, y, config.seed) if self.mixed else samples.cut(x[order], y[order])


class FoldersMixed(FoldersInOrder):
    mixed = True


class Summed(Signs):
    """The error is summed over the batch, and the rate was meant for a mean."""

    reduction = "sum"

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        return nn.functional.cross_entropy(outputs, targets, reduction=self.reduction)


class Averaged(Summed):
    reduction = "mean"


class NegativeBias(Signs):
    """A bias of -4 to make the code sparse."""

    bias = -4.0

    def model(self, config: Config) -> nn.Module:
        net = nn.Sequential(*convolutions())
        nn.init.constant_(net[3].bias, self.bias)
        return net


class NoBias(NegativeBias):
    bias = 0.0


class MixedUpFolders(Signs):
    """Of bars and columns of the training set, two in five lie in the other's folder."""

    share = 0.4

    def rows(self, config: Config) -> samples.Parts:
        parts = super().rows(config)
        draw, y = np.random.default_rng(config.seed), parts.train.y
        wrong = (y < 2) & (draw.random(len(y)) < self.share)
        y[wrong] = 1 - y[wrong]
        return parts


class OwnFolders(MixedUpFolders):
    share = 0.0


class GivenFilters(Signs):
    """Fixed filters for edges, frozen; what follows is learned."""

    def model(self, config: Config) -> nn.Module:
        given = nn.Conv2d(1, 6, 3, padding=1, bias=False)
        edge = torch.tensor([[-1.0, 2.0, -1.0]]).expand(3, 3)
        kernels = [edge, edge.T, torch.eye(3) * 3 - 1, torch.eye(3).flip(0) * 3 - 1, edge.abs(),
                   torch.ones(3, 3) / 9]  # fmt: skip
        given.weight.data = torch.stack(kernels)[:, None] / 3
        given.requires_grad_(False)
        return nn.Sequential(
            given, nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 3), nn.ReLU(),
            nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(16, 4),
        )  # fmt: skip


CASES = [
    Case(id="sign_probabilities", label="loss_mismatch", build=Probabilities,
         config=settings(epochs=8), twin=Signs, verify=worse(0.08),
         notes="softmax before cross entropy, four classes"),
    Case(id="sign_bytes", label="unnormalized_data", build=Bytes,
         config=settings(epochs=10, optimizer="sgd", learning_rate=0.1), twin=BytesDivided,
         verify=worse(0.15), notes="pixels from 0 to 255 under sgd"),
    Case(id="sign_micro_rate", label="lr_too_low", build=Signs,
         config=settings(epochs=8, learning_rate=3e-6),
         twin_config=patch(training={"learning_rate": 0.005}), verify=worse(0.3),
         notes="adam at 3e-6"),
    Case(id="sign_wide_normal", label="bad_init", build=WideNormal,
         config=settings(epochs=8, learning_rate=0.001), twin=HeNormal, verify=worse(0.08),
         notes="N(0, 1) for layers of up to 216 inputs"),
    Case(id="sign_corner_crop", label="input_ignored", build=CornerCrop,
         config=settings(epochs=6), twin=CentreCrop, verify=worse(0.3),
         notes="the crop is taken from the padding"),
    Case(id="sign_cleared_each_epoch", label="missing_zero_grad", build=ClearedEachEpoch,
         config=settings(epochs=8, learning_rate=0.01), twin=ClearedEachStep,
         verify=last_worse(0.05), notes="zero_grad before the loop over batches, adam"),
    Case(id="sign_folders", label="train_val_skew", build=FoldersInOrder,
         config=settings(epochs=6), twin=FoldersMixed, verify=worse(0.3),
         notes="split by position in an archive that is sorted by class"),
    Case(id="sign_summed_batch", label="exploding_gradients", build=Summed,
         config=settings(epochs=10, optimizer="sgd", learning_rate=0.1, batch_size=64),
         twin=Averaged, verify=worse(0.2), notes="a sum over the batch under sgd at 0.1"),
    Case(id="sign_negative_bias", label="dead_relu", build=NegativeBias,
         config=settings(epochs=8), twin=NoBias, verify=worse(0.2), notes="biases of -4"),
    Case(id="sign_first_step", label="dead_relu", build=Signs,
         config=settings(epochs=8, learning_rate=1.0),
         twin_config=patch(training={"learning_rate": 0.005}), verify=worse(0.3),
         notes="adam at 1.0: the first steps kill the units"),
    Case(id="sign_mixed_folders", label="label_noise", build=MixedUpFolders,
         config=settings(epochs=12), twin=OwnFolders, verify=last_worse(0.08),
         notes="two of five bars are labelled columns and the other way round"),
    Case(id="well_sign_filters", label=HEALTHY, build=GivenFilters,
         config=settings(epochs=12, learning_rate=0.006), verify=reaches(0.85),
         notes="a frozen first layer"),
]  # fmt: skip
