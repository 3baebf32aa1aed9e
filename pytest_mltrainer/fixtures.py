"""The fixtures offered to checks: each one line over a plain function of the training run.

Tests and notebooks call `PROVIDERS` without pytest.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from pytest_mltrainer.core.judge import Judge

if TYPE_CHECKING:
    from pytest_mltrainer.core.config import Limits
    from pytest_mltrainer.export.served import ExportedModel
    from pytest_mltrainer.training.observation.telemetry import Telemetry
    from pytest_mltrainer.training.run import Evaluation, TrainingRun
    from pytest_mltrainer.training.task import Splits


def limits(run: "TrainingRun") -> "Limits":
    """The limits of `training_config.yaml`."""
    return run.config.limits


def training_run(run: "TrainingRun") -> "TrainingRun":
    """The artifacts of the phase."""
    return run


def telemetry(run: "TrainingRun") -> "Telemetry":
    """What was recorded while the model trained."""
    return run.telemetry


def splits(run: "TrainingRun") -> "Splits":
    """The task's data, read anew."""
    return run.splits


def evaluation(run: "TrainingRun") -> "Evaluation":
    """The splits, predicted anew by the best checkpoint."""
    return run.evaluation


def exported(run: "TrainingRun") -> "ExportedModel":
    """The exports of the final model, loaded from their files."""
    from pytest_mltrainer.export.served import ExportedModel

    return ExportedModel(run)


PROVIDERS: dict[str, Callable[["TrainingRun"], Any]] = {
    "limits": limits,
    "training_run": training_run,
    "telemetry": telemetry,
    "splits": splits,
    "evaluation": evaluation,
    "exported": exported,
}


def pytest_fixtures(
    run_of: Callable[[pytest.Item], "TrainingRun"], judge_of: Callable[[pytest.Item], Judge]
) -> dict[str, Callable[..., Any]]:
    """The fixtures as functions of `request`, to be registered on a node.

    `run_of` and `judge_of` say which run and which judge belong to the requesting check.
    """

    def fixture_of(provide: Callable[["TrainingRun"], Any]) -> Callable[..., Any]:
        def fixture(request: pytest.FixtureRequest) -> Any:
            return provide(run_of(request.node))

        fixture.__doc__ = provide.__doc__
        return fixture

    def judge(request: pytest.FixtureRequest) -> Judge:
        """How a check speaks: `judge(measured, what=..., at_least=...)`."""
        return judge_of(request.node)

    return {"judge": judge} | {name: fixture_of(provide) for name, provide in PROVIDERS.items()}
