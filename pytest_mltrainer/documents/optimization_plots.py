"""The plots of an optimization, as SVG like all others: the same data gives the same bytes."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pytest_mltrainer.core.evidence import EpochRecord
from pytest_mltrainer.core.measurement import Measurement, number
from pytest_mltrainer.documents.plots import (
    BLUE,
    GREY,
    LOG_SCALE_FROM,
    ORANGE,
    readable,
    svg_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Settings = Mapping[str, float | None]
"""Numbers by name; None where there is none."""


def both_curves(
    sides: Mapping[str, Sequence[EpochRecord]], metric: str, target: float | None
) -> bytes:
    """Loss and metric over the epochs of two trainings; validation drawn through, training dashed.

    Values that are not finite leave a gap.
    """
    with svg_figure(9.0, 3.8) as (figure, buffer):
        for axes, key in zip(figure.subplots(1, 2), ("loss", metric), strict=True):
            for color, (name, epochs) in zip((ORANGE, BLUE), sides.items(), strict=False):
                for split, line in (("validation", "-"), ("train", "--")):
                    values = [getattr(record, split).get(key, math.nan) for record in epochs]
                    shown = [value if math.isfinite(value) else math.nan for value in values]
                    if not np.isfinite(shown).any():
                        continue
                    places = [record.epoch for record in epochs]
                    label = f"{readable(name)}, {split}"
                    axes.plot(places, shown, line, color=color, label=label, linewidth=1.4)
            if key == metric and target is not None and math.isfinite(target):
                axes.axhline(target, color=GREY, linestyle=":", label=f"target {number(target)}")
            axes.set(xlabel="epoch", title=readable(key)[:1].upper() + readable(key)[1:])
            _legend(axes)
    return buffer.getvalue()


def gain_plot(gains: Mapping[str, Measurement], metric: str) -> bytes:
    """Gains with their intervals, one a line from top to bottom, against no gain at all."""
    with svg_figure(6.4, 1.4 + 0.4 * len(gains)) as (figure, buffer):
        axes = figure.subplots()
        names = list(gains)
        for place, gain in enumerate(gains.values()):
            if not gain.is_finite:
                continue
            color = BLUE if place == len(names) - 1 else GREY
            axes.plot([gain.value], [place], "o", color=color)
            if gain.low is not None and gain.high is not None:
                axes.plot([gain.low, gain.high], [place, place], color=color, linewidth=2)
        axes.axvline(0, color=ORANGE, linestyle="--")
        axes.set_yticks(range(len(names)), [readable(name) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set(xlabel=f"gain in {readable(metric)} (95 % interval)")
    return buffer.getvalue()


def importance_plot(importance: Mapping[str, float], metric: str) -> bytes:
    """How strongly each setting goes with the metric, as bars from 0 to 1."""
    with svg_figure(6.4, 1.2 + 0.35 * len(importance)) as (figure, buffer):
        axes = figure.subplots()
        names = list(importance)
        axes.barh(range(len(names)), [importance[name] for name in names], color=BLUE, height=0.6)
        axes.set_yticks(range(len(names)), [readable(name) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.set_xlim(0, 1)
        axes.set(xlabel=f"rank correlation with {readable(metric)}, without its sign")
    return buffer.getvalue()


def parallel_plot(
    rows: Sequence[Settings], scores: Sequence[float], metric: str, *, maximize: bool
) -> bytes:
    """One line a trial through its settings to its score; the better, the darker.

    Each axis reaches from its smallest to its largest value, by magnitude where they span a factor
    of 100. A line ends where a trial has no such number.
    """
    keys = [*dict.fromkeys(key for row in rows for key in row), metric]
    whole = [{**row, metric: score} for row, score in zip(rows, scores, strict=True)]
    scaled = {key: _scaled([row.get(key) for row in whole]) for key in keys}
    order = np.argsort(scores, kind="stable")[:: 1 if maximize else -1]
    with svg_figure(max(6.4, 1.8 * len(keys)), 4.0) as (figure, buffer):
        axes = figure.subplots()
        for rank, row in enumerate(order):
            share = rank / max(len(order) - 1, 1)
            line = [scaled[key][row] for key in keys]
            axes.plot(line, color=BLUE, alpha=0.15 + 0.85 * share, linewidth=0.8 + 1.6 * share)
        for place, key in enumerate(keys):
            axes.axvline(place, color=GREY, linewidth=0.8)
            known = [value for row in whole if (value := row.get(key)) is not None]
            for end, height in ((min(known), -0.04), (max(known), 1.02)):
                text = f"{end:.4g}"
                axes.text(place, height, text, ha="center", va="top" if height < 0 else "bottom")
        axes.set_xticks(range(len(keys)), [readable(key) for key in keys], rotation=15, ha="right")
        axes.set_yticks([])
        axes.set_ylim(-0.12, 1.1)
        axes.grid(visible=False)
    return buffer.getvalue()


def _scaled(values: Sequence[float | None]) -> list[float]:
    """Values from 0 to 1, NaN for None; 0.5 where all are the same."""
    known = np.array([math.nan if value is None else float(value) for value in values])
    low, high = np.nanmin(known), np.nanmax(known)
    if low > 0 and high >= LOG_SCALE_FROM * low:
        known, low, high = np.log(known), np.log(low), np.log(high)
    spread = high - low
    return [float((value - low) / spread) if spread else value * 0 + 0.5 for value in known]


def _legend(axes: "Axes") -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=8)
