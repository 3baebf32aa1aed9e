"""`optimization_results.md` and its plots: functions of recomputed values, so a gate can write them
anew. The order is that of a reader's questions: from where to where, what was tried, is it proven.
"""

import math
from collections.abc import Mapping

from pytest_mltrainer.core.config import flatten
from pytest_mltrainer.core.decision import TARGET_MET
from pytest_mltrainer.core.measurement import Measurement, number
from pytest_mltrainer.documents.markdown import Document
from pytest_mltrainer.documents.optimization_plots import (
    both_curves,
    gain_plot,
    importance_plot,
    parallel_plot,
)
from pytest_mltrainer.evaluation.improvement import Improvement
from pytest_mltrainer.training.optimization.optimized import Optimized, RoundFound
from pytest_mltrainer.training.optimization.trials import (
    BASELINE,
    BY_HAND,
    PHASE,
    Trial,
    Tried,
    trial_config,
    trial_run,
)

SECTIONS = (
    "Path",
    "Rounds",
    "Trials",
    "Comparison with seeds",
    "Guards and slices",
    "Decision",
)
CONFIG = "optimization_config.yaml"
RESULTS = "optimization_results.md"
IMPROVEMENT = "improvement.json"
"""The comparison of each round, null where none was made."""
CURVES_PLOT = "plots/learning_curves.svg"
GAIN_PLOT = "plots/improvement.svg"
IMPORTANCE_PLOT = "plots/importance.svg"
PARALLEL_PLOT = "plots/parallel.svg"
FEWEST_TRIALS = 4
"""Scored trials from which on a rank correlation says anything at all."""

Row = list[str | float | Measurement | None]


def optimization_report(found: Optimized) -> str:
    """The report of a whole optimization."""
    document = Document("Optimization results")
    _path(document, found)
    _rounds(document, found)
    _trials(document, found)
    _comparison(document, found)
    _guards(document, found)
    decision = found.rounds[-1].decision
    document.section("Decision")
    document.paragraph(f"{decision.status}: {decision.reason}.")
    document.paragraph(f"Next: {decision.next}, with {_named(found.best)}.")
    by_hand = dict.fromkeys(
        tried.instruction
        for entry in found.rounds
        for tried in entry.round.recommendations
        if tried.reason.startswith(BY_HAND)
    )
    if by_hand and decision.status != TARGET_MET:
        document.paragraph("Left for a person:")
        document.bullets(by_hand)
    return document.text()


def optimization_plots(found: Optimized) -> dict[str, bytes]:
    """The plots of the report as SVG, by name."""
    metric = found.run.metric.name
    sides = {BASELINE: found.baseline.telemetry.epochs}
    if (shown := _shown(found)) is not None:
        sides[shown] = trial_run(found.run, shown).telemetry.epochs
    plots = {CURVES_PLOT: both_curves(sides, metric, found.run.config.objective.target)}
    if found.last_gain is not None:
        plots[GAIN_PLOT] = gain_plot(_gains(found.last_gain), metric)
    scored = _scored(found)
    numbers = numbers_of(found)
    if importance := importance_of(found):
        plots[IMPORTANCE_PLOT] = importance_plot(importance, metric)
    if len(scored) > 1 and numbers:
        rows = [{key: column[name] for key, column in numbers.items()} for name in scored]
        plots[PARALLEL_PLOT] = parallel_plot(
            rows, list(scored.values()), metric, maximize=found.run.maximize
        )
    return plots


def importance_of(found: Optimized) -> dict[str, float]:
    """Spearman's rank correlation of each numeric setting with the score, without its sign.

    Over the scored trials and the baseline, the strongest first; empty with fewer than 4 of them.
    Settings that were changed together share what they did: it is a hint where to look.
    """
    from scipy.stats import spearmanr

    scored = _scored(found)
    strengths: dict[str, float] = {}
    for key, column in numbers_of(found).items():
        pairs = [
            (column[name], score) for name, score in scored.items() if column[name] is not None
        ]
        values, scores = ([pair[side] for pair in pairs] for side in (0, 1))
        if len(pairs) >= FEWEST_TRIALS and len({*values}) > 1 and len({*scores}) > 1:
            strengths[key] = abs(float(spearmanr(values, scores).statistic))
    return dict(sorted(strengths.items(), key=lambda entry: (-entry[1], entry[0])))


