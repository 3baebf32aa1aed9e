"""Sound trainings with habits that look odd: sums, clipping, tiny batches, frozen parts, masks."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset

from pytest_mltrainer import Config, Splits, Task
from pytest_mltrainer.training.session import TrainingSession

from .. import samples, scenes
from ..cases import HEALTHY, Case, reaches, settings


class DroppedWords(Task):
    """Much dropout: the training metric stays below that of validation."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.EmbeddingBag(120, 48), nn.Dropout(0.5), nn.Linear(48, 64), nn.ReLU(),
            nn.Dropout(0.6), nn.Linear(64, 4),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        return samples.divided(*samples.texts(config.seed, rows=1000), config.seed).splits()


class FixedFilters(Task):
    """Random filters that stay as they are, a wide layer, a trained head."""

    def model(self, config: Config) -> nn.Module:
        body = nn.Sequential(nn.Conv2d(1, 48, 4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        body.requires_grad_(False)
        return nn.Sequential(body, nn.Linear(48 * 4, 10))

    def data(self, config: Config) -> Splits:
        return samples.digits(config.seed, image=True).splits()


class RawHousesNormed(Task):
    """Prices from raw columns behind a batch norm; targets in units of their deviation."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.BatchNorm1d(6), nn.Linear(6, 48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU(),
            nn.Linear(24, 1),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = scenes.houses(config.seed)
        return samples.divided(x, y, config.seed).targets_standardised().splits()


class NoisyLine(Task):
    """Most of the target is noise: an R2 of a quarter is all there is."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))

    def data(self, config: Config) -> Splits:
        x, y = samples.straight(config.seed, rows=1500, columns=6, noise=1.6)
        return samples.divided(x, y, config.seed).splits()


class TwoAtATime(Task):
    """Batches of two."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Linear(4, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 2)
        )

    def data(self, config: Config) -> Splits:
        x, y = scenes.moons(config.seed, rows=900, noise=0.1, idle=2)
        return samples.divided(x, y, config.seed).splits()


class Accumulated(Task):
    """Four batches an update, clipped to a tenth, one cycle of the rate down to nearly 0."""

    def model(self, config: Config) -> nn.Module:
        return Waving()

    def data(self, config: Config) -> Splits:
        return samples.divided(*samples.waves(config.seed, rows=800), config.seed).splits()


class Waving(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 32, batch_first=True, bidirectional=True)
        self.head = nn.Linear(64, 3)

    def forward(self, series: Tensor) -> Tensor:
        return self.head(self.lstm(series)[0].mean(1))


class SummedPixels(Task):
    """The loss is a sum over a batch's pixels, and the rate is small enough for it."""

    kind = "sequence"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 5, padding=2), nn.ReLU(),
            nn.Conv2d(12, 3, 1), nn.Flatten(2),
        )  # fmt: skip

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        return model(inputs).transpose(1, 2)

    def data(self, config: Config) -> Splits:
        return samples.divided(*scenes.regions(config.seed), config.seed).splits()

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="sum")


class Averaged(Task):
    """RMSprop in a loop of one's own that also keeps a moving average of the weights."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 10))

    def data(self, config: Config) -> Splits:
        return samples.digits(config.seed).splits()

    def optimizer(self, model: nn.Module, config: Config) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(model.parameters(), lr=config.training.learning_rate)

    def train(self, session: TrainingSession) -> None:
        average = torch.optim.swa_utils.AveragedModel(
            session.model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.98)
        )
        session.register("average", average)
        for epoch in session.epochs():
            for inputs, targets in session.batches():
                session.loss(inputs, targets).backward()
                session.update()
                average.update_parameters(session.model)
            session.finish_epoch(epoch)


class MaskedGaps(nn.Module):
    """Replaces missing values by 0 and says where they were."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(26, 48), nn.ReLU(), nn.Linear(48, 3))

    def forward(self, x: Tensor) -> Tensor:
        gaps = torch.isnan(x)
        return self.net(torch.cat([torch.nan_to_num(x), gaps.float()], dim=1))


class Gaps(Task):
    """A tenth of the values is missing, and the model expects it."""

    def model(self, config: Config) -> nn.Module:
        return MaskedGaps()

    def data(self, config: Config) -> Splits:
        x, y = samples.load("wine")
        rows = np.random.default_rng(config.seed).integers(0, len(y), 10)
        parts = samples.divided(x, y, config.seed).standardised()
        draw = np.random.default_rng(int(rows[0]))
        return parts.each(
            lambda x, y: (np.where(draw.random(x.shape) < 0.1, np.nan, x), y)
        ).splits()


class LearnedRare(Task):
    """One class in thirty, and it is easy to tell."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 3))

    def data(self, config: Config) -> Splits:
        x, y = samples.table(
            config.seed, rows=1600, columns=10, apart=1.6, share=[0.55, 0.415, 0.035]
        )
        return samples.divided(x, y, config.seed).splits()


class Turned(Dataset):
    """Pictures turned and shifted at random, and noise on top."""

    def __init__(self, part: samples.Rows) -> None:
        self.x, self.y = samples.as_tensor(part.x), samples.as_tensor(part.y)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        shift = torch.randint(-2, 3, (2,)).tolist()
        picture = torch.roll(self.x[index], shift, dims=(1, 2)).flip(int(torch.randint(1, 3, ())))
        return picture + 0.3 * torch.randn_like(picture), self.y[index]


class Augmented(Task):
    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 16, 5, padding=2), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(),
            nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(24, 4),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        parts = samples.divided(*samples.shapes(config.seed), config.seed)
        plain = parts.splits()
        return Splits(train=Turned(parts.train), validation=plain.validation, test=plain.test)


def healthy(
    name: str, build: type[Task], score: float, below: float = 0.05, **training: object
) -> Case:
    notes = (build.__doc__ or "Augmented at random.").strip()
    return Case(
        id=name, label=HEALTHY, build=build, config=settings(**training),
        verify=reaches(score, below_linear=below), notes=notes,
    )  # fmt: skip


CASES = [
    healthy("ok_dropped_words", DroppedWords, 0.7, epochs=30, learning_rate=0.005),
    healthy("ok_fixed_filters", FixedFilters, 0.9, epochs=15),
    healthy("ok_raw_houses_normed", RawHousesNormed, 0.75, epochs=25, learning_rate=0.01),
    healthy("ok_noisy_slope", NoisyLine, 0.15, epochs=15, learning_rate=0.003),
    healthy("ok_two_at_a_time", TwoAtATime, 0.93, epochs=12, batch_size=2, learning_rate=0.003),
    healthy("ok_accumulated", Accumulated, 0.9, epochs=20, batch_size=8, accumulate=4,
            clip_norm=0.1, scheduler="onecycle", learning_rate=0.02),
    healthy("ok_summed_pixels", SummedPixels, 0.9, epochs=12, batch_size=16, optimizer="sgd",
            learning_rate=3e-5),
    healthy("ok_averaged", Averaged, 0.91, epochs=12, optimizer="task", learning_rate=0.001),
    healthy("ok_gaps", Gaps, 0.88, 1.0, epochs=30),
    healthy("ok_learned_rare", LearnedRare, 0.95, epochs=12),
    healthy("ok_augmented", Augmented, 0.85, epochs=15),
    healthy("ok_unshuffled_by_chance", LearnedRare, 0.95, epochs=12, shuffle=False),
]  # fmt: skip
