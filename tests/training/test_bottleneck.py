"""The timed parts of a step, and what their breakdown says."""

import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pytest_mltrainer.training.diagnosing.bottleneck import PARTS, StepTimer, breakdown

TIMES = st.floats(1e-6, 1.0)
ROW = st.tuples(TIMES, TIMES, TIMES, TIMES, TIMES).map(
    lambda parts: {"step": sum(parts), **dict(zip(PARTS, parts[:4], strict=True))}
)


def steps(waiting: float, work: float, count: int = 12) -> list[dict[str, float]]:
    row = {"step": waiting + work, "waiting": waiting, "forward": work}
    return [dict.fromkeys(PARTS, 0.0) | row for _ in range(count)]


@given(st.lists(ROW, min_size=2, max_size=20), st.lists(ROW, min_size=2, max_size=20))
def test_shares_are_a_whole(
    loaded: list[dict[str, float]], repeated: list[dict[str, float]]
) -> None:
    split = breakdown(loaded, repeated)
    assert split is not None
    assert sum(split.shares.values()) == pytest.approx(1.0)
    assert all(share >= -1e-9 for share in split.shares.values())
    assert 0 <= split.loading <= 1


def test_the_first_steps_are_warm_up() -> None:
    slow = steps(10.0, 10.0, count=5)
    split = breakdown([*slow, *steps(0.0, 1.0)], [*slow, *steps(0.0, 1.0)])
    assert split is not None
    assert (split.steps, split.seconds["forward"], split.step_s) == (12, 1.0, 1.0)


@pytest.mark.parametrize(
    ("waiting", "repeated_waiting", "is_bound"),
    [(1.0, 0.0, True), (1.0, 1.0, False), (0.1, 0.0, False)],
)
def test_loading_is_the_bottleneck_where_waiting_ends_without_it(
    waiting: float, repeated_waiting: float, is_bound: bool
) -> None:
    split = breakdown(steps(waiting, 1.0), steps(repeated_waiting, 1.0))
    assert split is not None
    assert split.is_bound_by_data is is_bound
    assert ("is the bottleneck" in split.text()) is is_bound


def test_one_step_is_no_breakdown() -> None:
    assert breakdown(steps(0.0, 1.0, count=1), steps(0.0, 1.0)) is None


class Slow(nn.Linear):
    """Takes 20 ms forward."""

    def forward(self, inputs: Tensor) -> Tensor:
        time.sleep(0.02)
        return super().forward(inputs)


def test_each_part_is_timed_where_it_happens() -> None:
    model = Slow(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    backward = torch.autograd.backward
    with StepTimer() as timer:
        timer.watch(model, torch.device("cpu"))
        for _ in range(3):
            start = time.perf_counter()
            model(torch.ones(4, 2)).sum().backward()
            optimizer.step()
            timer.finish_step()
            assert sum(timer.rows[-1].values()) <= time.perf_counter() - start
        model.eval()
        model(torch.ones(4, 2))
        timer.finish_step()
    assert torch.autograd.backward is backward
    assert all(row["forward"] >= 0.02 and row["backward"] > 0 for row in timer.rows[:3])
    assert all(row["update"] > 0 for row in timer.rows[:3])
    assert timer.rows[3] == {"forward": 0.0, "backward": 0.0, "update": 0.0}
