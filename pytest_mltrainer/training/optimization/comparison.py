"""Winner and reference on the same fresh seeds: the trials, and what they say together."""

from collections.abc import Mapping, Sequence

from pytest_mltrainer.core.config import Config
from pytest_mltrainer.evaluation.crossed import SeedPair
from pytest_mltrainer.evaluation.improvement import Improvement, improvement
from pytest_mltrainer.evaluation.predictions import Predictions
from pytest_mltrainer.training.optimization.rounds import Best
from pytest_mltrainer.training.optimization.trial_queue import TrialQueue
from pytest_mltrainer.training.optimization.trial_runner import TrialPlan
from pytest_mltrainer.training.optimization.trials import PHASE, TRIALS, Trial, seed_trial
from pytest_mltrainer.training.reproducibility import derive_seed
from pytest_mltrainer.training.run import TrainingRun

PREDICTIONS = "predictions/validation.npz"


def fresh_seeds(config: Config) -> list[int]:
    """The seeds that no trial was chosen by; the same ones in every round."""
    seed = config.for_phase(PHASE).seed
    return [
        derive_seed(seed, "comparison", number) % 2**32
        for number in range(config.optimization.seeds)
    ]


def run_seeds(
    config: Config, round_number: int, sides: Sequence[Best], queue: TrialQueue
) -> list[Trial]:
    """Train each side on every fresh seed that there is time for, one seed after the other."""
    plans = [
        TrialPlan(
            id=seed_trial(number, side.id),
            round=round_number,
            kind="seed",
            origin=side.id,
            patch=side.patch,
            seed=seed,
        )
        for number, seed in enumerate(fresh_seeds(config), 1)
        for side in sides
    ]
    return queue.run_all(plans)


def compare(
    run: TrainingRun, trials: Mapping[str, Trial], winner: str, reference: str
) -> Improvement | None:
    """How much better `winner` is than `reference`, over the seeds on which both have finished.

    `run` is the optimization's, whose folder holds the raw predictions. None without such a seed.
    """
    pairs = seed_pairs(run, trials, winner, reference)
    return improvement(run.metric, pairs, maximize=run.maximize) if pairs else None


def seed_pairs(
    run: TrainingRun, trials: Mapping[str, Trial], winner: str, reference: str
) -> list[SeedPair]:
    """What both say of validation, for each fresh seed on which both have finished."""
    pairs = []
    for number, seed in enumerate(fresh_seeds(run.config), 1):
        names = [seed_trial(number, origin) for origin in (winner, reference)]
        if all(name in trials and trials[name].status == "finished" for name in names):
            first, second = (_predictions(run, name) for name in names)
            pairs.append(SeedPair(seed=seed, winner=first, reference=second))
    return pairs


def _predictions(run: TrainingRun, trial: str) -> Predictions:
    return Predictions.load(run.folder.artifact(f"{TRIALS}/{trial}/{PREDICTIONS}"))
