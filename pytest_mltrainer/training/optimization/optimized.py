"""An optimization as it follows from its trials: winners, comparisons, guards and decisions anew.

Everything comes from the raw predictions, the telemetry and the checkpoints of the trials; what
`rounds.json`, `winner.json` and `decision.json` claim is not read, but for which trials there were.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pytest_mltrainer.core.decision import RoundDecision, decide_round
from pytest_mltrainer.core.measurement import Measurement
from pytest_mltrainer.evaluation.improvement import Improvement
from pytest_mltrainer.evaluation.predictions import Predictions
from pytest_mltrainer.training.optimization.comparison import PREDICTIONS, compare
from pytest_mltrainer.training.optimization.guards import Guard, broken_guards, guards_of
from pytest_mltrainer.training.optimization.trials import (
    BASELINE,
    TRIALS,
    Round,
    Trial,
    read_rounds,
    read_trials,
)
from pytest_mltrainer.training.progress import is_better
from pytest_mltrainer.training.run import TrainingRun


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundFound:
    """One round anew: `winner` is the best trial on validation, None where none was better.

    `gain` compares it with the incumbent on the fresh seeds, `guards` with the baseline. `score` is
    that of the incumbent before the round, as the decision sees it.
    """

    round: Round
    incumbent: str
    winner: str | None
    score: Measurement
    gain: Improvement | None
    guards: tuple[Guard, ...]
    decision: RoundDecision

    @property
    def best(self) -> str:
        """What is best behind the round: the winner if it was accepted, else the incumbent."""
        return self.winner if self.winner is not None and self.decision.accepts else self.incumbent

    @property
    def score_behind(self) -> Measurement:
        """Its score: over the fresh seeds where it was compared on them."""
        return self.gain.winner if self.gain and self.decision.accepts else self.score


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimized:
    """The whole optimization; `trials` have the scores of their raw predictions, by their ids."""

    run: TrainingRun
    baseline: TrainingRun
    trials: Mapping[str, Trial]
    rounds: tuple[RoundFound, ...]

    @property
    def best(self) -> str:
        """The configuration that goes into the final training: a trial, or the baseline."""
        return self.rounds[-1].best

    @property
    def patch(self) -> dict[str, Any]:
        """What it changes."""
        return {} if self.best == BASELINE else dict(self.trials[self.best].patch)

    @property
    def gains(self) -> list[dict[str, Any] | None]:
        """The comparison of each round as it is stored."""
        return [entry.gain.to_json() if entry.gain else None for entry in self.rounds]

    @property
    def last_gain(self) -> Improvement | None:
        """The comparison that accepted it, or else the last one."""
        gains = [entry.gain for entry in self.rounds if entry.gain is not None]
        own = [entry.gain for entry in self.rounds if entry.winner == self.best and entry.gain]
        return own[-1] if own else gains[-1] if gains else None

    @property
    def decision(self) -> dict[str, Any]:
        """The decision as the manifest holds it."""
        last = self.rounds[-1]
        scores = [entry.score_behind.value for entry in self.rounds]
        return {
            "status": last.decision.status,
            "next": last.decision.next,
            "reason": last.decision.reason,
            "value": scores[-1],
            "target": self.run.config.objective.target,
            "patch": self.patch,
            "rounds": [
                {"round": entry.round.number, "value": score}
                for entry, score in zip(self.rounds, scores, strict=True)
            ],
        }


def examine_optimization(run: TrainingRun) -> Optimized:
    """Everything anew, round by round. Raises StorageError where a trial cannot be read."""
    baseline = TrainingRun(run.project, run.whole_config, "baseline")
    trials = {name: _scored(run, trial) for name, trial in read_trials(run).items()}
    best, score = BASELINE, baseline.evaluation.validation.objective
    value = score.value
    found: list[RoundFound] = []
    for entry in read_rounds(run):
        winner = best_trial(run, trials, entry, value)
        this = _round(run, trials, entry, best, winner, score)
        found.append(this)
        if this.best != best:
            best, score = this.best, this.score_behind
            value = trials[best].value or value
    return Optimized(run=run, baseline=baseline, trials=trials, rounds=tuple(found))


def best_trial(
    run: TrainingRun, trials: Mapping[str, Trial], entry: Round, to_beat: float
) -> str | None:
    """The trial of a round with the best score, of equal ones the earlier; None if none beats."""
    best = None
    for name in sorted(entry.trials):
        score = trials[name].value
        if score is not None and is_better(score, to_beat, maximize=run.maximize):
            best, to_beat = name, score
    return best


def _round(
    run: TrainingRun,
    trials: Mapping[str, Trial],
    entry: Round,
    incumbent: str,
    winner: str | None,
    score: Measurement,
) -> RoundFound:
    gain = compare(run, trials, winner, incumbent) if winner else None
    guards = guards_of(run, trials, winner) if winner else ()
    decision = decide_round(
        metric=run.metric.name,
        maximize=run.maximize,
        target=run.config.objective.target,
        winner=gain.winner if gain else None,
        incumbent=gain.reference if gain else score,
        gain=gain.absolute.value if gain else None,
        relative_gain=gain.relative.value if gain and gain.relative else None,
        is_significant=gain.is_significant if gain else None,
        rounds_started=entry.number,
        rounds_allowed=run.config.optimization.rounds,
        something_left=entry.something_left,
        broken_guards=broken_guards(guards),
    )
    return RoundFound(
        round=entry,
        incumbent=incumbent,
        winner=winner,
        score=score,
        gain=gain,
        guards=guards,
        decision=decision,
    )


def _scored(run: TrainingRun, trial: Trial) -> Trial:
    """The trial with the score of its raw predictions in place of the stored one."""
    if trial.status != "finished":
        return replace(trial, value=None)
    stored = Predictions.load(run.folder.artifact(f"{TRIALS}/{trial.id}/{PREDICTIONS}"))
    return replace(trial, value=run.metric.score(stored.outputs, stored.targets))
