"""What more data would bring: the training again on a quarter and on half of the rows.

Each part is repeated until it is as long as the whole, so that the number of updates, the schedule
and the evaluations stay the same, and only the data differ.
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch.utils.data import Subset

from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.measurement import Measurement, number
from pytest_mltrainer.evaluation.intervals import difference, measure, paired_difference
from pytest_mltrainer.evaluation.metrics import Metric
from pytest_mltrainer.evaluation.predictions import Predictions
from pytest_mltrainer.training.checkpoints import Checkpoint
from pytest_mltrainer.training.evaluate import predict_split
from pytest_mltrainer.training.reproducibility import derive_seed
from pytest_mltrainer.training.run import TrainingRun, training_targets
from pytest_mltrainer.training.session import TrainingSession
from pytest_mltrainer.training.task import load_task

SHARES = (0.25, 0.5, 1.0)
FEWEST_ROWS = 10
GAP = 0.05
"""A gap of training over validation under 0.05 (of the trivial error, where less is better) is
no reason to act: between two sound runs it comes and goes."""

Kind = Literal["bias", "variance", "data", "flat", "not judged"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePlan:
    """Which parts are trained for how many epochs, and what that costs; or why nothing is.

    `is_cut`: the budget allows fewer epochs than the baseline had, so the whole is trained anew.
    """

    shares: tuple[float, ...]
    epochs: int
    is_cut: bool
    estimated_s: float
    budget_s: float
    refused: str = ""

    def text(self) -> str:
        """What will be trained and what it costs, or why nothing is, in one line."""
        if self.refused:
            return f"learning curve not judged: {self.refused}"
        parts = " and ".join(f"{share:.0%}" for share in self.shares)
        cut = ", fewer than the baseline's to keep the budget" if self.is_cut else ""
        return (
            f"learning curve: {self.epochs} epochs{cut} on {parts} of the rows, "
            f"about {self.estimated_s:.0f} s of {self.budget_s:.0f} s"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """Scores of the best epoch of one training, on its own rows and on validation."""

    share: float
    rows: int
    train: Measurement
    validation: Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class LearningCurve:
    """The points and what they say.

    `gap`: training ahead of validation on all rows. `rise`: validation on all rows ahead of half
    of them, on the same samples. Both positive where better, whichever way the metric counts.
    """

    kind: Kind
    reason: str
    points: tuple[Point, ...] = ()
    gap: Measurement | None = None
    rise: Measurement | None = None

    def to_json(self) -> dict[str, Any]:
        """The curve as it is stored."""
        return asdict(self)


def plan_curve(baseline: TrainingRun, budget_minutes: float, broken: str) -> CurvePlan:
    """Plan by the baseline's own epoch times; `broken` is why the baseline cannot be built on."""
    durations = [record.duration_s for record in baseline.telemetry.epochs]
    rows = len(baseline.splits.train)  # type: ignore[arg-type]
    budget_s = budget_minutes * 60
    nothing = CurvePlan(shares=(), epochs=0, is_cut=False, estimated_s=0.0, budget_s=budget_s)
    if broken:
        return replace(nothing, refused=f"the baseline is broken ({broken})")
    if rows * SHARES[0] < FEWEST_ROWS:
        return replace(nothing, refused=f"a quarter of {rows} rows is fewer than {FEWEST_ROWS}")
    epoch_s = sum(durations) / len(durations)
    parts = SHARES[:-1]
    whole_s = len(parts) * sum(durations)
    if whole_s <= budget_s:
        return replace(nothing, shares=parts, epochs=len(durations), estimated_s=whole_s)
    epochs = int(budget_s / (len(SHARES) * epoch_s))
    if epochs < 1:
        return replace(
            nothing,
            estimated_s=whole_s,
            refused=f"it would take about {whole_s / 60:.1f} minutes, and "
            f"budgets.diagnosis_minutes is {budget_minutes:g}",
        )
    cost = len(SHARES) * epochs * epoch_s
    return replace(nothing, shares=SHARES, epochs=epochs, is_cut=True, estimated_s=cost)


def rows_of(share: float, targets: "np.ndarray[Any, Any]", *, kind: str, seed: int) -> list[int]:
    """The rows of a part, by seed: each smaller part lies within the larger ones.

    Classification keeps the shares of the classes, each with one row at least.
    """
    order = np.random.default_rng(derive_seed(seed, "learning curve")).permutation(len(targets))
    groups = [order]
    if kind == "classification" and targets.ndim == 1:
        groups = [order[targets[order] == label] for label in np.unique(targets)]
    taken = [group[: max(1, round(share * len(group)))] for group in groups]
    return sorted(int(row) for group in taken for row in group)


