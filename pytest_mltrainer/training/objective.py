"""The objective's metric and its direction, from the configuration and the task's kind."""

from pytest_mltrainer.core.config import Config
from pytest_mltrainer.evaluation.metrics import Metric, default_metric, metric_named
from pytest_mltrainer.training.task import Task


def objective_metric(config: Config, task: Task) -> Metric:
    """The metric of `objective.metric`, else the default of the kind. Raises UserError."""
    name = config.objective.metric
    return metric_named(name, task.kind) if name else default_metric(task.kind)


def maximizes(config: Config, metric: Metric) -> bool:
    """Whether more is better: `objective.direction`, else what the metric says."""
    direction = config.objective.direction
    return metric.maximize if direction is None else direction == "maximize"
