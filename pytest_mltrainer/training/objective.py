"""The objective: its metric, its direction, its target, and what the sample size can decide."""

from collections.abc import Mapping
from typing import Any

from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.errors import ConfigError
from pytest_mltrainer.evaluation.intervals import smallest_detectable
from pytest_mltrainer.evaluation.metrics import Metric, default_metric, metric_named
from pytest_mltrainer.training.task import Task


def objective_metric(config: Config, task: Task) -> Metric:
    """The metric of `objective.metric`, else the default of the kind.

    Raises UserError for a metric that is not of the kind, ConfigError for a target beyond its end.
    """
    name = config.objective.metric
    metric = metric_named(name, task.kind) if name else default_metric(task.kind)
    _must_be_reachable(config.objective.target, metric)
    return metric


def _must_be_reachable(target: float | None, metric: Metric) -> None:
    """Every score ends at 1, every error at 0: what lies beyond, no training reaches."""
    end = 1.0 if metric.maximize else 0.0
    if target is None or (target <= end if metric.maximize else target >= end):
        return
    percent = metric.maximize and target <= 100
    wanted = f"{'at most' if metric.maximize else 'at least'} {end:g}"
    remedy = f"write {target / 100:g}, if {target:g} % are meant" if percent else "mend it"
    raise ConfigError(
        [
            f"training_config.yaml objective.target: found {target:g}, wanted {wanted}, where "
            f"{metric.name} ends, as nothing else can be reached: {remedy}"
        ]
    )


def maximizes(config: Config, metric: Metric) -> bool:
    """Whether more is better: `objective.direction`, else what the metric says."""
    direction = config.objective.direction
    return metric.maximize if direction is None else direction == "maximize"


def describe_objective(config: Config, task: Task, profile: Mapping[str, Any]) -> dict[str, Any]:
    """The objective as planning freezes it, resolved, with what each split's size can decide.

    `smallest_difference` is the smallest that n samples can show at 95 %, for proportions alone.
    """
    metric = objective_metric(config, task)
    sizes = {name: profile["splits"][name]["n"] for name in ("validation", "test")}
    target = config.objective.target
    decidable = metric.scale == "proportion" and target is not None and 0 < target < 1
    return {
        "metric": metric.name,
        "direction": "maximize" if maximizes(config, metric) else "minimize",
        "target": target,
        "samples": sizes,
        "smallest_difference": {
            name: smallest_detectable(n, float(target or 0)) for name, n in sizes.items()
        }
        if decidable
        else None,
    }
