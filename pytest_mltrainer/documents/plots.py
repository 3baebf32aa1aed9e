"""Plots as SVG: the same data gives the same bytes, so that a gate can draw them again.

Drawn without pyplot, which would choose a window system and keep every figure alive. Text is
drawn as outlines and never read as mathematics: names from users stay inert. Values that are not
finite leave a gap.
"""

import io
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pytest_mltrainer.core.evidence import Curve, EpochRecord
from pytest_mltrainer.core.measurement import Measurement, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, which people with any colour vision tell apart.
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#555555"
LARGEST_COUNTED = 20
MOST_TICKS = 25
MOST_POINTS = 2_000
LOG_SCALE_FROM = 100

# A colour that no plot uses, exchanged for that of the text around the picture.
_TEXT_COLOUR = "#010203"
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "pytest-mltrainer",
    "svg.fonttype": "path",
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
}

_INLINE_STYLE: dict[Any, Any] = {
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"),
        _TEXT_COLOUR,
    ),
    **dict.fromkeys(("figure.facecolor", "axes.facecolor", "savefig.facecolor"), "none"),
    "grid.color": "#88888844",
}


class OutputsAndTargets(Protocol):
    """Predictions, as far as a plot needs them."""

    @property
    def outputs(self) -> NDArray[Any]:
        """What the model said."""

    @property
    def targets(self) -> NDArray[Any]:
        """What was right."""


def learning_curve(
    epochs: Sequence[EpochRecord], metric: str, target: float | None, best_epoch: int
) -> bytes:
    """Loss and metric over the epochs, training and validation, with target and best epoch."""
    with svg_figure(9.0, 3.8) as (figure, buffer):
        loss_axes, metric_axes = figure.subplots(1, 2)
        for axes, key in ((loss_axes, "loss"), (metric_axes, metric)):
            _curves(axes, epochs, key)
            _mark_best(axes, epochs, key, best_epoch)
            axes.set_title(readable(key)[:1].upper() + readable(key)[1:])
        _use_log_scale(loss_axes, epochs)
        if target is not None and math.isfinite(target):
            metric_axes.axhline(
                target, color=GREY, linestyle="--", label=f"target {number(target)}"
            )
        for axes in (loss_axes, metric_axes):
            if axes.get_legend_handles_labels()[0]:
                axes.legend()
    return buffer.getvalue()


def curve_over_rows(
    rows: Sequence[int],
    scores: Mapping[str, Sequence[Measurement]],
    metric: str,
    goal: float | None,
) -> bytes:
    """The score over the number of training rows, by split, with 95 % intervals and the goal."""
    with svg_figure(6.4, 3.6) as (figure, buffer):
        axes = figure.subplots()
        for color, (name, measured) in zip((BLUE, ORANGE, GREEN), scores.items(), strict=False):
            values = [entry.value for entry in measured]
            low = [entry.value if entry.low is None else entry.low for entry in measured]
            high = [entry.value if entry.high is None else entry.high for entry in measured]
            axes.plot(rows, values, color=color, marker="o", markersize=3.5, label=readable(name))
            axes.fill_between(rows, low, high, color=color, alpha=0.15, linewidth=0)
        if goal is not None and math.isfinite(goal):
            axes.axhline(goal, color=GREY, linestyle="--", label=f"goal {number(goal)}")
        axes.set(xlabel="training rows", ylabel=readable(metric), title="Learning curve")
        axes.legend(loc="lower right")
    return buffer.getvalue()


def confusion_plot(matrix: NDArray[Any], labels: Sequence[str]) -> bytes:
    """The confusion matrix, shaded by share of the true class; counts up to 20 classes.

    Raises ValueError when there is not one label a class.
    """
    classes = len(matrix)
    if len(labels) != classes:
        raise ValueError(f"{len(labels)} labels for {classes} classes")
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = min(max(3.5, 1.6 + 0.45 * classes), 9.0)
    with svg_figure(side + 1.2, side) as (figure, buffer):
        axes = figure.subplots()
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        bar = figure.colorbar(image, ax=axes, shrink=0.8)
        bar.set_label("share of the true class")
        if classes <= LARGEST_COUNTED:
            _write_counts(axes, matrix, shares)
        ticks = range(0, classes, max(1, math.ceil(classes / MOST_TICKS)))
        shown = [_shortened(labels[tick]) for tick in ticks]
        crowded = max((len(label) for label in shown), default=0) > 3
        axes.set_xticks(
            ticks, shown, rotation=45 if crowded else 0, ha="right" if crowded else "center"
        )
        axes.set_yticks(ticks, shown)
        axes.set(xlabel="predicted class", ylabel="true class", title="Confusion matrix (samples)")
        axes.grid(visible=False)
    return buffer.getvalue()


