"""A mail room: letters as words of whole numbers, 0 where a letter has ended."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from pytest_mltrainer import Config, Splits, Task

from .. import samples
from ..cases import Case, patch, settings, worse

WORDS, LENGTH, TOPICS = 150, 24, 5


def letters(seed: int, rows: int = 1400, topical: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Letters of 8 to 20 words and their topic; a share of the words is the topic's own."""
    draw = np.random.default_rng(seed)
    y = draw.integers(0, TOPICS, rows)
    common = draw.integers(1, WORDS, (rows, LENGTH))
    own = 1 + y[:, None] * 14 + draw.integers(0, 14, (rows, LENGTH))
    x = np.where(draw.random((rows, LENGTH)) < topical, own, common)
    x[np.arange(LENGTH) >= draw.integers(8, 21, (rows, 1))] = 0
    return x, y


class Mean(nn.Module):
    """The mean of the words' vectors where `counted` says so, and a head."""

    def __init__(self, counted: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.counted, self.words = counted, nn.Embedding(WORDS, 24)
        self.head = nn.Sequential(nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, TOPICS))

    def forward(self, x: Tensor) -> Tensor:
        mask = self.counted(x).float().unsqueeze(2)
        return self.head((self.words(x) * mask).sum(1) / mask.sum(1).clamp(min=1))


class Topic(Task):
    def model(self, config: Config) -> nn.Module:
        return Mean(lambda x: x != 0)

    def rows(self, config: Config) -> samples.Parts:
        return samples.divided(*letters(config.seed), config.seed)

    def data(self, config: Config) -> Splits:
        return self.rows(config).splits()


class TopicOfPadding(Topic):
    """The mask says where a letter has ended, as attention wants it, and is used as it is."""

    def model(self, config: Config) -> nn.Module:
        return Mean(lambda x: x == 0)


class TopicOtherWords(Topic):
    """Training numbered its words from 1, the later files from 9, after eight special words."""

    def rows(self, config: Config) -> samples.Parts:
        parts = super().rows(config)
        for part in (parts.validation, parts.test):
            part.x[:] = np.where(part.x > 0, np.minimum(part.x + 8, WORDS - 1), 0)
        return parts


class Steps(torch.optim.SGD):
    """SGD with momentum that looks ahead by Nesterov, clearing what it has used."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        for parameter in self.used():
            parameter.grad = None

    def used(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]


class StepsOfOneGroup(Steps):
    """Written when there was one group of parameters."""

    def used(self) -> list[Tensor]:
        return self.param_groups[0]["params"]


class TopicSteps(Topic):
    """Words learn faster than the head, in groups of the optimizer."""

    steps: type[Steps] = Steps

    def optimizer(self, model: nn.Module, config: Config) -> torch.optim.Optimizer:
        rate = config.training.learning_rate
        words = {"params": list(model.words.parameters()), "lr": 10 * rate}
        head = {"params": list(model.head.parameters())}
        return self.steps([words, head], lr=rate, momentum=0.8, nesterov=True)


class TopicOneGroup(TopicSteps):
    steps = StepsOfOneGroup


class Dropped(nn.Module):
    """Bigrams by a convolution, dropout on words and on what was found."""

    def __init__(self, always: bool) -> None:
        super().__init__()
        self.always, self.words = always, nn.Embedding(WORDS, 24, padding_idx=0)
        self.found, self.head = nn.Conv1d(24, 32, 2), nn.Linear(32, TOPICS)

    def drop(self, x: Tensor) -> Tensor:
        return functional.dropout(x, 0.5, self.always or self.training)

    def forward(self, x: Tensor) -> Tensor:
        found = self.found(self.drop(self.words(x)).transpose(1, 2))
        return self.head(self.drop(functional.relu(found).amax(2)))


class TopicDropped(Topic):
    always = False

    def model(self, config: Config) -> nn.Module:
        return Dropped(self.always)


class TopicAlwaysDropped(TopicDropped):
    """`functional.dropout` was not told whether the model is training."""

    always = True


class Keywords(Task):
    """Which of six keywords fit a letter, by how often each of 40 words is in it."""

    kind = "multilabel"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(40, 48), nn.ReLU(), nn.Linear(48, 6))

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        counts = draw.poisson(1.2, (1500, 40)).astype(np.float64)
        x = np.sqrt(counts) - 0.85
        score = x @ draw.normal(size=(40, 6)) / 4 + 0.25 * draw.normal(size=(1500, 6))
        return samples.divided(x, (score > 0.5).astype(np.float32), config.seed).splits()


class KeywordsShares(Keywords):
    """The model ends in shares, the loss takes logits."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(*super().model(config), nn.Sigmoid())


