"""The same data gives the same bytes; broken values and odd names do not crash a plot."""

import hashlib
import math
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from pytest_mltrainer.core.evidence import EpochRecord
from pytest_mltrainer.documents.plots import confusion_plot, learning_curve, residual_plot
from pytest_mltrainer.evaluation.predictions import Predictions


def records(losses: list[float]) -> list[EpochRecord]:
    return [
        EpochRecord(
            epoch=epoch,
            steps=10,
            learning_rate=0.1,
            duration_s=1.0,
            train={"loss": loss, "accuracy": 0.5},
            validation={"loss": loss * 1.1, "accuracy": 0.4},
        )
        for epoch, loss in enumerate(losses, start=1)
    ]


def is_svg(data: bytes) -> bool:
    return ET.fromstring(data).tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize(
    "losses",
    [[2.0, 1.0, 0.5], [2.0, math.nan, math.inf, 0.5], [math.nan] * 3, [1.0], [], [1e3, 1.0, 1e-3]],
)
def test_learning_curve_survives_any_losses(losses: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert is_svg(learning_curve(records(losses), "accuracy", 0.9, 2))


def test_a_metric_that_was_not_recorded() -> None:
    assert is_svg(learning_curve(records([1.0, 0.5]), "$\\frac{", None, 1))


def test_each_part_of_the_data_shows() -> None:
    first = learning_curve(records([2.0, 1.0]), "accuracy", 0.9, 1)
    others = [
        learning_curve(records([2.0, 1.1]), "accuracy", 0.9, 1),
        learning_curve(records([2.0, 1.0]), "accuracy", 0.8, 1),
        learning_curve(records([2.0, 1.0]), "accuracy", 0.9, 2),
    ]
    assert first not in others


def test_other_processes_and_settings_draw_the_same_bytes() -> None:
    code = (
        "import hashlib, matplotlib, numpy\n"
        "matplotlib.rcParams['lines.linewidth'] = 9\n"
        "from pytest_mltrainer.documents.plots import confusion_plot\n"
        "plot = confusion_plot(numpy.array([[3, 1], [0, 2]]), ['a', 'b'])\n"
        "print(hashlib.sha256(plot).hexdigest())\n"
        "import sys; assert 'matplotlib.pyplot' not in sys.modules"
    )
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    here = confusion_plot(np.array([[3, 1], [0, 2]]), ["a", "b"])
    assert there == hashlib.sha256(here).hexdigest()


@pytest.mark.parametrize("classes", [1, 10, 40])
def test_confusion_plot(classes: int) -> None:
    matrix = np.eye(classes, dtype=int) * 3
    labels = [f"<script>$_{{{index}}}]]>--" for index in range(classes)]
    data = confusion_plot(matrix, labels)
    assert is_svg(data)
    assert b"<script>" not in data


def test_names_in_any_script() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert is_svg(confusion_plot(np.ones((2, 2), dtype=int), ["数字", "\U0001f600"]))


def test_one_label_a_class() -> None:
    with pytest.raises(ValueError, match="1 labels for 2 classes"):
        confusion_plot(np.ones((2, 2), dtype=int), ["a"])


@pytest.mark.parametrize("n", [0, 1, 5_000])
def test_residual_plot(n: int) -> None:
    targets = np.arange(float(n))
    outputs = targets + 1
    outputs[:1] = np.nan if n > 1 else 1
    data = residual_plot(Predictions(outputs, targets))
    assert is_svg(data)
    assert len(data) < 500_000