def numbers_of(found: Optimized) -> dict[str, dict[str, float | None]]:
    """Each setting that some trial changed and that has other numbers: its values, by trial.

    None where a trial has no number there. The baseline is among them.
    """
    patches = {name: found.trials[name].patch for name in _scored(found) if name != BASELINE}
    settings = {name: _settings(found, trial) for name, trial in found.trials.items()
                if name in patches}  # fmt: skip
    settings[BASELINE] = flatten(found.baseline.config.to_json())
    keys = dict.fromkeys(key for patch in patches.values() for key in patch)
    columns = {
        key: {name: _as_number(settings[name].get(key)) for name in (BASELINE, *patches)}
        for key in keys
    }
    return {key: column for key, column in columns.items() if len({*column.values()} - {None}) > 1}


def _settings(found: Optimized, trial: Trial) -> Mapping[str, object]:
    config = trial_config(found.run.whole_config, trial.patch, trial.seed)
    return flatten(config.for_phase(PHASE).to_json())


def _as_number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None  # type: ignore[arg-type]


def _scored(found: Optimized) -> dict[str, float]:
    """The scores of the baseline and of every finished trial with the project's seed."""
    scores = {BASELINE: found.baseline.evaluation.validation.objective.value}
    for name, trial in found.trials.items():
        if trial.kind != "seed" and trial.value is not None and math.isfinite(trial.value):
            scores[name] = trial.value
    return scores


def _shown(found: Optimized) -> str | None:
    """The trial that stands beside the baseline: the best, else the last that was compared."""
    if found.best != BASELINE:
        return found.best
    winners = [entry.winner for entry in found.rounds if entry.winner is not None]
    return winners[-1] if winners else None


def _path(document: Document, found: Optimized) -> None:
    run, objective = found.run, found.run.config.objective
    document.section("Path")
    document.table(
        ["metric", "better", "target"],
        [[run.metric.name, "higher" if run.maximize else "lower", objective.target]],
    )
    steps: list[Row] = [
        ["baseline", BASELINE, "none", found.baseline.evaluation.validation.objective]
    ]
    for entry in found.rounds:
        trial = found.trials.get(entry.best)
        changes = changes_of(trial.patch) if trial else "none"
        steps.append([f"round {entry.round.number}", entry.best, changes, entry.score_behind])
    document.table(["after", "best", "changes to the baseline", run.metric.name], steps)
    document.image("Learning curves of both", CURVES_PLOT)


def _rounds(document: Document, found: Optimized) -> None:
    allowed = found.run.config.optimization.rounds
    document.section("Rounds")
    document.paragraph(f"{len(found.rounds)} of at most {allowed} rounds were started.")
    for entry in found.rounds:
        this = entry.round
        document.section(f"Round {this.number}: {this.issue}", 3)
        document.bullets(_became(found, tried) for tried in this.recommendations)
        if not this.recommendations:
            document.paragraph("Nothing was recommended.")
        document.bullets(this.remarks)
        winner = entry.winner or "none, no trial beat the incumbent on validation"
        document.paragraph(f"Preselected: {winner}. Result: {entry.decision.status}.")


def _became(found: Optimized, tried: Tried) -> str:
    """One recommendation, and what became of it."""
    asked = changes_of(tried.patch) if tried.patch else tried.instruction
    if tried.status == "skipped":
        by_hand = tried.reason.startswith(BY_HAND)
        return f"{asked}: skipped, {BY_HAND if by_hand else tried.reason}"
    trial = found.trials.get(tried.trial or "")
    if trial is None:
        return f"{asked}: not tried"
    score = trial.status if trial.value is None else number(trial.value)
    return f"{asked}: {trial.id}, {found.run.metric.name} {score}"


