"""A case: a training program with the cause that is known of it, and how that is proven."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pytest_mltrainer import Task

HEALTHY = "healthy"
TWIN = "~"
"""Behind the id of a case: its twin."""
LABELS = (
    "bad_input_values", "nan_loss", "exploding_gradients", "vanishing_gradients", "dead_relu",
    "saturation", "unstable_training", "lr_too_low", "convergence_stall", "overfitting",
    "underfitting", "bad_init", "loss_mismatch", "params_not_updated", "missing_zero_grad",
    "input_ignored", "batch_mixing", "train_eval_mismatch", "unnormalized_data", "label_noise",
    "class_imbalance", "data_leakage", "unshuffled_data", "train_val_skew",
    "resource_inefficiency",
)  # fmt: skip
Part = Literal["develop", "held_out"]
PARTS: tuple[Part, ...] = ("develop", "held_out")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a training came to. Scores are in the objective's metric, `sign` 1 where more is better.

    `best`, `last` and `train` are the best and last validation and the last training score;
    `unchanged` names the trainable parameters that are what they were at the start.
    """

    sign: int
    best: float
    best_epoch: int
    last: float
    train: float
    train_losses: tuple[float, ...]
    validation_losses: tuple[float, ...]
    gradient_norms: tuple[float, ...]
    trivial: float
    linear: float | None
    broken: bool
    unchanged: tuple[str, ...]
    parameters: int
    step_s: float
    waiting: float
    memory_mb: float
    error: str = ""


Check = Callable[[Outcome, Outcome | None], str]
"""Blank where the outcome bears the label out, else what speaks against it. The second outcome is
the twin's: the same program without the fault."""


def worse(by: float) -> Check:
    """The best validation score is at least `by` below the twin's; a broken run is worse too."""

    def check(run: Outcome, twin: Outcome | None) -> str:
        assert twin is not None
        if run.broken or twin.sign * (twin.best - run.best) >= by:
            return ""
        return f"best {run.best:.3f}, twin {twin.best:.3f}: wanted {by} worse"

    return check


def last_worse(by: float) -> Check:
    """The last validation score is at least `by` below the twin's."""

    def check(run: Outcome, twin: Outcome | None) -> str:
        assert twin is not None
        if run.broken or twin.sign * (twin.last - run.last) >= by:
            return ""
        return f"last {run.last:.3f}, twin {twin.last:.3f}: wanted {by} worse"

    return check


def inflated(by: float) -> Check:
    """The validation score is at least `by` above that of the twin, whose split is honest."""

    def check(run: Outcome, twin: Outcome | None) -> str:
        assert twin is not None
        if run.sign * (run.best - twin.best) >= by:
            return ""
        return f"best {run.best:.3f}, twin {twin.best:.3f}: wanted {by} better"

    return check


def broken(run: Outcome, twin: Outcome | None) -> str:
    """The run turned non-finite and its twin did not."""
    if not run.broken:
        return f"stayed finite, best {run.best:.3f}"
    return "the twin turned non-finite too" if twin and twin.broken else ""


def reaches(score: float, *, below_linear: float = 0.05) -> Check:
    """The best score is `score` or better, and a linear model is not far above."""

    def check(run: Outcome, twin: Outcome | None) -> str:
        if run.broken:
            return "turned non-finite"
        if run.sign * (run.best - score) < 0:
            return f"best {run.best:.3f}, wanted {score}"
        if run.linear is not None and run.sign * (run.linear - run.best) > below_linear:
            return f"best {run.best:.3f}, a linear model reaches {run.linear:.3f}"
        return ""

    return check


def unsteady(run: Outcome, twin: Outcome | None) -> str:
    """The loss of an epoch, in training or validation, comes back to 1.5 times its minimum."""
    for losses in (run.train_losses, run.validation_losses):
        lowest = min(range(len(losses)), key=losses.__getitem__)
        if max(losses[lowest:]) >= 1.5 * losses[lowest]:
            return ""
    return "the loss never rises far above its minimum"


def both(*checks: Check) -> Check:
    """Every check is content."""
    return lambda run, twin: "; ".join(said for check in checks if (said := check(run, twin)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A program, its configuration, and the cause of its sickness or `healthy`.

    The twin is the same program without the fault: another task, a changed configuration, or both.
    """

    id: str
    label: str
    build: type[Task]
    config: Mapping[str, Any]
    notes: str
    verify: Check
    twin: type[Task] | None = None
    twin_config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def part(self) -> Part:
        """`develop` or `held_out`: the folder of the program."""
        return "develop" if ".develop." in self.build.__module__ else "held_out"

    @property
    def has_twin(self) -> bool:
        """Whether there is the same program without the fault."""
        return self.twin is not None or bool(self.twin_config)

    @property
    def mended(self) -> "Case":
        """The twin as a healthy case."""
        return replace(
            self,
            id=f"{self.id}{TWIN}",
            label=HEALTHY,
            build=self.twin or self.build,
            config=_merged(self.config, self.twin_config),
            twin=None,
            twin_config={},
        )


def settings(
    *,
    model: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    metric: str | None = None,
    **training: Any,
) -> dict[str, Any]:
    """A `training_config.yaml` as a mapping; adam at 0.003 for 15 epochs unless said otherwise."""
    usual = {"epochs": 15, "batch_size": 32, "optimizer": "adam", "learning_rate": 0.003}
    return {
        "device": "cpu",
        "objective": {"metric": metric},
        "training": {**usual, "weight_decay": 0.0, **training},
        "model": dict(model or {}),
        "data": dict(data or {}),
    }


def patch(**sections: Any) -> dict[str, Any]:
    """What a twin's configuration changes: `patch(training={"clip_norm": 1.0})`."""
    return sections


def collected(part: Part | None = None) -> dict[str, Case]:
    """The cases of a part, or of both, by id. Raises ValueError for an id or label in error."""
    found: dict[str, Case] = {}
    for folder in (part,) if part else PARTS:
        package = importlib.import_module(f"{__package__}.{folder}")
        for module in pkgutil.iter_modules(package.__path__):
            for case in importlib.import_module(f"{package.__name__}.{module.name}").CASES:
                if case.id in found or case.label not in (*LABELS, HEALTHY):
                    raise ValueError(f"{module.name}: '{case.id}' ({case.label}) is not right")
                found[case.id] = case
    return found


def _merged(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in change.items():
        inside = base.get(key)
        both_are = isinstance(inside, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(inside, value) if both_are else value
    return merged