def residual_plot(predictions: OutputsAndTargets) -> bytes:
    """Predicted against true values, and the distribution of the residuals; outputs are pooled.

    At most 2,000 evenly chosen points are drawn; the distribution counts all.
    """
    outputs = predictions.outputs.astype(np.float64).reshape(-1)
    targets = predictions.targets.astype(np.float64).reshape(-1)
    finite = np.isfinite(outputs) & np.isfinite(targets)
    outputs, targets = outputs[finite], targets[finite]
    with svg_figure(9.0, 4.0) as (figure, buffer):
        left, right = figure.subplots(1, 2)
        if len(targets):
            shown = np.linspace(0, len(targets) - 1, min(len(targets), MOST_POINTS)).astype(int)
            left.scatter(targets[shown], outputs[shown], s=12, alpha=0.5, color=BLUE, linewidth=0)
            ends = [min(targets.min(), outputs.min()), max(targets.max(), outputs.max())]
            left.plot(ends, ends, color=GREY, linestyle="--", label="prediction = target")
            left.legend(loc="upper left")
            right.hist(outputs - targets, bins=min(40, max(5, len(targets) // 10)), color=BLUE)
            right.axvline(0, color=GREY, linestyle="--")
        left.set(xlabel="target (target units)", ylabel="prediction (target units)")
        left.set_title("Predictions against targets")
        right.set(xlabel="prediction - target (target units)", ylabel="samples")
        right.set_title(f"Residuals (n = {len(targets)})")
    return buffer.getvalue()


def evidence_curve(curve: Curve) -> bytes:
    """The picture of a diagnosis: the curve with its event and its limit.

    The background is transparent and the text has the colour of the text around it (black in a
    file), so that it reads on light and dark. A logarithmic scale leaves out what is not positive.
    """
    with svg_figure(6.4, 2.6, _INLINE_STYLE) as (figure, buffer):
        axes = figure.subplots()
        y = np.asarray(curve.y, dtype=np.float64)
        visible = np.isfinite(y) & ((y > 0) if curve.log else True)
        x = np.asarray(curve.x, dtype=np.float64)
        marker = "o" if len(y) <= 30 else ""
        axes.plot(x, np.where(visible, y, np.nan), color=BLUE, marker=marker, markersize=3.5)
        if curve.limit is not None and math.isfinite(curve.limit):
            label = f"limit {curve.limit:.4g}"
            axes.axhline(curve.limit, color=ORANGE, linestyle="--", label=label)
        if curve.mark is not None and math.isfinite(curve.mark):
            label = f"{readable(curve.x_label)} {curve.mark:.6g}"
            axes.axvline(curve.mark, color=GREEN, linestyle=":", label=label)
        if curve.log and visible.any():
            _log_scale(axes)
        axes.set(xlabel=readable(curve.x_label), ylabel=readable(curve.y_label))
        axes.set_title(_shortened(curve.title, 80), loc="left")
        if axes.get_legend_handles_labels()[0]:
            axes.legend()
    return buffer.getvalue().replace(_TEXT_COLOUR.encode(), b"currentColor")


@contextmanager
def svg_figure(
    width: float, height: float, settings: Mapping[Any, Any] | None = None
) -> Iterator[tuple["Figure", io.BytesIO]]:
    """A figure to draw in; on leaving, its SVG stands in the buffer."""
    import matplotlib as mpl
    from matplotlib import style
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    # The defaults first: a matplotlibrc of the user's must not change the bytes.
    with (
        style.context("default"),
        mpl.rc_context({**_STYLE, **(settings or {})}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")
        figure, buffer = Figure(figsize=(width, height), layout="constrained"), io.BytesIO()
        yield figure, buffer
        metadata = {"Date": None, "Creator": None}
        FigureCanvasSVG(figure)
        figure.savefig(buffer, format="svg", metadata=metadata)


def _curves(axes: "Axes", epochs: Sequence[EpochRecord], key: str) -> None:
    from matplotlib.ticker import MaxNLocator

    for side, color in (("train", BLUE), ("validation", ORANGE)):
        values = _values(epochs, side, key)
        if np.isfinite(values).any():
            places = [record.epoch for record in epochs]
            marker = "o" if len(epochs) <= 30 else ""
            axes.plot(places, values, color=color, marker=marker, markersize=3.5, label=side)
    axes.set(xlabel="epoch", ylabel=readable(key))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _mark_best(axes: "Axes", epochs: Sequence[EpochRecord], key: str, best_epoch: int) -> None:
    values = _values(epochs, "validation", key)
    for record, value in zip(epochs, values, strict=True):
        if record.epoch == best_epoch and math.isfinite(value):
            label = f"best epoch {best_epoch}"
            axes.axvline(best_epoch, color=GREEN, linewidth=1, linestyle=":")
            axes.plot([best_epoch], [value], "D", color=GREEN, markersize=6, label=label, zorder=3)


def _use_log_scale(axes: "Axes", epochs: Sequence[EpochRecord]) -> None:
    values = np.concatenate([_values(epochs, side, "loss") for side in ("train", "validation")])
    finite = values[np.isfinite(values)]
    if len(finite) and finite.min() > 0 and finite.max() >= LOG_SCALE_FROM * finite.min():
        _log_scale(axes)
        axes.set_ylabel("loss (log scale)")


def _log_scale(axes: "Axes") -> None:
    axes.set_yscale("log")
    # The usual powers of ten are mathematics, which is off.
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_formatter(lambda value, _: "")


def _values(epochs: Sequence[EpochRecord], side: str, key: str) -> NDArray[Any]:
    records: list[Mapping[str, float]] = [getattr(record, side) for record in epochs]
    values = np.array([record.get(key, math.nan) for record in records], dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _write_counts(axes: "Axes", matrix: NDArray[Any], shares: NDArray[Any]) -> None:
    size = 9 if len(matrix) <= 12 else 7
    for (row, column), count in np.ndenumerate(matrix):
        color = "white" if shares[row, column] > 0.55 else "#222222" if count else "#bbbbbb"
        axes.text(
            column, row, str(int(count)), ha="center", va="center", color=color, fontsize=size
        )


def readable(key: str) -> str:
    """A name as it stands in a picture: words on one line, 40 characters at most."""
    return _shortened(key.replace("_", " "), 40)


def _shortened(label: str, length: int = 16) -> str:
    line = " ".join(str(label).split())
    return line if len(line) <= length else f"{line[: length - 1]}…"
