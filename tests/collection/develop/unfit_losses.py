"""Losses that ask for something else than the model answers."""

from torch import Tensor, nn
from torch.nn import functional

from pytest_mltrainer import Config, Splits, Task

from .. import samples, scenes
from ..cases import Case, settings, worse


class HuberBroadcast(Task):
    """Outputs (B, 1) against targets (B): each output is compared with every target."""

    kind = "regression"
    squeezed = False

    def model(self, config: Config) -> nn.Module:
        return Prices()

    def data(self, config: Config) -> Splits:
        x, y = scenes.houses(config.seed)
        return samples.divided(x, y).standardised().targets_standardised().splits()

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        return functional.huber_loss(outputs.squeeze(1) if self.squeezed else outputs, targets)


class HuberSqueezed(HuberBroadcast):
    squeezed = True


class Prices(nn.Module):
    """A residual net for tables."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(6, 32), nn.Linear(32, 1)
        self.blocks = nn.ModuleList(nn.Linear(32, 32) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        for block in self.blocks:
            x = x + functional.silu(block(x))
        return self.leave(x)


class PixelProbabilities(Task):
    """Softmax over the classes of each pixel, then cross entropy."""

    kind = "sequence"
    twice = True

    def model(self, config: Config) -> nn.Module:
        last = [nn.Softmax(dim=1)] if self.twice else []
        return nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 12, 5, padding=2), nn.ReLU(),
            nn.Conv2d(12, 3, 1), *last, nn.Flatten(2),
        )  # fmt: skip

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        return model(inputs).transpose(1, 2)

    def data(self, config: Config) -> Splits:
        return samples.divided(*scenes.regions(config.seed), config.seed).splits()


class PixelScores(PixelProbabilities):
    twice = False


class HingeOfZeros(Task):
    """The hinge wants targets of -1 and 1 and gets 0 and 1: zeros pull at nothing."""

    kind = "multilabel"
    signed = False

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 5))

    def data(self, config: Config) -> Splits:
        return samples.divided(*samples.several_labels(config.seed), config.seed).splits()

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        if self.signed:
            targets = 2 * targets - 1
        return (1 - targets * outputs).clamp_min(0).mean()


class HingeOfSigns(HingeOfZeros):
    signed = True


class RateTakenForLog(Task):
    """The network ends in `exp`, and `poisson_nll_loss` takes that for the logarithm."""

    kind = "regression"
    is_log = True

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 32), nn.Tanh(), nn.Linear(32, 1))

    def predict(self, model: nn.Module, inputs: Tensor) -> Tensor:
        return model(inputs).squeeze(1).exp()

    def data(self, config: Config) -> Splits:
        return samples.divided(*scenes.counts(config.seed), config.seed).splits()

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        return functional.poisson_nll_loss(outputs, targets, log_input=self.is_log)


class RateAsRate(RateTakenForLog):
    is_log = False


class LastRelu(Task):
    """A ReLU behind the last layer, for targets on both sides of zero."""

    kind = "regression"
    clipped = True

    def model(self, config: Config) -> nn.Module:
        last = [nn.ReLU()] if self.clipped else []
        return nn.Sequential(
            nn.Linear(8, 48), nn.ReLU(), nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, 1), *last
        )

    def data(self, config: Config) -> Splits:
        return samples.divided(*samples.curved(config.seed, noise=0.2), config.seed).splits()


class LastOpen(LastRelu):
    clipped = False


CASES = [
    Case(
        id="prices_broadcast", label="loss_mismatch", build=HuberBroadcast,
        config=settings(epochs=20), twin=HuberSqueezed, verify=worse(0.3),
        notes="(B, 1) against (B)",
    ),
    Case(
        id="regions_softmax_twice", label="loss_mismatch", build=PixelProbabilities,
        config=settings(epochs=12, optimizer="sgd", learning_rate=0.1, batch_size=16),
        twin=PixelScores, verify=worse(0.02), notes="softmax before cross entropy, by pixel",
    ),
    Case(
        id="labels_hinge_of_zeros", label="loss_mismatch", build=HingeOfZeros,
        config=settings(epochs=15), twin=HingeOfSigns, verify=worse(0.1),
        notes="0 and 1 into a hinge",
    ),
    Case(
        id="counts_rate_for_log", label="loss_mismatch", build=RateTakenForLog,
        config=settings(epochs=25, learning_rate=0.005), twin=RateAsRate, verify=worse(0.3),
        notes="exp before a loss that has its own",
    ),
    Case(
        id="curve_last_relu", label="loss_mismatch", build=LastRelu, config=settings(epochs=25),
        twin=LastOpen, verify=worse(0.15), notes="outputs of a ReLU for targets around 0",
    ),
]  # fmt: skip
