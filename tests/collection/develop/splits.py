"""Splits that share too much or too little."""

import numpy as np
from torch import nn

from pytest_mltrainer import Config, Splits, Task

from .. import samples
from ..cases import Case, inflated, last_worse, settings, worse
from ..samples import Array


def small_mlp(inside: int, outside: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(inside, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, outside)
    )


class RepeatedBeforeSplit(Task):
    """The rare class was repeated six times, then the rows were split."""

    before = True

    def model(self, config: Config) -> nn.Module:
        return small_mlp(10, 2)

    def data(self, config: Config) -> Splits:
        x, y = samples.table(
            config.seed, rows=700, columns=10, classes=2, apart=0.22, share=[0.85, 0.15]
        )
        if self.before:
            rows = np.concatenate([np.arange(len(y)), np.repeat(np.flatnonzero(y == 1), 5)])
            return samples.divided(x[rows], y[rows], config.seed).splits()
        parts = samples.divided(x, y, config.seed)
        train = parts.train
        rows = np.concatenate([np.arange(len(train.y)), np.repeat(np.flatnonzero(train.y == 1), 5)])
        train = samples.Rows(train.x[rows], train.y[rows])
        return samples.Parts(train, parts.validation, parts.test).splits()


class RepeatedInTraining(RepeatedBeforeSplit):
    before = False


class RepeatedVisits(Task):
    """Five visits of each patient, nearly alike, split by visit and not by patient."""

    by_patient = False

    def model(self, config: Config) -> nn.Module:
        return small_mlp(10, 2)

    def data(self, config: Config) -> Splits:
        draw = np.random.default_rng(config.seed)
        patients = draw.normal(size=(200, 10))
        ill = (0.6 * patients[:, 0] + draw.normal(size=200) > 0).astype(int)
        rows = np.repeat(np.arange(200), 5)
        x = patients[rows] + 0.06 * draw.normal(size=(1000, 10))
        divide = samples.cut if self.by_patient else samples.divided
        return divide(x, ill[rows]).splits()


class WholePatients(RepeatedVisits):
    by_patient = True


class EncodedTarget(Task):
    """A shop's mean of the target, over all rows, with two or three rows a shop."""

    kind = "regression"
    honest = False

    def model(self, config: Config) -> nn.Module:
        return small_mlp(7, 1)

    def data(self, config: Config) -> Splits:
        x, y = samples.straight(config.seed, columns=6, rows=800, noise=1.5)
        draw = np.random.default_rng(config.seed)
        shop = draw.integers(0, 600, len(y))
        sums, sizes = np.bincount(shop, y, 600), np.bincount(shop, minlength=600)
        known = sums[shop] / sizes[shop]
        if self.honest:
            known = draw.normal(size=len(y))
        return samples.divided(np.column_stack([x, known]), y, config.seed).splits()


class HonestColumn(EncodedTarget):
    honest = True


class TransformedOnce(Task):
    """The scaler was applied to training alone."""

    kind = "regression"
    everywhere = False

    def model(self, config: Config) -> nn.Module:
        return small_mlp(10, 1)

    def data(self, config: Config) -> Splits:
        x, y = samples.straight(config.seed)
        raw = samples.divided(3 * x + 2, y, config.seed)
        ready = raw.standardised()
        return samples.Parts(ready.train, *(
            (ready.validation, ready.test) if self.everywhere else (raw.validation, raw.test)
        )).splits()  # fmt: skip


class TransformedAll(TransformedOnce):
    everywhere = True


class TwoVocabularies(Task):
    """Words numbered by their first appearance, in each split anew."""

    shared = False

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.EmbeddingBag(121, 24), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 4)
        )

    def data(self, config: Config) -> Splits:
        parts = samples.divided(*samples.texts(config.seed), config.seed)
        if self.shared:
            return parts.splits()
        return parts.each(lambda x, y: (renumbered(x), y)).splits()


class OneVocabulary(TwoVocabularies):
    shared = True


def renumbered(x: Array) -> Array:
    known: dict[int, int] = {}
    return np.array([[known.setdefault(int(word), len(known) + 1) for word in row] for row in x])


class DarkerCamera(Task):
    """Validation pictures come from a camera that is darker and has less contrast."""

    same = False

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))

    def data(self, config: Config) -> Splits:
        parts = samples.digits(config.seed, image=True)
        if self.same:
            return parts.splits()
        dark = parts.each(lambda x, y: (1 - x**0.5, y))
        return samples.Parts(parts.train, dark.validation, dark.test).splits()


class SameCamera(DarkerCamera):
    same = True


CASES = [
    Case(
        id="table_repeated_before_split", label="data_leakage", build=RepeatedBeforeSplit,
        config=settings(epochs=30, metric="balanced_accuracy"), twin=RepeatedInTraining,
        verify=inflated(0.1), notes="oversampled, then split",
    ),
    Case(
        id="visits_of_patients", label="data_leakage", build=RepeatedVisits,
        config=settings(epochs=30), twin=WholePatients, verify=inflated(0.1),
        notes="visits of one patient in every split",
    ),
    Case(
        id="shops_encoded_target", label="data_leakage", build=EncodedTarget,
        config=settings(epochs=15), twin=HonestColumn, verify=inflated(0.2),
        notes="a target encoding of all rows",
    ),
    Case(
        id="line_transformed_once", label="train_val_skew", build=TransformedOnce,
        config=settings(epochs=15), twin=TransformedAll, verify=last_worse(0.5),
        notes="validation is not scaled",
    ),
    Case(
        id="texts_two_vocabularies", label="train_val_skew", build=TwoVocabularies,
        config=settings(epochs=10, learning_rate=0.01), twin=OneVocabulary, verify=worse(0.2),
        notes="a vocabulary for each split",
    ),
    Case(
        id="digits_darker_camera", label="train_val_skew", build=DarkerCamera,
        config=settings(epochs=12), twin=SameCamera, verify=worse(0.2),
        notes="another camera in validation",
    ),
]  # fmt: skip
