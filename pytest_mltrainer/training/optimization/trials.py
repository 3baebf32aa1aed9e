"""The trials and rounds of an optimization as the run folder holds them.

A trial is a whole training in a folder of its own, `trials/ID/` of the phase: `trial.json`,
telemetry, checkpoints, predictions and diagnoses. It exists when its `trial.json` does. The rounds
stand in `rounds.json`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pytest_mltrainer.core import files
from pytest_mltrainer.core.config import Config
from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.training.run import TrainingRun

PHASE = "optimization"
TRIALS = "trials"
TRIAL_FILE = "trial.json"
ROUNDS_FILE = "rounds.json"
BY_HAND = "needs a person"
"""Why a recommendation without a patch is skipped."""
BASELINE = "baseline"
"""What stands for a trial where the baseline itself is meant."""

Kind = Literal["recommended", "joint", "search", "seed"]
TrialStatus = Literal["finished", "pruned", "broken", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One training with a patch of the configuration, and how it ended.

    `origin` says where the patch came from; of a trial of kind `seed` it is the id of the trial
    that is repeated, or `baseline`. `value` is the objective's metric of the best checkpoint on
    validation; None unless `finished`. `progress` is the same metric behind each epoch, None where
    not finite. `identity` is the digest of everything that the training depends on, `artifacts` the
    digests of its files. `duration_s` is the time of its epochs, `worker_s` that of its worker, 0
    where it was taken over from an earlier optimization.
    """

    id: str
    round: int
    kind: Kind
    origin: str
    patch: Mapping[str, Any]
    seed: int
    identity: str
    status: TrialStatus
    reason: str = ""
    value: float | None = None
    progress: tuple[float | None, ...] = ()
    duration_s: float = 0.0
    worker_s: float = 0.0
    memory: Mapping[str, Any] = field(default_factory=dict)
    artifacts: Mapping[str, str] = field(default_factory=dict)

    @property
    def whole_patch(self) -> dict[str, Any]:
        """The patch with the seed in it: what makes the trial's configuration."""
        return {**self.patch, "seed": self.seed}

    def to_json(self) -> dict[str, Any]:
        """The trial as `trial.json` holds it."""
        return asdict(self) | {"progress": list(self.progress)}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any], path: Path) -> "Trial":
        """The trial that `to_json` wrote. Raises StorageError for anything else."""
        try:
            return cls(**{**stored, "progress": tuple(stored["progress"])})
        except (KeyError, TypeError) as error:
            raise StorageError(f"{path}: not a trial ({error}); run the phase again") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """What became of one recommendation: the trial that tried it, or why it was skipped."""

    issue: str
    instruction: str
    patch: Mapping[str, Any]
    predicted: tuple[float, float] | None
    status: Literal["tried", "skipped"]
    reason: str = ""
    trial: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One round: an issue, what was tried against it, and what came of it.

    `incumbent` is the id of what was best before (`baseline`, or the winner of an earlier round),
    `winner` the trial that was preselected on validation, None where none was better.
    `comparison` names the trials on fresh seeds, those of baseline and incumbent among them.
    `something_left`: whether there was anything to try in another round. `remarks` say what was cut
    short, and why.
    """

    number: int
    issue: str
    incumbent: str = BASELINE
    recommendations: tuple[Tried, ...] = ()
    trials: tuple[str, ...] = ()
    winner: str | None = None
    comparison: tuple[str, ...] = ()
    something_left: bool = True
    remarks: tuple[str, ...] = ()
    decision: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The round as `rounds.json` holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any], path: Path) -> "Round":
        """The round that `to_json` wrote. Raises StorageError for anything else."""
        try:
            recommendations = tuple(_tried(entry) for entry in stored["recommendations"])
            lists = {name: tuple(stored[name]) for name in ("trials", "comparison", "remarks")}
            return cls(**{**stored, **lists, "recommendations": recommendations})
        except (KeyError, TypeError) as error:
            raise StorageError(f"{path}: not a round ({error}); run the phase again") from error


def read_rounds(run: TrainingRun) -> tuple[Round, ...]:
    """The rounds of an optimization, in order. Raises StorageError."""
    path = run.folder.artifact(ROUNDS_FILE)
    return tuple(Round.from_json(entry, path) for entry in files.read_json(path))


def read_trial(folder: Path) -> Trial:
    """The trial in a folder `trials/ID`. Raises StorageError."""
    path = folder / TRIAL_FILE
    return Trial.from_json(files.read_json(path), path)


def read_trials(run: TrainingRun) -> dict[str, Trial]:
    """Every trial of an optimization by its id, in the order of the rounds that made them."""
    found: dict[str, Trial] = {}
    for entry in read_rounds(run):
        for name in (*entry.trials, *entry.comparison):
            found.setdefault(name, read_trial(run.folder.artifact(f"{TRIALS}/{name}")))
    return found


def seed_trial(number: int, origin: str) -> str:
    """The id of the training of `origin`, a trial or the baseline, on fresh seed `number`."""
    return f"seed-{number}-{origin}"


def trial_config(config: Config, patch: Mapping[str, Any], seed: int) -> Config:
    """The whole configuration of the project, patched for one trial. Raises ConfigError."""
    return config.with_patch(PHASE, {**patch, "seed": seed})


def trial_run(run: TrainingRun, trial_id: str) -> TrainingRun:
    """The training run of one trial of the optimization `run`. Raises StorageError."""
    folder = run.folder.artifact(f"{TRIALS}/{trial_id}")
    trial = read_trial(folder)
    # The configuration of the phase has no overrides left, so it is a whole one itself.
    config = trial_config(run.config, trial.patch, trial.seed)
    return TrainingRun(run.project, config, PHASE, folder)


def _tried(stored: Mapping[str, Any]) -> Tried:
    predicted = stored["predicted"]
    return Tried(**{**stored, "predicted": tuple(predicted) if predicted else None})
