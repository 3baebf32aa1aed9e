"""The trained model on the same rows in training mode and in evaluation mode."""

from typing import Any

import numpy as np
import torch

from pytest_mltrainer.training.batches import to_device
from pytest_mltrainer.training.epoch_scores import scored
from pytest_mltrainer.training.reproducibility import RngState, derive_seed, fix_seeds
from pytest_mltrainer.training.run import TrainingRun

LIMIT_ROWS = 2_000


def mode_scores(run: TrainingRun) -> dict[str, Any]:
    """The objective's metric of the best checkpoint on up to 2,000 training rows in both modes.

    `train` and `eval`, over `rows` drawn at random, in batches of training's size: sorted batches
    would give BatchNorm other statistics than training had. A last batch that is smaller is left
    out. `last` says the same of the last checkpoint: where evaluation fails, the best one is no
    more than the first. What raises in the user's code is the `reason` for `judged` False.
    """
    rng = RngState.capture()
    try:
        scores: dict[str, Any] = _scores(run, "best")
        scores["last"] = _scores(run, "last")
    except Exception as error:  # the user's code may raise anything
        return {"judged": False, "reason": f"{type(error).__name__}: {error}"[:200]}
    finally:
        rng.restore()
    return {"judged": True, **scores, "rows": sum(map(len, _batches(run)))}


def _batches(run: TrainingRun) -> list[list[int]]:
    count = len(run.splits.train)  # type: ignore[arg-type]
    draw = np.random.default_rng(derive_seed(run.config.seed, "modes"))
    rows = draw.permutation(count)[:LIMIT_ROWS].tolist()
    size = run.config.training.batch_size
    batches = [rows[start : start + size] for start in range(0, len(rows), size)]
    return batches[:-1] if len(batches) > 1 and len(batches[-1]) < size else batches


def _scores(run: TrainingRun, checkpoint: str) -> dict[str, float]:
    return {mode: _score(run, checkpoint, mode) for mode in ("eval", "train")}


def _score(run: TrainingRun, checkpoint: str, mode: str) -> float:
    fix_seeds(derive_seed(run.config.seed, "modes"))
    model = run.model(run.checkpoint(checkpoint))
    device = next(model.parameters()).device
    model.train(mode == "train")
    outputs, targets = [], []
    with torch.no_grad():
        for rows in _batches(run):
            samples = [run.splits.train[row] for row in rows]
            inputs, wanted = to_device(run.task.collate(samples), device)
            outputs.append(run.task.predict(model, inputs).float().cpu())
            targets.append(wanted.cpu())
    both = torch.cat(outputs).numpy(), torch.cat(targets).numpy()
    return scored(run.task, run.metric, *both)[run.metric.name]