def train_part(
    baseline: TrainingRun, config: Config, plan: CurvePlan, share: float, scratch: Path
) -> tuple[Predictions, Predictions]:
    """Train on a part; predict its rows and validation by the best epoch. Raises UserError.

    `config` is the whole configuration of the project.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    targets = training_targets(baseline.splits)
    rows = rows_of(share, targets, kind=baseline.task.kind, seed=baseline.config.seed)
    session = TrainingSession.open(
        baseline.project,
        config,
        "diagnostics",
        load_task(baseline.project.task),
        scratch,
        train_rows=np.resize(rows, len(targets)).tolist(),
    )
    if plan.is_cut:
        session.observer.limit_steps = plan.epochs * session.updates_per_epoch
    session.run()
    best = scratch / "checkpoints/best.pt"
    if session.fault is not None or not best.exists():
        raise UserError(f"the training on {share:.0%} of the rows turned non-finite")
    session.model.load_state_dict(Checkpoint.load(best).model)
    part = Subset(baseline.splits.train, rows)
    with session.evaluating():
        train, validation = (
            predict_split(session.task, session.model, split, session.config, session.device)[0]
            for split in (part, baseline.splits.validation)
        )
    return train, validation


def file_of(share: float, split: str) -> str:
    """The artifact with the raw predictions of one training: `predictions/025_train.npz`."""
    return f"predictions/{round(share * 100):03d}_{split}.npz"


def raw_predictions(
    run: TrainingRun, baseline: TrainingRun, plan: CurvePlan
) -> dict[float, tuple[Predictions, Predictions]]:
    """Training and validation predictions by share, from the files; the whole, unless it was
    trained anew, by the baseline's best checkpoint."""
    raw = {
        share: (
            Predictions.load(run.folder.artifact(file_of(share, "train"))),
            Predictions.load(run.folder.artifact(file_of(share, "validation"))),
        )
        for share in plan.shares
    }
    if plan.shares and not plan.is_cut:
        whole = baseline.evaluation
        raw[1.0] = (whole.train.predictions, whole.validation.predictions)
    return raw


def judge_curve(
    raw: Mapping[float, tuple[Predictions, Predictions]],
    metric: Metric,
    *,
    maximize: bool,
    goal: float | None,
    trivial: float | None,
) -> LearningCurve:
    """Say whether bias, variance or missing data holds the score down, by 95 % intervals.

    With a gap of 0.05 whose interval lies above 0: `data` where all rows are better than half of
    them, else `variance`. Without: `bias` where even the training score is short of `goal`, then
    `data` as above, else `flat`. `not judged` where an interval is missing (fewer than 10 rows).
    """
    points = tuple(
        Point(
            share=share,
            rows=len(raw[share][0]),
            train=measure(metric, raw[share][0]),
            validation=measure(metric, raw[share][1]),
        )
        for share in sorted(raw)
    )
    (train, validation), half = raw[1.0], raw[0.5][1]
    pairs = ((train, validation), (validation, half))
    (one, other), (later, earlier) = pairs if maximize else (pairs[0][::-1], pairs[1][::-1])
    gap, rise = difference(metric, one, other), paired_difference(metric, later, earlier)
    score = points[-1].train
    if gap.low is None or rise.low is None or score.low is None or score.high is None:
        reason = f"{len(validation)} validation rows are too few for intervals"
        return LearningCurve(kind="not judged", reason=reason, points=points)
    said = f"training is {gap.text()} ahead of validation"
    grows = f"validation on all rows is {rise.text()} ahead of half of them"
    kind: Kind = "flat"
    reason = f"{said}, and {grows}"
    if gap.low > 0 and gap.value >= _least_gap(maximize, trivial):
        kind = "data" if rise.low > 0 else "variance"
    elif goal is not None and _is_short(score, goal, maximize):
        kind = "bias"
        reason = f"even training reaches {score.text()} of {number(goal)} only; {said}"
    elif rise.low > 0:
        kind = "data"
    return LearningCurve(kind=kind, reason=reason, points=points, gap=gap, rise=rise)


def judge_point(
    train: Predictions,
    validation: Predictions,
    metric: Metric,
    *,
    maximize: bool,
    goal: float | None,
    trivial: float | None,
) -> LearningCurve:
    """What the gap between training and validation shows alone, by the limits of `judge_curve`.

    `variance` or `bias`; `not judged` where it is neither, as only more points could tell more.
    """
    point = Point(
        share=1.0,
        rows=len(train),
        train=measure(metric, train),
        validation=measure(metric, validation),
    )
    gap = difference(metric, *((train, validation) if maximize else (validation, train)))
    score = point.train
    kind: Kind = "not judged"
    reason = f"training is {gap.text()} ahead of validation"
    if gap.low is not None and gap.low > 0 and gap.value >= _least_gap(maximize, trivial):
        kind = "variance"
    elif goal is not None and _is_short(score, goal, maximize):
        kind = "bias"
        reason = f"even training reaches {score.text()} of {number(goal)} only; {reason}"
    return LearningCurve(kind=kind, reason=reason, points=(point,), gap=gap)


def _least_gap(maximize: bool, trivial: float | None) -> float:
    """0.05, of an error 5 % of a trivial model's."""
    return GAP * (1.0 if maximize or not trivial else abs(trivial))


def _is_short(score: Measurement, goal: float, maximize: bool) -> bool:
    """Whether the whole interval of a score is short of the goal."""
    best = score.high if maximize else score.low
    return best is not None and (best < goal if maximize else best > goal)


def goal_of(target: float | None, references: Mapping[str, float]) -> float | None:
    """What the score should reach: the target, else what a linear model scores; None: unknown."""
    return references.get("linear_validation") if target is None else target
