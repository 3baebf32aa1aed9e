"""Recurrent networks whose weights, sums or rates are too large, and some that only look so."""

import torch
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task

from .. import samples
from ..cases import HEALTHY, Case, patch, reaches, settings, worse


class Reader(nn.Module):
    """A recurrent layer of any kind and a head on its last state."""

    def __init__(self, kind: str, width: int, outputs: int, columns: int = 1) -> None:
        super().__init__()
        layer = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[kind]
        self.layer = layer(columns, width, batch_first=True)
        self.head = nn.Linear(width, outputs)

    def forward(self, series: Tensor) -> Tensor:
        return self.head(self.layer(series)[0][:, -1])


class Tones(Task):
    """Which of three tones sounds in a noisy series."""

    def model(self, config: Config) -> nn.Module:
        net = Reader(config.model["kind"], config.model["width"], 3)
        self.begin(net.layer, config.model.get("scale", 1.0))
        return net

    def begin(self, layer: nn.Module, scale: float) -> None:
        pass

    def data(self, config: Config) -> Splits:
        x, y = samples.waves(config.seed, rows=600, steps=config.data["steps"], noise=0.2)
        return samples.divided(x, y, config.seed).splits()


class WildTones(Tones):
    """Recurrent weights drawn with a deviation of one's own."""

    def begin(self, layer: nn.Module, scale: float) -> None:
        nn.init.normal_(layer.weight_hh_l0, std=scale)


class PositiveTones(Tones):
    """All weights of the recurrent layer drawn from 0 to a bound."""

    def begin(self, layer: nn.Module, scale: float) -> None:
        for name, part in layer.named_parameters():
            if "weight" in name:
                nn.init.uniform_(part, 0.0, scale)


class PositiveStates(Tones):
    """Only the recurrent weights have one sign."""

    def begin(self, layer: nn.Module, scale: float) -> None:
        nn.init.uniform_(layer.weight_hh_l0, 0.0, scale)


class LoudTones(Tones):
    """The model turns the series into raw units before it reads them."""

    loudness = 300.0

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(Louder(self.loudness), super().model(config))


class QuietTones(LoudTones):
    loudness = 1.0


class Louder(nn.Module):
    def __init__(self, times: float) -> None:
        super().__init__()
        self.times = times

    def forward(self, series: Tensor) -> Tensor:
        return self.times * series


class Levels(Task):
    """The mean of a series, by a recurrent layer with weights that are too large."""

    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        net = Reader(config.model["kind"], config.model["width"], 1)
        if config.model["gain"]:
            nn.init.orthogonal_(net.layer.weight_hh_l0, gain=config.model["gain"])
        return net

    def data(self, config: Config) -> Splits:
        draw = torch.Generator().manual_seed(config.seed)
        x = torch.randn(800, 30, 1, generator=draw) + torch.randn(800, 1, 1, generator=draw)
        y = x.mean(1)[:, 0] + 0.1 * torch.randn(800, generator=draw)
        return samples.divided(x.numpy(), y.numpy()[:, None], config.seed).splits()


class Folded(nn.Module):
    """A cell written by hand: the state is multiplied and a word is added, with nothing between."""

    def __init__(self, gain: float, *, squashed: bool, width: int = 24) -> None:
        super().__init__()
        self.embed, self.squashed = nn.Embedding(40, width), squashed
        self.step = nn.Linear(width, width)
        nn.init.orthogonal_(self.step.weight, gain=gain)
        self.head = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 4))

    def forward(self, words: Tensor) -> Tensor:
        state = torch.zeros(len(words), self.step.in_features)
        for vector in self.embed(words).unbind(1):
            state = self.step(state) + vector
            state = state.tanh() if self.squashed else state
        return self.head(state)


class Sums(Task):
    """The topic of a text, from a state that grows with every word."""

    squashed = False

    def model(self, config: Config) -> nn.Module:
        return Folded(config.model["gain"], squashed=self.squashed)

    def data(self, config: Config) -> Splits:
        x, y = samples.texts(config.seed, rows=900, words=40, length=config.data["words"],
                             topical=0.5)  # fmt: skip
        return samples.divided(x, y, config.seed).splits()


