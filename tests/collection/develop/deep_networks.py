"""Gradients that explode or vanish, units that die or saturate."""

from torch import Tensor, nn

from pytest_mltrainer import Config, Splits, Task

from .. import samples
from ..cases import Case, patch, settings, worse


class RememberingNet(nn.Module):
    """A tanh RNN whose recurrent weights were scaled up so that it remembers for longer."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.rnn = nn.RNN(1, 48, batch_first=True)
        nn.init.orthogonal_(self.rnn.weight_hh_l0, gain=gain)
        self.head = nn.Linear(48, 3)

    def forward(self, series: Tensor) -> Tensor:
        hidden, _ = self.rnn(series)
        return self.head(hidden[:, -1])


class Waves(Task):
    def model(self, config: Config) -> nn.Module:
        return RememberingNet(config.model["gain"])

    def data(self, config: Config) -> Splits:
        x, y = samples.waves(config.seed, rows=500, steps=60, noise=0.1)
        return samples.divided(x, y, config.seed).splits()


class DeepSigmoid(Task):
    """Ten hidden layers of sigmoids, as in an old book."""

    def model(self, config: Config) -> nn.Module:
        layers: list[nn.Module] = [nn.Linear(64, 32), self.activation()]
        for _ in range(config.model["depth"] - 1):
            layers += [nn.Linear(32, 32), self.activation()]
        return nn.Sequential(*layers, nn.Linear(32, 10))

    def activation(self) -> nn.Module:
        return nn.Sigmoid()

    def data(self, config: Config) -> Splits:
        return samples.digits(config.seed).splits()


class DeepNormalised(DeepSigmoid):
    def activation(self) -> nn.Module:
        return nn.Sequential(nn.BatchNorm1d(32), nn.ReLU())


class SparseUnits(Task):
    """Strongly negative biases, meant to make the hidden units sparse."""

    bias = -6.0

    def model(self, config: Config) -> nn.Module:
        width = config.model["width"]
        net = nn.Sequential(
            nn.Linear(12, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, 3),
        )  # fmt: skip
        for layer in (net[0], net[2]):
            nn.init.constant_(layer.bias, self.bias)
        return net

    def data(self, config: Config) -> Splits:
        x, y = samples.table(config.seed, apart=0.6)
        return samples.divided(x, y, config.seed).splits()


class OrdinaryUnits(SparseUnits):
    bias = 0.0


class PushedOff(Task):
    """A rate that pushes the units of narrow layers below zero for every row."""

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(),
            nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 10),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        return samples.digits(config.seed).splits()


class SharpGates(nn.Module):
    """Sigmoid units made to decide: their sums are multiplied before they are squashed."""

    def __init__(self, sharpness: float) -> None:
        super().__init__()
        self.sharpness = sharpness
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)
        self.squash = nn.Sigmoid()
        self.second_squash = nn.Sigmoid()
        self.head = nn.Linear(64, 10)

    def forward(self, pixels: Tensor) -> Tensor:
        hidden = self.squash(self.sharpness * self.first(pixels))
        return self.head(self.second_squash(self.sharpness * self.second(hidden)))


class Gates(Task):
    def model(self, config: Config) -> nn.Module:
        return SharpGates(config.model["sharpness"])

    def data(self, config: Config) -> Splits:
        return samples.digits(config.seed).standardised().splits()


class Exploded(Task):
    """A stack of residual blocks that keep their variance, without any normalisation."""

    blocks, normalised = 16, False

    def model(self, config: Config) -> nn.Module:
        return Residuals(self.blocks, 8, 32, normalised=self.normalised)

    kind = "regression"

    def data(self, config: Config) -> Splits:
        x, y = samples.curved(config.seed)
        return samples.divided(x, y, config.seed).splits()


class Residuals(nn.Module):
    def __init__(self, blocks: int, columns: int, width: int, *, normalised: bool) -> None:
        super().__init__()
        self.stem = nn.Linear(columns, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width) if normalised else nn.Identity(),
                nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width),
            )
            for _ in range(blocks)
        )  # fmt: skip
        for block in self.blocks:
            for layer in (block[1], block[3]):
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        self.norm = nn.LayerNorm(width) if normalised else nn.Identity()
        self.head = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.stem(x)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return self.head(self.norm(hidden))


class Normalised(Exploded):
    normalised = True


CASES = [
    Case(
        id="waves_scaled_recurrence",
        label="exploding_gradients",
        build=Waves,
        config=settings(model={"gain": 3.0}, optimizer="sgd", learning_rate=0.05, epochs=10),
        twin_config=patch(
            model={"gain": 1.0},
            training={"clip_norm": 1.0, "optimizer": "adam", "learning_rate": 0.003},
        ),
        verify=worse(0.1),
        notes="recurrent weights of gain 3 over 60 steps: chaotic forward, exploding backward",
    ),
    Case(
        id="residuals_without_norm",
        label="exploding_gradients",
        build=Exploded,
        config=settings(learning_rate=0.001, epochs=6),
        twin=Normalised,
        verify=worse(0.3),
        notes="the variance doubles with each of 16 blocks",
    ),
    Case(
        id="digits_ten_sigmoids",
        label="vanishing_gradients",
        build=DeepSigmoid,
        config=settings(model={"depth": 10}, epochs=10, batch_size=64),
        twin=DeepNormalised,
        verify=worse(0.3),
        notes="each sigmoid passes on a quarter of the gradient at most",
    ),
    Case(
        id="table_negative_biases",
        label="dead_relu",
        build=SparseUnits,
        config=settings(model={"width": 32}),
        twin=OrdinaryUnits,
        verify=worse(0.1),
        notes="biases of -6 at inputs of deviation 1: no unit ever fires",
    ),
    Case(
        id="digits_units_pushed_off",
        label="dead_relu",
        build=PushedOff,
        config=settings(learning_rate=0.3, epochs=8),
        twin_config=patch(training={"learning_rate": 0.003}),
        verify=worse(0.3),
        notes="adam at 0.3: after a few steps no unit fires",
    ),
    Case(
        id="digits_sharp_gates",
        label="saturation",
        build=Gates,
        config=settings(model={"sharpness": 60.0}, optimizer="sgd", learning_rate=0.3, epochs=10),
        twin_config=patch(model={"sharpness": 1.0}, training={"learning_rate": 0.3}),
        verify=worse(0.04),
        notes="sums times 60 before the sigmoid: the derivative is zero almost everywhere",
    ),
]
