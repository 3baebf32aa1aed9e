"""Healthy programs with something unusual about each."""

import numpy as np
import torch
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task
from pytest_mltrainer.training.session import TrainingSession

from .. import samples
from ..cases import HEALTHY, Case, reaches, settings


class TiedWords(nn.Module):
    """A language model whose output weights are its embedding."""

    def __init__(self, words: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.gru = nn.GRU(width, width, batch_first=True)
        self.out = nn.Linear(width, words, bias=False)
        self.out.weight = self.embed.weight
        nn.init.normal_(self.embed.weight, std=0.1)

    def forward(self, words: Tensor) -> Tensor:
        return self.out(self.gru(self.embed(words))[0])


class NextWord(Task):
    """Each word has one that follows it three times in five: little more can be had."""

    kind = "sequence"

    def model(self, config: Config) -> nn.Module:
        return TiedWords(20, config.model["width"])

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        follows = draw.permutation(20)
        words = draw.integers(0, 20, (700, 15))
        for place in range(1, 15):
            usual = draw.random(700) < 0.6
            words[usual, place] = follows[words[usual, place - 1]]
        target = words[:, 1:].copy()
        target[:, -1] = -100
        return samples.divided(words[:, :-1], target, config.seed).splits()


class SmoothedDigits(Task):
    def model(self, config: Config) -> nn.Module:
        width = config.model["width"]
        return nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.GroupNorm(2, width), nn.GELU(), nn.MaxPool2d(2),
            nn.Conv2d(width, 2 * width, 3, padding=1), nn.GroupNorm(2, 2 * width), nn.GELU(),
            nn.Flatten(), nn.Linear(32 * width, 10),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        return samples.digits(config.seed, image=True).splits()


class TinyIris(Task):
    """150 flowers, four raw columns in centimetres."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 3))

    def data(self, config: Config) -> Splits:
        x, y = samples.load("iris")
        return samples.divided(x, y, config.seed).splits()


class ClosureTraining(Task):
    """LBFGS with a closure, all rows at once."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, 1))

    def data(self, config: Config) -> Splits:
        x, y = samples.curved(config.seed, rows=1600, noise=0.3)
        return samples.divided(x, y, config.seed).splits()

    def optimizer(self, model: nn.Module, config: Config) -> torch.optim.Optimizer:
        rate = config.training.learning_rate
        return torch.optim.LBFGS(model.parameters(), lr=rate, max_iter=4, history_size=20)

    def train(self, session: TrainingSession) -> None:
        for epoch in session.epochs():
            for inputs, targets in session.batches():

                def closure(inputs: Tensor = inputs, targets: Tensor = targets) -> Tensor:
                    session.optimizer.zero_grad()
                    outputs = self.predict(session.model, inputs)
                    loss = self.loss(outputs, targets, session.config)
                    loss.backward()
                    return loss

                session.optimizer.step(closure)
            session.finish_epoch(epoch)


class PlainDiabetes(Task):
    """Targets in their own units; the last bias starts at their mean; R2 of a half is the best."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        net = nn.Sequential(nn.Linear(10, 24), nn.ReLU(), nn.Linear(24, 1))
        nn.init.constant_(net[2].bias, 150.0)
        return net

    def data(self, config: Config) -> Splits:
        x, y = samples.load("diabetes")
        return samples.divided(x, y, config.seed).standardised().splits()


class RawTransformer(Task):
    """A transformer with dropout and warm-up, over words."""

    def model(self, config: Config) -> nn.Module:
        return Encoder(config.model["width"], config.model["dropout"])

    def data(self, config: Config) -> Splits:
        x, y = samples.texts(config.seed, rows=1400, topical=0.4)
        return samples.divided(x, y, config.seed).splits()


class Encoder(nn.Module):
    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(120, width)
        layer = nn.TransformerEncoderLayer(
            width, 2, 2 * width, dropout=dropout, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 4)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.norm(self.encoder(self.embed(words)).mean(1)))


class ManyLabels(Task):
    """Several labels, near the ceiling that their noise sets."""

    kind = "multilabel"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(16, config.model["width"]), nn.ReLU(),
                             nn.Linear(config.model["width"], 5))  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = samples.several_labels(config.seed, rows=1800, noise=0.3)
        return samples.divided(x, y, config.seed).splits()


class LogProbabilities(Task):
    """`log_softmax` before cross entropy: once more changes nothing."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 10), nn.LogSoftmax(1))

    def data(self, config: Config) -> Splits:
        return samples.digits(config.seed).splits()


class FineTuned(Task):
    """A pretrained body at a fiftieth of the head's rate, its first layer frozen."""

    def model(self, config: Config) -> nn.Module:
        return Pretrained()

    def data(self, config: Config) -> Splits:
        parts = samples.digits(config.seed)
        return parts.splits()

    def optimizer(self, model: nn.Module, config: Config) -> torch.optim.Optimizer:
        rate = config.training.learning_rate
        return torch.optim.AdamW(
            [
                {"params": model.body[2].parameters(), "lr": rate / 50},
                {"params": model.head.parameters(), "lr": rate},
            ],
            weight_decay=0.01,
        )


class Pretrained(nn.Module):
    """A body that has learned to copy digits, without labels; its first layer is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 96), nn.ReLU())
        self.head = nn.Linear(96, 10)
        rows = torch.from_numpy(samples.load("digits")[0] / 16)
        copy = nn.Linear(96, 64)
        optimizer = torch.optim.Adam([*self.body.parameters(), *copy.parameters()], lr=0.005)
        for _ in range(60):
            optimizer.zero_grad()
            nn.functional.mse_loss(copy(self.body(rows)), rows).backward()
            optimizer.step()
        self.body[0].requires_grad_(False)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.head(self.body(pixels))


class DeepNormed(Task):
    """Twenty residual blocks with norms: deep, and well."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        return Blocks(config.model["depth"])

    def data(self, config: Config) -> Splits:
        x, y = samples.curved(config.seed, rows=2000, noise=0.3)
        return samples.divided(x, y, config.seed).splits()


class Blocks(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(8, 24), nn.Linear(24, 1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(24), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 24))
            for _ in range(depth)
        )
        for block in self.blocks:
            nn.init.zeros_(block[3].weight)
            nn.init.zeros_(block[3].bias)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.stem(x)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return self.head(hidden)


