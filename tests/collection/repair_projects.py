"""A case of the collection as a project of its own.

The project holds the program as its own code. Its target lies half way between what the sick
program and its twin without the fault reach, both measured: a healthy program passes it with room.
"""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import yaml

from pytest_mltrainer.core.project import Project

from .cases import Case, Outcome
from .runs import run_cases

SEED = 1
HERE = Path(__file__).parent
DOCUMENTS = HERE.parents[1] / "examples" / "overfitted" / "docs"

TASK = '''"""The program, on rows that all seeds share: another seed is another training alone."""

from collection.{part}.{module} import {name}
from pytest_mltrainer import Config, Splits


class Program({name}):
    def data(self, config: Config) -> Splits:
        return super().data(config.model_copy(update={{"seed": {seed}}}))
'''
TEST = '''"""An ordinary test of the project: it runs without `--phase`, and before a release."""

from pathlib import Path


def test_the_settings_are_there() -> None:
    assert Path(__file__).with_name("training_config.yaml").read_text()
'''


def target_of(case: Case) -> tuple[Outcome, Outcome, float]:
    """Sick and cured outcome, measured now, and the value half way between their best scores.

    Half way from the trivial score where the sick program is below it: any start beats nothing.
    """
    runs = run_cases([(case, SEED), (case.mended, SEED)], 1, diagnosed=False)
    sick, cured = (run.outcome for run in runs)
    if sick is None or cured is None:
        raise RuntimeError(f"{case.id}: {[run.errors for run in runs]}")
    is_above = math.isfinite(sick.best) and sick.sign * (sick.best - sick.trivial) > 0
    start = sick.best if is_above else sick.trivial
    return sick, cured, round(start + (cured.best - start) / 2, 3)


def make_project(case: Case, target: float, folder: Path) -> Project:
    """The project of a case, as somebody would have written it who does not see the fault."""
    module = case.build.__module__.rpartition(".")[2]
    code = folder / "collection"
    for part in (".", case.part):
        (code / part).mkdir(parents=True, exist_ok=True)
        for path in (HERE / part).glob("*.py"):
            if part == case.part or path.stem in ("__init__", "cases", "samples", "scenes"):
                shutil.copy(path, code / part)
    names = {"part": case.part, "module": module, "name": case.build.__name__, "seed": SEED}
    (folder / "task.py").write_text(TASK.format(**names))
    (folder / "test_settings.py").write_text(TEST)
    (folder / "pyproject.toml").write_text('[tool.mltrainer]\ntask = "task:Program"\n')
    shutil.copytree(DOCUMENTS, folder / "docs", dirs_exist_ok=True)
    config = yaml.safe_dump(_config(case, target), sort_keys=False)
    (folder / "training_config.yaml").write_text(config)
    return Project.load(folder)


def _config(case: Case, target: float) -> dict[str, Any]:
    # Through JSON: YAML would write tuples and NumPy numbers in a way of its own.
    config: dict[str, Any] = json.loads(json.dumps(case.config))
    config["objective"]["target"] = target
    roles = ("review", "technical", "product", "compliance")
    return config | {
        "seed": SEED,
        "threads": 1,
        "limits": {"min_train_rows_per_class": 5},
        "optimization": {"trials": 8},
        "release": {"tests": ["test_settings.py"]},
        "approval": {"not_applicable": dict.fromkeys(roles, "a case that is not released")},
    }
