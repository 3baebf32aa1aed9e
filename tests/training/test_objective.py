"""What the objective refuses before anything is trained."""

import pytest

from pytest_mltrainer import Task
from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.errors import ConfigError
from pytest_mltrainer.training.objective import objective_metric


class Prices(Task):
    kind = "regression"


def objective(**settings: object) -> Config:
    return Config.from_json({"objective": settings})


@pytest.mark.parametrize(
    ("task", "settings", "said"),
    [
        (Task, {"target": 95}, "found 95, wanted at most 1, where accuracy ends.*write 0.95"),
        (Prices, {"target": 1.2}, "wanted at most 1, where r2 ends"),
        (Prices, {"metric": "rmse", "target": -0.1}, "wanted at least 0, where rmse ends.*mend it"),
    ],
)
def test_a_target_that_no_training_can_reach_is_refused(
    task: type[Task], settings: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError, match=rf"objective\.target: .*{said}"):
        objective_metric(objective(**settings), task())


@pytest.mark.parametrize(
    ("task", "settings"),
    [
        (Task, {"target": 1}),
        (Prices, {"target": -3}),
        (Prices, {"metric": "mae", "target": 250}),
        (Prices, {}),
    ],
)
def test_a_target_at_the_end_or_before_it_is_taken(
    task: type[Task], settings: dict[str, object]
) -> None:
    assert objective_metric(objective(**settings), task()).kinds == (task.kind,)
