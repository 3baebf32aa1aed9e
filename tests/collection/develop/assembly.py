"""Wrong starts, losses, optimizers and axes."""

import torch
from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task
from pytest_mltrainer.training.session import TrainingSession

from .. import samples
from ..cases import Case, Outcome, both, last_worse, settings, worse


class PositiveReader(nn.Module):
    """Weights from `torch.rand`: all of them positive, with a mean of a half."""

    positive = True

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(1, 48, batch_first=True)
        self.head = nn.Linear(48, 3)
        if self.positive:
            for part in self.parameters():
                part.data = torch.rand(part.shape)

    def forward(self, series: Tensor) -> Tensor:
        return self.head(self.rnn(series)[0][:, -1])


class UsualReader(PositiveReader):
    positive = False


class PositiveWaves(Task):
    net: type[nn.Module] = PositiveReader

    def model(self, config: Config) -> nn.Module:
        return self.net()

    def data(self, config: Config) -> Splits:
        x, y = samples.waves(config.seed, rows=700)
        return samples.divided(x, y, config.seed).splits()


class UsualWaves(PositiveWaves):
    net = UsualReader


class Topics(Task):
    """Texts of four topics."""

    net: type[nn.Module]

    def model(self, config: Config) -> nn.Module:
        return self.net()

    def data(self, config: Config) -> Splits:
        x, y = samples.texts(config.seed, rows=800)
        return samples.divided(x, y, config.seed).splits()


class TinyConvolutions(Task):
    """Weights of deviation 0.0001, 'to be safe'."""

    deviation: float | None = 1e-4

    def model(self, config: Config) -> nn.Module:
        net = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(12, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1),
            nn.ReLU(), nn.AdaptiveMaxPool2d(2), nn.Flatten(), nn.Linear(64, 4),
        )  # fmt: skip
        for layer in net:
            if self.deviation and isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.normal_(layer.weight, std=self.deviation)
                nn.init.zeros_(layer.bias)
        return net

    def data(self, config: Config) -> Splits:
        x, y = samples.shapes(config.seed, rows=600)
        return samples.divided(x, y, config.seed).splits()


class UsualConvolutions(TinyConvolutions):
    deviation = None


