"""Molecules: fingerprints of substructures and small graphs of atoms."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from pytest_mltrainer import Config, Splits, Task

from .. import samples
from ..cases import HEALTHY, Case, inflated, patch, reaches, settings, worse

BITS = 256


def fingerprints(seed: int, rows: int, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Bits for substructures and a solubility that adds up over some of them, deviation 1."""
    draw = np.random.default_rng(seed)
    bits = (draw.random((rows, BITS)) < draw.uniform(0.03, 0.3, BITS)).astype(np.float32)
    gain = np.where(draw.random(BITS) < 0.25, draw.normal(size=BITS), 0.0)
    value = bits @ gain + bits[:, 3] * bits[:, 7]
    value = (value - value.mean()) / value.std()
    return bits, value + noise * draw.normal(size=rows)


class Solubility(Task):
    kind = "regression"

    def model(self, config: Config) -> nn.Module:
        hidden = config.model["hidden"]
        return nn.Sequential(
            nn.Linear(BITS, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
            nn.Linear(hidden, 1),
        )  # fmt: skip

    def data(self, config: Config) -> Splits:
        x, y = fingerprints(config.seed, config.data["rows"])
        return samples.divided(x, y, config.seed).splits()


class HuberOfColumns(Solubility):
    """A column of outputs against a row of targets."""

    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        return functional.smooth_l1_loss(outputs, targets)


class HuberOfRows(Solubility):
    def loss(self, outputs: Tensor, targets: Tensor, config: Config) -> Tensor:
        return functional.smooth_l1_loss(outputs.squeeze(-1), targets)


class PlateSwapped(Solubility):
    """The results of every third training plate belong to other molecules."""

    swapped = True

    def data(self, config: Config) -> Splits:
        x, y = fingerprints(config.seed, 1500, noise=0.2)
        parts = samples.divided(x, y, config.seed)
        if self.swapped:
            plates = np.arange(len(parts.train.y)) // 48
            for plate in range(0, plates.max() + 1, 3):
                parts.train.y[plates == plate] = np.roll(parts.train.y[plates == plate], 5)
        return parts.splits()


class PlateInOrder(PlateSwapped):
    swapped = False


class Assays(Task):
    """Active or not in six assays."""

    kind = "multilabel"

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(BITS, 64), nn.ReLU(), nn.Linear(64, 6), *self.last())

    def last(self) -> list[nn.Module]:
        return []

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed + 5)
        bits, _ = fingerprints(config.seed, 1200)
        score = (bits - bits.mean(0)) @ draw.normal(size=(BITS, 6))
        return samples.divided(
            bits, (score > score.std(0) * 0.8).astype(np.float32), config.seed
        ).splits()


class AssaysInProbabilities(Assays):
    def last(self) -> list[nn.Module]:
        return [nn.Sigmoid()]


class Conformers(Task):
    """Descriptors of three conformers a molecule, the class is one of the molecule."""

    apart = False

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Linear(20, 128), nn.ReLU(), nn.Linear(128, 3))

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        molecules, labels = samples.table(config.seed, rows=300, columns=20, classes=3, apart=0.25)
        x = np.repeat(molecules, 3, axis=0) + 0.01 * draw.normal(size=(900, 20))
        y = np.repeat(labels, 3)
        return (samples.cut(x, y) if self.apart else samples.divided(x, y, config.seed)).splits()


class ConformersApart(Conformers):
    apart = True


class MessagePassing(nn.Module):
    """Three rounds of messages between bonded atoms, then the mean over the atoms there are."""

    def __init__(self, hidden: int, registered: bool) -> None:
        super().__init__()
        rounds = [nn.Linear(hidden, hidden) for _ in range(3)]
        self.rounds = nn.ModuleList(rounds) if registered else rounds
        self.atoms = nn.Embedding(6, hidden, padding_idx=0)
        self.readout = nn.Linear(hidden, 3)

    def forward(self, atoms: Tensor, bonds: Tensor) -> Tensor:
        there = (atoms > 0).unsqueeze(-1).float()
        state = self.atoms(atoms)
        for layer in self.rounds:
            state = torch.relu(layer(state + bonds @ state)) * there
        return self.readout(state.sum(1) / there.sum(1))