class HalfWrongValidation(Task):
    """A tenth of all labels is wrong, in every split alike: 0.9 is all there is."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 3))

    def data(self, config: Config) -> Splits:
        x, y = samples.table(config.seed, rows=2400, apart=1.5)
        draw = np.random.default_rng(config.seed)
        wrong = draw.random(len(y)) < 0.1
        y = np.where(wrong, (y + draw.integers(1, 3, len(y))) % 3, y)
        return samples.divided(x, y, config.seed).splits()


class LateStop(Task):
    """Stops early when validation rests; momentum sgd with decay, batches of 128."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 2))

    def data(self, config: Config) -> Splits:
        x, y = samples.load("breast_cancer")
        return samples.divided(x, y, config.seed).standardised().splits()


class Padded(nn.Module):
    """Attention pooling over padded texts, masked rightly."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(120, 24, padding_idx=0)
        self.score, self.head = nn.Linear(24, 1), nn.Linear(24, 4)

    def forward(self, words: Tensor) -> Tensor:
        hidden = self.embed(words)
        scores = self.score(hidden).squeeze(-1).masked_fill(words == 0, float("-inf"))
        return self.head((scores.softmax(1).unsqueeze(-1) * hidden).sum(1))


class PaddedTexts(Task):
    def model(self, config: Config) -> nn.Module:
        return Padded()

    def data(self, config: Config) -> Splits:
        x, y = samples.texts(config.seed, rows=2400, topical=0.5)
        length = np.random.default_rng(config.seed).integers(6, 17, len(x))
        x = np.where(np.arange(16) < length[:, None], x, 0)
        return samples.divided(x, y, config.seed).splits()


CASES = [
    Case(
        id="ok_tied_words", label=HEALTHY, build=NextWord, verify=reaches(0.55),
        config=settings(model={"width": 48}, epochs=10, learning_rate=0.01),
        notes="tied weights, ignored places",
    ),
    Case(
        id="ok_smoothed_labels", label=HEALTHY, build=SmoothedDigits, verify=reaches(0.95),
        config=settings(model={"width": 8}, epochs=8, label_smoothing=0.1, optimizer="adamw",
                        weight_decay=0.05),
        notes="label smoothing keeps the loss high; group norm, weight decay",
    ),
    Case(
        id="ok_tiny_iris", label=HEALTHY, build=TinyIris, verify=reaches(0.88, below_linear=0.08),
        config=settings(epochs=40, batch_size=16, learning_rate=0.01),
        notes="90 training rows, raw centimetres",
    ),
    Case(
        id="ok_lbfgs", label=HEALTHY, build=ClosureTraining, verify=reaches(0.7),
        config=settings(epochs=25, optimizer="task", learning_rate=0.5, batch_size=1000),
        notes="LBFGS with a closure",
    ),
    Case(
        id="ok_plain_diabetes", label=HEALTHY, build=PlainDiabetes, verify=reaches(0.3),
        config=settings(epochs=25, learning_rate=0.02, batch_size=16),
        notes="targets in the hundreds, bias at their mean",
    ),
    Case(
        id="ok_warm_transformer", label=HEALTHY, build=RawTransformer, verify=reaches(0.85),
        config=settings(model={"width": 32, "dropout": 0.2}, epochs=10, scheduler="cosine",
                        warmup_steps=30, clip_norm=1.0),
        notes="dropout, warm-up, cosine, clipping",
    ),
    Case(
        id="ok_many_labels", label=HEALTHY, build=ManyLabels, verify=reaches(0.85),
        config=settings(model={"width": 24}, epochs=12), notes="several labels with noise",
    ),
    Case(
        id="ok_log_softmax", label=HEALTHY, build=LogProbabilities, verify=reaches(0.93),
        config=settings(epochs=12), notes="log_softmax twice is log_softmax once",
    ),
    Case(
        id="ok_fine_tuned", label=HEALTHY, build=FineTuned, verify=reaches(0.9),
        config=settings(optimizer="task", epochs=15, learning_rate=0.02),
        notes="groups of parameters with rates 50 apart, a frozen layer",
    ),
    Case(
        id="ok_deep_residual", label=HEALTHY, build=DeepNormed, verify=reaches(0.75),
        config=settings(model={"depth": 10}, epochs=10, learning_rate=0.002),
        notes="blocks that start as zero",
    ),
    Case(
        id="ok_noise_everywhere", label=HEALTHY, build=HalfWrongValidation, verify=reaches(0.8),
        config=settings(epochs=8), notes="noise that no model can beat, alike in all splits",
    ),
    Case(
        id="ok_early_stop", label=HEALTHY, build=LateStop, verify=reaches(0.93),
        config=settings(epochs=40, optimizer="sgd", learning_rate=0.05, weight_decay=0.001,
                        batch_size=128, early_stopping={"patience": 6}),
        notes="sgd with early stopping",
    ),
    Case(
        id="ok_padded_texts", label=HEALTHY, build=PaddedTexts, verify=reaches(0.9),
        config=settings(epochs=8, learning_rate=0.005),
        notes="-inf under a mask that never covers everything",
    ),
]  # fmt: skip