class RawIntoNll(Task):
    """`nll_loss` wants log-probabilities and gets raw outputs: it falls for ever."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(13, 24), nn.ReLU(), nn.Linear(24, 3))

    def data(self, config: Config) -> Splits:
        x, y = samples.load("wine")
        return samples.divided(x, y, config.seed).standardised().splits()

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        return nn.functional.nll_loss(self.logs(outputs), targets)

    def logs(self, outputs: Tensor) -> Tensor:
        return outputs


class LogsIntoNll(RawIntoNll):
    def logs(self, outputs: Tensor) -> Tensor:
        return outputs.log_softmax(1)


class SquashedTarget(Task):
    """A sigmoid in front of targets from 25 to 346."""

    kind = "regression"
    squashed = True

    def model(self, config: Config) -> nn.Module:
        last = [nn.Sigmoid()] if self.squashed else []
        return nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1), *last)

    def data(self, config: Config) -> Splits:
        x, y = samples.load("diabetes")
        return samples.divided(x, y, config.seed).standardised().splits()


class OpenTarget(SquashedTarget):
    squashed = False


class TwoSigmoids(Task):
    """Sigmoid in the network, sigmoid in the loss; several labels."""

    kind = "multilabel"
    twice = True

    def model(self, config: Config) -> nn.Module:
        last = [nn.Sigmoid()] if self.twice else []
        return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 5), *last)

    def data(self, config: Config) -> Splits:
        x, y = samples.several_labels(config.seed)
        return samples.divided(x, y, config.seed).splits()


class OneSigmoid(TwoSigmoids):
    twice = False


class HeadOnly(Task):
    """The optimizer was made for the head alone, from an experiment with a pretrained body."""

    whole = False

    def model(self, config: Config) -> nn.Module:
        return Body()

    def optimizer(self, model: nn.Module, config: Config) -> torch.optim.Optimizer:
        parts = model.parameters() if self.whole else model.head.parameters()
        return torch.optim.Adam(parts, lr=config.training.learning_rate)

    def data(self, config: Config) -> Splits:
        x, y = samples.waves(config.seed, rows=600, noise=0.5)
        return samples.divided(x, y, config.seed).splits()


class Body(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.GRU(1, 20, batch_first=True)
        self.head = nn.Linear(20, 3)

    def forward(self, series: Tensor) -> Tensor:
        return self.head(self.body(series)[0][:, -1])


class WholeModel(HeadOnly):
    whole = True


class NoGradEncoder(nn.Module):
    """The encoder runs under `no_grad`, copied from a script that only predicts."""

    trained = False

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 6), nn.Tanh())
        self.decode = nn.Linear(6, 1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.set_grad_enabled(self.trained and torch.is_grad_enabled()):
            code = self.encode(x)
        return self.decode(code)


class GradEncoder(NoGradEncoder):
    trained = True


class Curved(Task):
    kind = "regression"
    net: type[nn.Module] = NoGradEncoder

    def model(self, config: Config) -> nn.Module:
        return self.net()

    def data(self, config: Config) -> Splits:
        x, y = samples.curved(config.seed, rows=900)
        return samples.divided(x, y, config.seed).splits()


class CurvedTrained(Curved):
    net = GradEncoder


class ClearedOnce(Task):
    """`zero_grad` stands in front of the loop over batches, not in it; an LSTM under adam."""

    each = False

    def model(self, config: Config) -> nn.Module:
        return Body()

    def data(self, config: Config) -> Splits:
        x, y = samples.waves(config.seed, rows=700)
        return samples.divided(x, y, config.seed).splits()

    def train(self, session: TrainingSession) -> None:
        for epoch in session.epochs():
            session.optimizer.zero_grad()
            for inputs, targets in session.batches():
                loss = session.loss(inputs, targets)
                loss.backward()
                session.optimizer.step()
                if self.each:
                    session.optimizer.zero_grad()
            session.finish_epoch(epoch)


class ClearedEach(ClearedOnce):
    each = True


class OtherOptimizerCleared(Task):
    """Clears an auxiliary optimizer that holds other parameters; a regression."""

    kind = "regression"
    right = False

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(10, 32), nn.ReLU(), nn.Linear(32, 1))

    def data(self, config: Config) -> Splits:
        x, y = samples.straight(config.seed, rows=900)
        return samples.divided(x, y, config.seed).splits()

    def train(self, session: TrainingSession) -> None:
        scale = torch.nn.Parameter(torch.ones(1))
        auxiliary = torch.optim.SGD([scale], lr=0.1)
        for epoch in session.epochs():
            for inputs, targets in session.batches():
                (session.optimizer if self.right else auxiliary).zero_grad()
                session.loss(inputs, targets).backward()
                session.optimizer.step()
            session.finish_epoch(epoch)


class RightOptimizerCleared(OtherOptimizerCleared):
    right = True


class InvertedMask(nn.Module):
    """Keeps the padding and blanks the words: the mask is the wrong way round."""

    inverted = True

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(120, 24, padding_idx=0)
        self.head = nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 4))

    def forward(self, words: Tensor) -> Tensor:
        mask = words == 0 if self.inverted else words != 0
        hidden = self.embed(words) * mask.unsqueeze(-1)
        return self.head(hidden.sum(1) / len(words[0]))


class UprightMask(InvertedMask):
    inverted = False


class MaskedWords(Topics):
    net = InvertedMask


class MaskedRightly(Topics):
    net = UprightMask


class WholeDivision(Task):
    """Bytes divided by 255 as whole numbers: every pixel is 0."""

    whole = True

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3),
            nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(16, 4),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = samples.shapes(config.seed, rows=600)
        pixels = (250 * x).astype(int)
        scaled = pixels // 255 if self.whole else pixels / 255
        return samples.divided(scaled.astype(float), y, config.seed).splits()


class TrueDivision(WholeDivision):
    whole = False


class ViewedSteps(nn.Module):
    """`view` where a transpose was meant, for an LSTM that wants time first."""

    transposed = False

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, 32)
        self.head = nn.Linear(32, 3)

    def forward(self, series: Tensor) -> Tensor:
        batch, steps, columns = series.shape
        turned = series.transpose(0, 1) if self.transposed else series.view(steps, batch, columns)
        return self.head(self.lstm(turned)[0][-1])


class TransposedSteps(ViewedSteps):
    transposed = True


class Waves(Task):
    net: type[nn.Module] = ViewedSteps

    def model(self, config: Config) -> nn.Module:
        return self.net()

    def data(self, config: Config) -> Splits:
        x, y = samples.waves(config.seed, rows=700)
        return samples.divided(x, y, config.seed).splits()


class WavesTransposed(Waves):
    net = TransposedSteps


class AttentionOverBatch(nn.Module):
    """Attention by hand whose scores compare samples instead of places."""

    over_places = False

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(12, 32)
        self.query, self.key, self.value = (nn.Linear(64, 32) for _ in range(3))
        self.head = nn.Linear(32, 4)
        self.place = nn.Parameter(torch.randn(14, 32))

    def forward(self, words: Tensor) -> Tensor:
        own = self.embed(words)
        hidden = torch.cat([own, self.place.expand_as(own)], dim=-1)
        if not self.over_places:
            hidden = hidden.transpose(0, 1)
        scores = self.query(hidden) @ self.key(hidden).transpose(1, 2) / 32**0.5
        mixed = scores.softmax(-1) @ self.value(hidden)
        if not self.over_places:
            mixed = mixed.transpose(0, 1)
        return self.head(torch.relu(mixed + own))


class AttentionOverPlaces(AttentionOverBatch):
    over_places = True


class Tags(Task):
    kind = "sequence"
    net: type[nn.Module] = AttentionOverBatch

    def model(self, config: Config) -> nn.Module:
        return self.net()

    def data(self, config: Config) -> Splits:
        x, y = samples.tagged(config.seed, rows=900)
        return samples.divided(x, y, config.seed).splits()


class TagsOverPlaces(Tags):
    net = AttentionOverPlaces


class NoisyForward(nn.Module):
    """Noise on the features as an augmentation, in validation as well."""

    always = True

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(30, 32), nn.Linear(32, 2)

    def forward(self, x: Tensor) -> Tensor:
        if self.training or self.always:
            x = x + 3.0 * torch.randn_like(x)
        return self.second(torch.relu(self.first(x)))


class NoisyInTraining(NoisyForward):
    always = False


class Tumours(Task):
    net: type[nn.Module] = NoisyForward

    def model(self, config: Config) -> nn.Module:
        return self.net()

    def data(self, config: Config) -> Splits:
        x, y = samples.load("breast_cancer")
        return samples.divided(x, y, config.seed).standardised().splits()


class TumoursNoisyInTraining(Tumours):
    net = NoisyInTraining


class PairsNormed(Task):
    """Batch norm's statistics over two samples at a time, and nearly all of the last pair's."""

    momentum = 1.0

    def model(self, config: Config) -> nn.Module:
        momentum = self.momentum
        return nn.Sequential(
            nn.Linear(64, 48), nn.BatchNorm1d(48, momentum=momentum), nn.ReLU(),
            nn.Linear(48, 48), nn.BatchNorm1d(48, momentum=momentum), nn.ReLU(),
            nn.Linear(48, 10),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        return samples.digits(config.seed).splits()


class UsualMomentum(PairsNormed):
    momentum = 0.1


def some_unchanged(run: Outcome, twin: Outcome | None) -> str:
    """Some trainable parameter is what it was at the start, and none of the twin's."""
    assert twin is not None
    return "" if len(run.unchanged) > len(twin.unchanged) else f"unchanged: {run.unchanged}"