def _trials(document: Document, found: Optimized) -> None:
    """Every trial, those that were worse or broke among them."""
    document.section("Trials")
    before = found.baseline.evaluation.validation.objective.value
    trials = [trial for trial in found.trials.values() if trial.kind != "seed"]
    document.paragraph(
        f"{len(trials)} trials with the seed of the project; the baseline has ", before, "."
    )
    rows: list[Row] = [
        [
            trial.id,
            trial.kind,
            changes_of(trial.patch),
            trial.status,
            trial.value,
            None if trial.value is None else trial.value - before,
            trial.reason.partition("\n")[0] or None,
        ]
        for trial in trials
    ]
    headers = ["trial", "kind", "changes", "status", found.run.metric.name, "difference", "reason"]
    if rows:
        document.table(headers, rows)
    importance = importance_of(found)
    if importance:
        document.paragraph(
            "Rank correlation of each changed setting with the metric, without its sign:"
        )
        document.table(["setting", "strength"], [[key, value] for key, value in importance.items()])
        document.image("Importance of the settings", IMPORTANCE_PLOT)
    else:
        document.paragraph(
            f"Fewer than {FEWEST_TRIALS} scores over different numbers: the importance of single "
            "settings cannot be told."
        )
    if len(_scored(found)) > 1 and numbers_of(found):
        document.image("Settings and score of each trial", PARALLEL_PLOT)


def _comparison(document: Document, found: Optimized) -> None:
    """Each winner against what was best before it, on seeds that it was not chosen by."""
    document.section("Comparison with seeds")
    for entry in found.rounds:
        if entry.gain is None:
            document.paragraph(f"Round {entry.round.number}: nothing was compared.")
        else:
            _compared(document, entry, entry.gain)
    if found.last_gain is not None:
        document.image("Improvement by seed and over all seeds", GAIN_PLOT)


def _compared(document: Document, entry: RoundFound, gain: Improvement) -> None:
    winner, incumbent = str(entry.winner), entry.incumbent
    document.section(f"Round {entry.round.number}: {winner} against {incumbent}", 3)
    document.paragraph(f"{gain.text()}.")
    rows: list[Row] = [
        [f"seed {one.seed}", one.winner, one.reference, one.gain] for one in gain.seeds
    ]
    rows.append(["all seeds", gain.winner, gain.reference, gain.absolute])
    document.table(["", winner, incumbent, "gain"], rows)
    if gain.relative is not None:
        document.paragraph("Relative gain: ", gain.relative.scaled(100, "%"), ".")
    if gain.smallest is None:
        document.paragraph("No interval over seeds: whether it is chance cannot be said.")
        return
    document.paragraph(
        "The interval covers new seeds and new samples. So many seeds and samples show a gain of ",
        gain.smallest, " in 8 of 10 repetitions.",
    )  # fmt: skip


def _guards(document: Document, found: Optimized) -> None:
    document.section("Guards and slices")
    judged = [entry for entry in found.rounds if entry.guards]
    if not judged:
        document.paragraph("No winner was compared with the baseline.")
    for entry in judged:
        document.paragraph(
            f"Round {entry.round.number}: {entry.winner} against the baseline, on the fresh seeds. "
            "A guard is broken where its whole interval lies beyond the limit."
        )
        rows: list[Row] = [
            [
                guard.name,
                guard.measured,
                f"{guard.bound} {number(guard.limit)}",
                guard.undecided or ("holds" if guard.holds else "broken"),
            ]
            for guard in entry.guards
        ]
        document.table(["guard", "measured", "limit", "result"], rows)


def changes_of(patch: Mapping[str, object]) -> str:
    """`training.learning_rate 0.01, model.width 16`; `none` for no change."""
    return ", ".join(f"{key} {value}" for key, value in patch.items()) or "none"


def _gains(gain: Improvement) -> dict[str, Measurement]:
    return {f"seed {one.seed}": one.gain for one in gain.seeds} | {"all seeds": gain.absolute}


def _named(best: str) -> str:
    return "the configuration of the baseline" if best == BASELINE else f"what {best} has changed"