class Graphs(Task):
    """Which pattern of bonds a molecule of up to nine atoms has most of."""

    registered = True

    def model(self, config: Config) -> nn.Module:
        return MessagePassing(config.model["hidden"], self.registered)

    def predict(self, model: nn.Module, inputs: list[Tensor]) -> Tensor:
        return model(*inputs)

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        rows, size = 900, 9
        atoms = draw.integers(1, 6, (rows, size))
        atoms[np.arange(size) >= draw.integers(5, size + 1, rows)[:, None]] = 0
        bonds = np.triu(draw.random((rows, size, size)) < 0.3, 1)
        bonds = (bonds | bonds.transpose(0, 2, 1)) & (atoms > 0)[:, None] & (atoms > 0)[..., None]
        counts = [
            ((atoms[:, :, None] == one) & (atoms[:, None] == other) & bonds).sum((1, 2))
            for one, other in ((1, 2), (3, 4), (2, 5))
        ]
        y = np.argmax(np.stack(counts, 1) + 0.01 * draw.random((rows, 3)), axis=1)
        columns = (torch.from_numpy(atoms), torch.from_numpy(bonds).float(), torch.from_numpy(y))
        cuts = ((0, 600), (600, 780), (780, rows))
        parts = [
            Pairs(TensorDataset(*(column[start:end] for column in columns))) for start, end in cuts
        ]
        return Splits(train=parts[0], validation=parts[1], test=parts[2])


class Pairs:
    """Both tensors of a graph as the input."""

    def __init__(self, rows: TensorDataset) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[list[Tensor], Tensor]:
        atoms, bonds, label = self.rows[index]
        return [atoms, bonds], label


class GraphsInList(Graphs):
    registered = False


CASES = [
    Case(
        id="mol_few_assayed", label="overfitting", build=Solubility,
        config=settings(model={"hidden": 192}, data={"rows": 200}, epochs=30, learning_rate=0.001),
        twin_config=patch(data={"rows": 2400}, training={"epochs": 8}), verify=worse(0.15),
        notes="120 molecules, 256 bits, 86,000 weights, 30 epochs",
    ),
    Case(
        id="mol_pressed_to_zero", label="underfitting", build=Solubility,
        config=settings(model={"hidden": 48}, data={"rows": 1200}, epochs=12, optimizer="adamw",
                        weight_decay=15.0),
        twin_config=patch(training={"weight_decay": 0.01}), verify=worse(0.15),
        notes="adamw with a weight decay of 15",
    ),
    Case(
        id="mol_huber_of_columns", label="loss_mismatch", build=HuberOfColumns,
        config=settings(model={"hidden": 48}, data={"rows": 1000}, epochs=10),
        twin=HuberOfRows, verify=worse(0.3), notes="smooth L1 of (B, 1) and (B)",
    ),
    Case(
        id="mol_plates_swapped", label="label_noise", build=PlateSwapped,
        config=settings(model={"hidden": 48}, epochs=12, learning_rate=0.002), twin=PlateInOrder,
        verify=worse(0.05), notes="a third of the training targets belongs to other rows",
    ),
    Case(
        id="mol_assays_as_probabilities", label="loss_mismatch", build=AssaysInProbabilities,
        config=settings(epochs=12), twin=Assays, verify=worse(0.1),
        notes="a sigmoid in front of the loss that has its own",
    ),
    Case(
        id="mol_conformers_in_both", label="data_leakage", build=Conformers,
        config=settings(epochs=25), twin=ConformersApart, verify=inflated(0.1),
        notes="three conformers of a molecule, split at random",
    ),
    Case(
        id="mol_rounds_in_list", label="params_not_updated", build=GraphsInList,
        config=settings(model={"hidden": 24}, epochs=15), twin=Graphs, verify=worse(0.05),
        notes="the layers of the messages stand in a plain list",
    ),
    Case(
        id="well_mol_graphs", label=HEALTHY, build=Graphs,
        config=settings(model={"hidden": 32}, epochs=20), verify=reaches(0.7),
        notes="masked graphs, sums over bonds",
    ),
    Case(
        id="well_mol_fingerprints", label=HEALTHY, build=Solubility,
        config=settings(model={"hidden": 48}, data={"rows": 2400}, epochs=6, weight_decay=0.03,
                        optimizer="adamw", learning_rate=0.001),
        verify=reaches(0.6, below_linear=0.1), notes="sparse bits, noise, decay, few epochs",
    ),
]  # fmt: skip
