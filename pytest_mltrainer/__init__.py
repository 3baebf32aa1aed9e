"""pytest-mltrainer: gates that prove, phase by phase, that a PyTorch model can be trusted.

The names below are the whole public API: for a task, and for a training without one (`observe`,
`diagnose`). They are imported when first used, so that `import pytest_mltrainer` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_mltrainer.core.config import Config
    from pytest_mltrainer.core.judge import Judge, guided_by
    from pytest_mltrainer.core.measurement import Measurement
    from pytest_mltrainer.reporting.diagnose import diagnose
    from pytest_mltrainer.training.observation.observe import observe
    from pytest_mltrainer.training.run import Evaluation, TrainingRun
    from pytest_mltrainer.training.session import TrainingSession
    from pytest_mltrainer.training.task import Splits, Task

_HOME = {
    "Config": "core.config",
    "Evaluation": "training.run",
    "Judge": "core.judge",
    "Measurement": "core.measurement",
    "Splits": "training.task",
    "Task": "training.task",
    "TrainingRun": "training.run",
    "TrainingSession": "training.session",
    "diagnose": "reporting.diagnose",
    "guided_by": "core.judge",
    "observe": "training.observation.observe",
}

__all__ = [
    "Config",
    "Evaluation",
    "Judge",
    "Measurement",
    "Splits",
    "Task",
    "TrainingRun",
    "TrainingSession",
    "diagnose",
    "guided_by",
    "observe",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
