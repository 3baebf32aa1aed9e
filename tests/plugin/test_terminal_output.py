"""What one whole run shows, in its order."""

from collections.abc import Callable

import pytest
from gate_runs import ids_of
from support import TrainedProject


def test_the_whole_run(trained: Callable[..., TrainedProject]) -> None:
    lines = trained("healthy").stdout.splitlines()
    planning, baseline = len(ids_of("planning")), len(ids_of("baseline"))
    pytest.LineMatcher(lines).fnmatch_lines(
        [
            "*test session starts*",
            "mltrainer: *healthy, phase baseline",
            f"collected {planning + baseline} items",
            "mltrainer: planning     run data, rehearse, record (not done yet)",
            "mltrainer: baseline     run train, evaluate, diagnose, documents (not done yet)",
            "pytest_mltrainer/phases/planning.py *",
            "  planning: data",
            "  planning: rehearse",
            "  planning: record",
            "pytest_mltrainer/gates/planning/test_data.py ... *",
            "pytest_mltrainer/gates/planning/test_reproducibility.py ....* *",
            "pytest_mltrainer/phases/baseline.py *",
            "  baseline: train",
            "  baseline epoch 1/8  loss 0.* / 0.*  accuracy 0.* [*]  * s",
            "  baseline epoch 8/8  loss 0.* / 0.*  accuracy 0.*  * s",
            "  baseline: evaluate",
            "  baseline: diagnose",
            "  baseline: documents",
            "pytest_mltrainer/gates/baseline/test_artifacts.py .....* *",
            "pytest_mltrainer/gates/baseline/test_training.py .....* *100%*",
            "*generated xml file: *report.xml*",
            "*= pipeline =*",
            f"planning     PASS       {planning - 1} passed  verdict ????????????",
            f"baseline     PASS       {baseline - 1} passed  verdict ????????????",
            "decision: the baseline is sufficient (accuracy 0.* (n = 130, 95 % interval *),"
            " target 0.9*)",
            "next: pytest --phase=finalization",
            f"*= {planning + baseline} passed in *",
        ]
    )
    assert sum("epoch " in line for line in lines) == 8
