"""Digests of steps: they repeat, each part sees its own fault, and files survive what kills."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_trainings import Blobs, NoisyData, recorded, rehearse, small_config
from torch import nn

from pytest_mltrainer import Config
from pytest_mltrainer.training.checkpoints import Checkpoint
from pytest_mltrainer.training.observation.digests import (
    DIGEST,
    DIGESTS_FILE,
    digest_in_order,
    read_digests,
)
from pytest_mltrainer.training.observation.generators import Generators
from pytest_mltrainer.training.reproducibility import fix_seeds
from pytest_mltrainer.training.session import TrainingSession

QUIET = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None
)


SETTINGS: dict[str, dict[str, Any]] = {
    "as": {},
    "other": {"seed": 4},
    "sorted": {"shuffle": False},
}


def digests(folder: Path) -> Any:
    return read_digests(folder / DIGESTS_FILE)


def parts_that_differ(one: Any, other: Any, step: int) -> set[str]:
    return {name for name in DIGEST.names or () if one[name][step] != other[name][step]}


def test_every_step_of_a_repeated_training_is_the_same(tmp_path: Path) -> None:
    for name in ("one", "two"):
        rehearse(NoisyData(), small_config(epochs=3), tmp_path / name)
    one, two = digests(tmp_path / "one"), digests(tmp_path / "two")
    assert one.tobytes() == two.tobytes()
    steps = recorded(tmp_path / "one").steps
    assert one["step"].tolist() == steps["step"].tolist() == list(range(18))
    assert one["loss"].tobytes() == steps["loss"].tobytes()
    assert set(one["samples"]) == {8}
    assert len(set(one["rng"])) == len(set(one["batch"])) == 18


def test_full_digests_are_those_of_the_setting_and_of_the_end_of_an_epoch(tmp_path: Path) -> None:
    rehearse(Blobs(), small_config(epochs=3, digest_every=4), tmp_path)
    found = digests(tmp_path)
    full = [0, 4, 5, 8, 11, 12, 16, 17]
    assert found["step"][found["gradients"] != 0].tolist() == full
    assert found["step"][found["parameters"] != 0].tolist() == full


def test_parameters_of_a_checkpoint_are_digested(tmp_path: Path) -> None:
    session = rehearse(NoisyData(), small_config(epochs=2), tmp_path)
    held = [*session.model.parameters(), *session.model.buffers()]
    assert digests(tmp_path)["parameters"][-1] == digest_in_order(held)
    config = small_config(epochs=1, checkpoint_steps=2)
    rehearse(Blobs(), config, tmp_path / "within")
    found = digests(tmp_path / "within")
    assert found["step"][found["parameters"] != 0].tolist() == [0, 1, 3, 5]


def test_samples_of_an_update_that_sums_over_batches(tmp_path: Path) -> None:
    rehearse(Blobs(), small_config(epochs=1, accumulate=4), tmp_path)
    assert digests(tmp_path)["samples"].tolist() == [32, 16]


def test_batch_digest_is_of_the_samples_and_their_order(tmp_path: Path) -> None:
    for name, settings_ in SETTINGS.items():
        rehearse(Blobs(), small_config(epochs=1, **settings_), tmp_path / name)
    found = [digests(tmp_path / name)["batch"].tolist() for name in ("as", "other", "sorted")]
    assert len({digest for batches in found for digest in batches}) == 18


class Planted(Blobs):
    """Does one thing at the fourth step."""

    def __init__(self, fault: Callable[[TrainingSession], None] | None) -> None:
        self.fault = fault

    def train(self, session: TrainingSession) -> None:
        for epoch in session.epochs():
            for inputs, targets in session.batches():
                session.loss(inputs, targets).backward()
                if self.fault and session.observer.step == 3:
                    self.fault(session)
                session.update()
            session.finish_epoch(epoch)


def flip_a_gradient(session: TrainingSession) -> None:
    gradient = next(session.model.parameters()).grad
    assert gradient is not None
    gradient.view(torch.int32)[1, 2] ^= 1


def change_a_parameter(session: TrainingSession) -> None:
    # Of a weight that gets no gradient: only the parameters can tell.
    with torch.no_grad():
        session.model.extra.add_(1)  # type: ignore[operator]


def draw(session: TrainingSession) -> None:
    random.random()


class WithBuffer(Planted):
    def model(self, config: Config) -> nn.Module:
        model = super().model(config)
        model.register_buffer("extra", torch.zeros(2))
        return model


@pytest.mark.parametrize(
    ("fault", "parts"),
    [
        # A flipped last bit is lost in the rounding of the parameters.
        (flip_a_gradient, {"gradients"}),
        (change_a_parameter, {"parameters"}),
        (draw, {"rng"}),
    ],
)
def test_each_part_sees_its_own_fault(tmp_path: Path, fault: Any, parts: set[str]) -> None:
    config = small_config(epochs=1, digest_every=1)
    rehearse(WithBuffer(None), config, tmp_path / "sound")
    rehearse(WithBuffer(fault), config, tmp_path / "planted")
    one, other = digests(tmp_path / "sound"), digests(tmp_path / "planted")
    assert one[:3].tobytes() == other[:3].tobytes()
    assert parts_that_differ(one, other, 3) == parts


def test_digests_are_truncated_on_resume_and_go_on_alike(tmp_path: Path) -> None:
    config = small_config(epochs=3, digest_every=5)
    rehearse(NoisyData(), config, tmp_path)
    whole = digests(tmp_path)
    rehearse(NoisyData(), small_config(epochs=2, digest_every=5), tmp_path / "again")
    checkpoint = Checkpoint.load(tmp_path / "again" / "checkpoints" / "last.pt")
    with (tmp_path / "again" / DIGESTS_FILE).open("ab") as stream:
        stream.write(whole[-1:].tobytes() + b"torn")
    session = TrainingSession.rehearse(config, NoisyData(), tmp_path / "again", steps=200)
    session.resume(checkpoint)
    assert digests(tmp_path / "again")["step"].tolist() == list(range(12))
    session.run()
    assert digests(tmp_path / "again").tobytes() == whole.tobytes()


@given(count=st.integers(0, 5), cut=st.integers(0, 300))
@QUIET
def test_torn_last_record_is_dropped(
    tmp_path_factory: pytest.TempPathFactory, count: int, cut: int
) -> None:
    path = tmp_path_factory.mktemp("run") / "digests.rec"
    rows = np.zeros(count, DIGEST)
    rows["step"] = np.arange(count)
    path.write_bytes(rows.tobytes()[:cut])
    kept = min(count, cut // DIGEST.itemsize)
    assert read_digests(path).tobytes() == rows[:kept].tobytes()


def test_nothing_recorded_is_empty(tmp_path: Path) -> None:
    assert len(read_digests(tmp_path / "absent")) == 0
    assert DIGEST.itemsize == 52


@pytest.mark.parametrize(
    "draw", [random.random, np.random.rand, np.random.randn, lambda: torch.rand(1)]
)
@pytest.mark.parametrize("before", [0, 622, 623, 624])
def test_digest_of_the_generators_sees_one_draw_and_repeats(draw: Any, before: int) -> None:
    found = []
    for _ in range(2):
        fix_seeds(1)
        for _ in range(before):
            draw()
        found.append(Generators().digest())
    assert found[0] == found[1]
    # Of normal numbers NumPy makes pairs: the second draw may only hand out what is there.
    draw()
    draw()
    assert Generators().digest() != found[0]


def test_digest_of_the_generators_sees_another_kind_of_generator() -> None:
    usual = np.random.get_bit_generator()  # type: ignore[attr-defined]
    try:
        np.random.set_bit_generator(np.random.PCG64(3))  # type: ignore[attr-defined]
        before = Generators().digest()
        assert Generators().digest() == before
        np.random.rand()
        assert Generators().digest() != before
    finally:
        np.random.set_bit_generator(usual)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool], ids=str
)
def test_digest_of_tensors_sees_order_bits_and_no_layout(dtype: torch.dtype) -> None:
    one, two = torch.arange(6).reshape(2, 3).to(dtype), torch.ones(3).to(dtype)
    assert digest_in_order([one, two]) != digest_in_order([two, one])
    assert digest_in_order([one.t().contiguous().t(), two]) == digest_in_order([one, two])
    changed = one.clone()
    changed.reshape(-1).view(torch.uint8)[0] ^= 1
    assert digest_in_order([changed]) != digest_in_order([one])
    assert digest_in_order([]) != 0


def test_sparse_gradients_are_digested() -> None:
    dense = torch.eye(3)
    assert digest_in_order([dense.to_sparse()]) == digest_in_order([dense])
