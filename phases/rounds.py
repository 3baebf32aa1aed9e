"""The rounds of an optimization: diagnosis, trials, fresh seeds, decision, one after the other."""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytest_mltrainer.diagnostics import detectors
from pytest_mltrainer.diagnostics.readings import can_patch
from pytest_mltrainer.phases.common import PhaseWork
from pytest_mltrainer.phases.training import run_so_far

from pytest_mltrainer.core import files
from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.decision import RoundDecision, decide, decide_round
from pytest_mltrainer.core.digests import digest_value
from pytest_mltrainer.core.evidence import Evidence
from pytest_mltrainer.core.hooks import offered, plugin_manager
from pytest_mltrainer.core.inputs import CurrentInputs, Sources
from pytest_mltrainer.core.ledger import ROUND, record
from pytest_mltrainer.core.measurement import number
from pytest_mltrainer.core.steps import STEPS
from pytest_mltrainer.core.work import TRAIN
from pytest_mltrainer.evaluation.improvement import Improvement
from pytest_mltrainer.evaluation.intervals import measure
from pytest_mltrainer.evaluation.predictions import Predictions
from pytest_mltrainer.launchers import choose
from pytest_mltrainer.training.optimization.comparison import PREDICTIONS, compare, run_seeds
from pytest_mltrainer.training.optimization.guards import broken_guards, guards_of
from pytest_mltrainer.training.optimization.rediagnosis import diagnose_again
from pytest_mltrainer.training.optimization.rounds import Best, RoundWork
from pytest_mltrainer.training.optimization.search import STUDY_FILE, Search, StudyPlan
from pytest_mltrainer.training.optimization.search_space import (
    Dimension,
    declared_space,
    space_around,
)
from pytest_mltrainer.training.optimization.storage import check_storage
from pytest_mltrainer.training.optimization.trial_queue import TrialQueue
from pytest_mltrainer.training.optimization.trial_runner import TrialRunner
from pytest_mltrainer.training.optimization.trials import (
    BASELINE,
    PHASE,
    ROUNDS_FILE,
    Round,
    Trial,
    trial_config,
    trial_run,
)
from pytest_mltrainer.training.run import TrainingRun


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What the optimization has found, and the decision as the manifest holds it."""

    best: Best
    decision: dict[str, Any]


class Optimization:
    """All rounds. Trials that are done already, in a killed attempt or before, are not repeated."""

    def __init__(self, phase: PhaseWork) -> None:
        """Reads the baseline and what may be searched.

        Raises ConfigError for a space, UserError for a storage that cannot be used.
        """
        self._phase = phase
        self._run = run_so_far(phase)
        self._baseline = TrainingRun(phase.project, phase.config, "baseline")
        self._reads = tuple(self._run.planned("rehearsal/first.json")["config_reads"])
        self._declared = declared_space(self._run.config, self._reads)
        if phase.config.optimization.storage is not None:
            check_storage(phase.config.optimization.storage)
        self._runner = self._make_runner()
        self._trials: dict[str, Trial] = {}
        self._rounds: list[Round] = []
        self._seed = self._run.config.seed
        self._known = {self._runner.identity({}, self._seed): BASELINE}
        self._score = self._baseline.evaluation.validation.objective
        self._best = Best(id=BASELINE, patch={}, value=self._score.value)
        self._scores: list[float] = []
        self._broken: list[str] = []

    def run(self) -> Outcome:
        """Do rounds until one decides that finalization is next."""
        found = self._run.run_folder.phase("diagnostics")
        issue = files.read_json(found.artifact("diagnosis.json"))["issue"]
        advice = files.read_json(found.artifact("recommendations.json"))
        while True:
            decision, following = self._round(issue or "unexplained", advice)
            if decision.next != PHASE:
                return self._outcome(decision)
            issue, advice = following

    def _round(
        self, issue: str, advice: Sequence[Mapping[str, Any]]
    ) -> tuple[RoundDecision, tuple[str, Sequence[Mapping[str, Any]]]]:
        """One round; its decision, and the issue and the advice of the next one."""
        this = Round(number=len(self._rounds) + 1, issue=issue, incumbent=self._best.id)
        self._start(this, advice)
        work = RoundWork(
            number=this.number,
            runner=self._runner,
            queue=self._queue(self._phase.config.budgets.optimization_minutes),
            best=self._best,
            maximize=self._run.maximize,
            known=self._known,
        )
        tried = work.recommended(advice)
        work.joint(tried, self._is_met)
        self._search(this.number, work, [entry["patch"] for entry in advice])
        self._trials |= work.trials
        self._known = work.known
        winner = work.best if work.best.id != self._best.id else None
        compared = self._compare(this.number, winner)
        gain = self._gain(winner)
        decision, following = self._decide(this.number, winner, gain)
        self._rounds.append(
            replace(
                this,
                recommendations=tried,
                trials=tuple(sorted(work.trials)),
                winner=winner.id if winner else None,
                comparison=tuple(compared),
                something_left=following is not None,
                remarks=tuple(work.remarks + self._missing(compared, winner)),
                decision=decision.to_json(),
            )
        )
        if winner is not None and gain is not None and decision.accepts:
            self._best, self._score = winner, gain.winner
        self._scores.append(self._score.value)
        self._write_rounds()
        for remark in self._rounds[-1].remarks:
            self._note(f"round {this.number}: {remark}")
        self._note(f"round {this.number}: {decision.status}: {decision.reason}")
        return decision, following or (issue, [])

    def _start(self, this: Round, advice: Sequence[Mapping[str, Any]]) -> None:
        """Enter the round into the ledger, unless a killed attempt has."""
        path = self._phase.output / ROUNDS_FILE
        stored = files.read_json(path) if path.exists() else []
        if all(entry["number"] != this.number for entry in stored):
            record(self._run.run_folder, ROUND, round=this.number, issue=this.issue)
            self._write_rounds(this)
        concrete = sum(bool(entry["patch"]) for entry in advice)
        rest = len(advice) - concrete
        self._note(
            f"round {this.number} of {self._phase.config.optimization.rounds}: {this.issue}, "
            f"{concrete} recommended {'change' if concrete == 1 else 'changes'} to try"
            + (f", {rest} for a person" if rest else "")
        )

    def _search(
        self, number_of_round: int, work: RoundWork, advised: Sequence[Mapping[str, Any]]
    ) -> None:
        best = work.best
        space = self._declared or self._space_around(best, advised)
        if not space:
            work.remarks.append("no search: no number that the run reads is there to be varied")
            return
        settings = self._phase.config.optimization
        config = self._run.config
        study = Search(
            StudyPlan(
                name=f"{self._runner.identity(best.patch, self._seed)[:16]}-{number_of_round}",
                space=space,
                maximize=self._run.maximize,
                pruner=settings.pruner,
                epochs=config.training.epochs,
                seed=config.seed,
                jobs=settings.jobs,
                storage=settings.storage,
                journal=self._phase.output / STUDY_FILE,
                owner=f"{socket.gethostname()}:{self._phase.request.folder}",
            )
        )
        for name, trial in self._trials.items():
            if trial.kind != "seed":
                study.learn(name, work.settings_of(trial.patch), trial)
        work.search(study, self._is_met)

    def _space_around(
        self, best: Best, advised: Sequence[Mapping[str, Any]]
    ) -> tuple[Dimension, ...]:
        config = trial_config(self._run.config, best.patch, self._seed).for_phase(PHASE)
        evidence = Evidence(
            kind=self._run.task.kind,
            metric=self._run.metric.name,
            maximize=self._run.maximize,
            target=config.objective.target,
            config=config.to_json(),
            config_reads=self._reads,
        )
        return space_around(config, best.patch, lambda key: can_patch(evidence, key), advised)

    def _is_met(self, trial: Trial) -> bool:
        """Whether the whole interval of a trial's score lies on the target's good side."""
        target = self._run.config.objective.target
        path = self._runner.folder(trial.id) / PREDICTIONS
        if target is None or not path.exists():
            return False
        decision = decide(
            measure(self._run.metric, Predictions.load(path)),
            metric=self._run.metric.name,
            target=target,
            maximize=self._run.maximize,
        )
        return decision.status == "sufficient"

    def _compare(self, round_number: int, winner: Best | None) -> list[str]:
        """Train baseline, incumbent and winner on the fresh seeds; the ids of those trainings."""
        if winner is None:
            return []
        baseline = Best(id=BASELINE, patch={}, value=0.0)
        sides = {side.id: side for side in (baseline, self._best, winner)}
        *others, last = sides
        self._note(
            f"round {round_number}: {winner.id} has the best validation {self._run.metric.name}, "
            f"{number(winner.value)}; {', '.join(others)} and {last} on "
            f"{self._phase.config.optimization.seeds} fresh seeds"
        )
        queue = self._queue(self._phase.config.budgets.seeds_minutes)
        done = run_seeds(self._phase.config, round_number, list(sides.values()), queue)
        self._trials |= {trial.id: trial for trial in done}
        return [trial.id for trial in done]

    def _missing(self, compared: Sequence[str], winner: Best | None) -> list[str]:
        wanted = self._phase.config.optimization.seeds
        if winner is None:
            return []
        ended = [name for name in compared if self._trials[name].origin == winner.id]
        finished = [name for name in ended if self._trials[name].status == "finished"]
        if len(finished) == wanted:
            return []
        minutes = self._phase.config.budgets.seeds_minutes
        why = (
            f"budgets.seeds_minutes ({minutes:g}) is used up"
            if len(ended) < wanted
            else "; ".join(
                _first_line(self._trials[name]) for name in ended if name not in finished
            )
        )
        return [f"compared on {len(finished)} of {wanted} fresh seeds: {why}"]

    def _gain(self, winner: Best | None) -> Improvement | None:
        """How much better the winner is than the incumbent on the fresh seeds."""
        self._broken = []
        if winner is None:
            return None
        gain = compare(self._run, self._trials, winner.id, self._best.id)
        if gain is not None:
            self._note(f"{winner.id} against {self._best.id}: {gain.text()}")
            guards = guards_of(self._run, self._trials, winner.id)
            self._broken = broken_guards(guards)
        return gain

    def _decide(
        self, round_number: int, winner: Best | None, gain: Improvement | None
    ) -> tuple[RoundDecision, tuple[str, list[dict[str, Any]]] | None]:
        """The decision, and the diagnosis of the next round; None where nothing is left to try."""
        decision = self._decided(round_number, gain, something_left=True)
        if decision.next != PHASE:
            return decision, ("", [])
        best = winner if winner is not None and decision.accepts else self._best
        run = self._baseline if best.id == BASELINE else trial_run(self._run, best.id)
        manager = plugin_manager(self._phase.project)
        every = detectors() | offered(manager, "mltrainer_detectors")
        issue, advice = diagnose_again(run, every, can_patch)
        is_new = any(
            self._runner.identity({**best.patch, **entry["patch"]}, self._seed) not in self._known
            for entry in advice
            if entry["patch"]
        )
        if decision.accepts or is_new:
            return decision, (issue, advice)
        return self._decided(round_number, gain, something_left=False), None

    def _decided(
        self, round_number: int, gain: Improvement | None, *, something_left: bool
    ) -> RoundDecision:
        objective = self._run.config.objective
        return decide_round(
            metric=self._run.metric.name,
            maximize=self._run.maximize,
            target=objective.target,
            winner=gain.winner if gain else None,
            incumbent=gain.reference if gain else self._score,
            gain=gain.absolute.value if gain else None,
            relative_gain=gain.relative.value if gain and gain.relative else None,
            is_significant=gain.is_significant if gain else None,
            rounds_started=round_number,
            rounds_allowed=self._phase.config.optimization.rounds,
            something_left=something_left,
            broken_guards=self._broken,
        )

    def _outcome(self, decision: RoundDecision) -> Outcome:
        rounds = [
            {"round": entry.number, "value": score}
            for entry, score in zip(self._rounds, self._scores, strict=True)
        ]
        whole = {
            "status": decision.status,
            "next": decision.next,
            "reason": decision.reason,
            "value": self._score.value,
            "target": self._run.config.objective.target,
            "patch": dict(self._best.patch),
            "rounds": rounds,
        }
        return Outcome(best=self._best, decision=whole)

    def _make_runner(self) -> TrialRunner:
        phase = self._phase
        more = offered(plugin_manager(phase.project), "mltrainer_launchers")
        step = next(step for step in STEPS["baseline"] if step.name == TRAIN)
        # As planning saw them: what else this process has imported depends on how far it is.
        sources = Sources(code=phase.code_files, data=phase.data_files, numerics=phase.numerics)

        def identify(config: Config) -> str:
            inputs = CurrentInputs(phase.project, config, phase.run)
            return digest_value(inputs.of(step, PHASE, sources))

        return TrialRunner(
            request=phase.request,
            config=phase.config,
            metric=self._run.metric.name,
            launcher=choose(phase.config, [TRAIN], more),
            identify=identify,
            before=phase.run.phase(PHASE).path,
        )

    def _queue(self, minutes: float) -> TrialQueue:
        jobs = self._phase.config.optimization.jobs
        return TrialQueue(self._runner, jobs=jobs, minutes=minutes, told=self._tell)

    def _tell(self, trial: Trial) -> None:
        """One line for each trial that has ended; what an earlier round has told is not news."""
        if trial.round <= len(self._rounds):
            return
        what = ", ".join(f"{key} {value}" for key, value in trial.patch.items()) or "the baseline"
        which = f"seed {trial.seed}" if trial.kind == "seed" else f"trial {int(trial.id[-2:])}"
        if trial.value is None:
            how = f"{trial.status}: {_first_line(trial)}"
        else:
            reference = f" (baseline {number(self._baseline_value)})"
            how = f"{self._run.metric.name} {number(trial.value)}"
            how += "" if trial.kind == "seed" else reference
        self._note(f"round {trial.round}, {which} ({what}): {how}, {trial.duration_s:.1f} s")

    @property
    def _baseline_value(self) -> float:
        return self._baseline.evaluation.validation.objective.value

    def _note(self, text: str) -> None:
        self._phase.report({"kind": "note", "text": text})

    def _write_rounds(self, *begun: Round) -> None:
        self._phase.write_json(ROUNDS_FILE, [entry.to_json() for entry in (*self._rounds, *begun)])


def _first_line(trial: Trial) -> str:
    """Why a trial has ended, without the traceback that may follow."""
    return trial.reason.partition("\n")[0]