class SquashedSums(Sums):
    squashed = True


class Tagger(nn.Module):
    """A tag for each word."""

    def __init__(self, kind: str, width: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(12, width)
        self.layer = (nn.GRU if kind == "gru" else nn.RNN)(width, width, batch_first=True)
        self.head = nn.Linear(width, 4)

    def forward(self, words: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(words))[0])


class TagsAveraged(Task):
    kind = "sequence"

    def model(self, config: Config) -> nn.Module:
        return Tagger(config.model["kind"], 40)

    def data(self, config: Config) -> Splits:
        x, y = samples.tagged(config.seed, rows=500, length=config.data["words"])
        return samples.divided(x, y, config.seed).splits()


class TagsAddedUp(TagsAveraged):
    """The loss is the sum over all words of a batch, at a rate meant for their mean."""

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        words = outputs.flatten(0, 1)
        return nn.functional.cross_entropy(words, targets.flatten(), reduction="sum")


CALM = {"optimizer": "adam", "learning_rate": 0.004, "clip_norm": 1.0}

CASES = [
    Case(
        id="tones_wild_gru", label="exploding_gradients", build=WildTones,
        config=settings(model={"kind": "gru", "width": 40, "scale": 1.5}, data={"steps": 40},
                        optimizer="sgd", learning_rate=0.05, epochs=8),
        twin=Tones, twin_config=patch(training={**CALM, "epochs": 16}), verify=worse(0.1),
        notes="recurrent weights of deviation 1.5 in a GRU of 40 units",
    ),
    Case(
        id="tones_wild_lstm", label="exploding_gradients", build=WildTones,
        config=settings(model={"kind": "lstm", "width": 32, "scale": 3.0}, data={"steps": 40},
                        optimizer="sgd", learning_rate=0.1, epochs=8),
        twin=Tones, twin_config=patch(training={**CALM, "epochs": 16}), verify=worse(0.1),
        notes="recurrent weights of deviation 3 in an LSTM",
    ),
    Case(
        id="levels_large_gru", label="exploding_gradients", build=Levels,
        config=settings(model={"kind": "gru", "width": 32, "gain": 25.0}, epochs=8,
                        learning_rate=0.003),
        twin_config=patch(model={"gain": 0.0}, training={"clip_norm": 1.0}), verify=worse(0.15),
        notes="recurrent weights of gain 25 over 30 times",
    ),
    Case(
        id="levels_large_rnn", label="exploding_gradients", build=Levels,
        config=settings(model={"kind": "rnn", "width": 64, "gain": 12.0}, epochs=8,
                        learning_rate=0.003),
        twin_config=patch(model={"gain": 1.0}, training={"clip_norm": 1.0}), verify=worse(0.3),
        notes="recurrent weights of gain 12: units are flat and the gradient grows all the same",
    ),
    Case(
        id="sums_by_hand", label="exploding_gradients", build=Sums,
        config=settings(model={"gain": 2.2}, data={"words": 24}, optimizer="sgd",
                        learning_rate=0.05, epochs=8),
        twin=SquashedSums, twin_config=patch(model={"gain": 1.0}, training=CALM),
        verify=worse(0.15), notes="a state times 2.2 and a word, 24 times, by hand",
    ),
    Case(
        id="tags_added_up", label="exploding_gradients", build=TagsAddedUp,
        config=settings(model={"kind": "gru"}, data={"words": 20}, optimizer="sgd",
                        learning_rate=0.2, momentum=0.9, epochs=8),
        twin=TagsAveraged, verify=worse(0.15),
        notes="a loss summed over 640 words, at a rate that suits their mean",
    ),
    Case(
        id="tags_added_up_rnn", label="exploding_gradients", build=TagsAddedUp,
        config=settings(model={"kind": "rnn"}, data={"words": 14}, optimizer="sgd",
                        learning_rate=0.1, momentum=0.9, epochs=10, batch_size=24),
        twin=TagsAveraged, verify=worse(0.15),
        notes="a loss summed over 340 words, by a tanh RNN",
    ),
    Case(
        id="tones_positive_gru", label="bad_init", build=PositiveTones,
        config=settings(model={"kind": "gru", "width": 32, "scale": 1.0}, data={"steps": 24},
                        epochs=8),
        twin=Tones, twin_config=patch(training={"epochs": 16}), verify=worse(0.1),
        notes="all weights from 0 to 1: every state runs to the same end",
    ),
    Case(
        id="tones_positive_states", label="bad_init", build=PositiveStates,
        config=settings(model={"kind": "lstm", "width": 48, "scale": 1.0}, data={"steps": 24},
                        epochs=10),
        twin=Tones, twin_config=patch(training={"epochs": 20}), verify=worse(0.1),
        notes="recurrent weights of an LSTM from 0 to 1",
    ),
    Case(
        id="tones_too_loud", label="saturation", build=LoudTones,
        config=settings(model={"kind": "lstm", "width": 32}, data={"steps": 24}, epochs=8,
                        learning_rate=0.002),
        twin=QuietTones, twin_config=patch(training={"epochs": 14, "learning_rate": 0.005}),
        verify=worse(0.1), notes="gates that get inputs in the hundreds",
    ),
    Case(
        id="tones_hot_gru", label="unstable_training", build=Tones,
        config=settings(model={"kind": "gru", "width": 32}, data={"steps": 24}, epochs=10,
                        learning_rate=0.5),
        twin_config=patch(training={"learning_rate": 0.005, "epochs": 16}), verify=worse(0.1),
        notes="adam at 0.5 drives gates that were free into the flat",
    ),
    Case(
        id="tones_hot_rnn", label="unstable_training", build=Tones,
        config=settings(model={"kind": "rnn", "width": 40}, data={"steps": 24}, epochs=10,
                        learning_rate=0.2),
        twin_config=patch(training={"learning_rate": 0.003, "clip_norm": 1.0, "epochs": 20}),
        verify=worse(0.1), notes="adam at 0.2 for a tanh RNN",
    ),
    Case(
        id="levels_hot_lstm", label="unstable_training", build=Levels,
        config=settings(model={"kind": "lstm", "width": 32, "gain": 0.0}, epochs=8,
                        learning_rate=0.6),
        twin_config=patch(training={"learning_rate": 0.004}), verify=worse(0.15),
        notes="adam at 0.6 for a regression by an LSTM",
    ),
    Case(
        id="ok_clipped_rnn", label=HEALTHY, build=Levels, verify=reaches(0.85),
        config=settings(model={"kind": "rnn", "width": 48, "gain": 1.3}, epochs=15,
                        clip_norm=1.0, learning_rate=0.002),
        notes="recurrent weights of gain 1.3, large gradients that are clipped",
    ),
    Case(
        id="ok_warm_gru", label=HEALTHY, build=Tones, verify=reaches(0.85),
        config=settings(model={"kind": "gru", "width": 32}, data={"steps": 24}, epochs=16,
                        scheduler="onecycle", learning_rate=0.02, clip_norm=1.0),
        notes="one cycle up to 0.02",
    ),
    Case(
        id="ok_tags_rnn", label=HEALTHY, build=TagsAveraged, verify=reaches(0.9),
        config=settings(model={"kind": "rnn"}, data={"words": 30}, epochs=15, learning_rate=0.004,
                        clip_norm=5.0),
        notes="an RNN over 30 words",
    ),
    Case(
        id="ok_words_by_hand", label=HEALTHY, build=SquashedSums, verify=reaches(0.85),
        config=settings(model={"gain": 1.0}, data={"words": 24}, epochs=12, clip_norm=1.0),
        notes="a cell written by hand, squashed at each word",
    ),
]  # fmt: skip