CASES = [
    Case(
        id="waves_positive_weights",
        label="bad_init",
        build=PositiveWaves,
        config=settings(epochs=12, learning_rate=0.005),
        twin=UsualWaves,
        verify=worse(0.2),
        notes="every weight of a GRU between 0 and 1",
    ),
    Case(
        id="shapes_tiny_weights", label="bad_init", build=TinyConvolutions,
        config=settings(optimizer="sgd", learning_rate=0.05, epochs=10), twin=UsualConvolutions,
        verify=worse(0.3), notes="weights of deviation 0.0001 in four layers",
    ),
    Case(
        id="wine_raw_into_nll", label="loss_mismatch", build=RawIntoNll,
        config=settings(epochs=20), twin=LogsIntoNll, verify=worse(0.05),
        notes="nll_loss without log_softmax",
    ),
    Case(
        id="diabetes_squashed", label="loss_mismatch", build=SquashedTarget,
        config=settings(learning_rate=0.02, epochs=40), twin=OpenTarget, verify=worse(0.3),
        notes="outputs from 0 to 1 for targets in the hundreds",
    ),
    Case(
        id="labels_two_sigmoids", label="loss_mismatch", build=TwoSigmoids,
        config=settings(epochs=12), twin=OneSigmoid, verify=worse(0.05),
        notes="a sigmoid before BCE with logits",
    ),
    Case(
        id="waves_head_only", label="params_not_updated", build=HeadOnly,
        config=settings(optimizer="task", epochs=10), twin=WholeModel,
        verify=both(worse(0.08), some_unchanged), notes="the optimizer holds the head alone",
    ),
    Case(
        id="curve_no_grad_encoder", label="params_not_updated", build=Curved,
        config=settings(epochs=15), twin=CurvedTrained, verify=both(worse(0.15), some_unchanged),
        notes="the encoder under no_grad",
    ),
    Case(
        id="waves_cleared_once", label="missing_zero_grad", build=ClearedOnce,
        config=settings(epochs=8, batch_size=16, learning_rate=0.01), twin=ClearedEach,
        verify=last_worse(0.05), notes="zero_grad once an epoch",
    ),
    Case(
        id="line_other_cleared", label="missing_zero_grad", build=OtherOptimizerCleared,
        config=settings(epochs=8, batch_size=16, learning_rate=0.02), twin=RightOptimizerCleared,
        verify=last_worse(0.05), notes="zero_grad of another optimizer",
    ),
    Case(
        id="words_inverted_mask", label="input_ignored", build=MaskedWords,
        config=settings(epochs=8, learning_rate=0.01), twin=MaskedRightly, verify=worse(0.2),
        notes="the mask keeps padding and blanks words",
    ),
    Case(
        id="shapes_whole_division", label="input_ignored", build=WholeDivision,
        config=settings(epochs=8, learning_rate=0.005), twin=TrueDivision, verify=worse(0.2),
        notes="pixels // 255",
    ),
    Case(
        id="waves_viewed", label="batch_mixing", build=Waves,
        config=settings(epochs=12, learning_rate=0.01), twin=WavesTransposed, verify=worse(0.15),
        notes="view instead of transpose",
    ),
    Case(
        id="tags_attention_over_batch", label="batch_mixing", build=Tags,
        config=settings(epochs=15, learning_rate=0.01), twin=TagsOverPlaces, verify=worse(0.1),
        notes="attention among samples",
    ),
    Case(
        id="tumours_always_noisy", label="train_eval_mismatch", build=Tumours,
        config=settings(epochs=15), twin=TumoursNoisyInTraining, verify=worse(0.02),
        notes="noise in evaluation",
    ),
    Case(
        id="digits_last_pair_normed", label="train_eval_mismatch", build=PairsNormed,
        config=settings(epochs=5, batch_size=4, learning_rate=0.001), twin=UsualMomentum,
        verify=worse(0.1), notes="statistics of the last batch of four alone",
    ),
]  # fmt: skip