class Reader(nn.Module):
    """One layer of a transformer over the words, a tag for each."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.words = nn.Embedding(40, 32)
        self.layer = nn.TransformerEncoderLayer(32, 2, 48, 0.0, batch_first=batch_first)
        self.head = nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.words(x)))


class Tags(Task):
    """Each word's tag: noun or verb, in the language that two words of the letter give away."""

    kind = "sequence"
    batch_first = True

    def model(self, config: Config) -> nn.Module:
        return Reader(self.batch_first)

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x = draw.integers(4, 40, (600, 12))
        language = draw.integers(0, 2, (600, 1))
        for row, place in enumerate(draw.permuted(np.tile(np.arange(12), (600, 1)), axis=1)):
            x[row, place[:2]] = 2 * language[row] + draw.integers(0, 2, 2)
        return samples.divided(x, 2 * language + x % 2, config.seed).splits()


class TagsAcross(Tags):
    """The layer takes its first axis for time, as it does unless told otherwise."""

    batch_first = False


class Senders(Task):
    """Who writes, by the length of the letter and its words; long letters come from offices."""

    def model(self, config: Config) -> nn.Module:
        return Mean(lambda x: x >= 0)

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        x, y = letters(config.seed, 1000, topical=0.2)
        lengths = 4 + 4 * y[:, None] + 1.6 * draw.normal(size=(1000, 1))
        full = np.where(x > 0, x, draw.integers(1, WORDS, x.shape))
        x = np.where(np.arange(LENGTH) < np.maximum(lengths, 2), full, 0)
        parts = samples.divided(x, y, config.seed)
        order = np.argsort((parts.train.x > 0).sum(1), kind="stable")
        parts.train.x[:], parts.train.y[:] = parts.train.x[order], parts.train.y[order]
        return parts.splits()


CASES = [
    Case(
        id="ax_mail_mask_turned", label="input_ignored", build=TopicOfPadding, twin=Topic,
        config=settings(epochs=10, learning_rate=0.005), verify=worse(0.2),
        notes="the mean is taken over the padding alone",
    ),
    Case(
        id="ax_mail_other_numbers", label="train_val_skew", build=TopicOtherWords, twin=Topic,
        config=settings(epochs=10, learning_rate=0.005), verify=worse(0.1),
        notes="word ids of validation and test are eight higher",
    ),
    Case(
        id="ax_mail_second_group", label="missing_zero_grad", build=TopicOneGroup,
        twin=TopicSteps, verify=worse(0.05),
        config=settings(optimizer="task", learning_rate=0.05, epochs=20),
        notes="an optimizer of one's own clears the first of two groups",
    ),
    Case(
        id="ax_mail_always_drops", label="train_eval_mismatch", build=TopicAlwaysDropped,
        twin=TopicDropped, config=settings(epochs=20, learning_rate=0.005), verify=worse(0.05),
        notes="functional.dropout without training=",
    ),
    Case(
        id="ax_mail_shares", label="loss_mismatch", build=KeywordsShares, twin=Keywords,
        config=settings(epochs=12), verify=worse(0.1),
        notes="sigmoid before BCE with logits: every keyword is chosen",
    ),
    Case(
        id="ax_mail_tags_across", label="batch_mixing", build=TagsAcross, twin=Tags,
        config=settings(epochs=12), verify=worse(0.1),
        notes="a transformer layer without batch_first attends to other letters",
    ),
    Case(
        id="ax_mail_by_length", label="unshuffled_data", build=Senders,
        config=settings(optimizer="sgd", learning_rate=0.02, epochs=20, shuffle=False),
        twin_config=patch(training={"shuffle": True}), verify=worse(0.05),
        notes="sorted by length to save padding; length goes with the class",
    ),
]  # fmt: skip
