"""What planning tries before it lets anything train: k steps with digests, and probes of the model.

Each rehearsal runs in a fresh process; two of them must agree bit for bit.
"""

import hashlib
import itertools
import math
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, get_worker_info

from pytest_mltrainer.core import files
from pytest_mltrainer.core.config import Config, apply_patch
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.core.work import WorkRequest
from pytest_mltrainer.training.batches import TrainingLoader, to_device
from pytest_mltrainer.training.checkpoints import Checkpoint
from pytest_mltrainer.training.data.profile import profile_model
from pytest_mltrainer.training.observation.observer import AfterUpdate, named_gradients
from pytest_mltrainer.training.probes import UpdateWatcher, probe
from pytest_mltrainer.training.reproducibility import (
    RngState,
    derive_seed,
    digest_nested,
    digest_tensor,
    digest_tensors,
    fix_seeds,
    make_deterministic,
    numerics_fingerprint,
)
from pytest_mltrainer.training.session import TrainingSession
from pytest_mltrainer.training.task import Task, load_task
from pytest_mltrainer.training.tracking import project_code

LOADER_BATCHES = 5
TINY_BATCH = 8
TINY_STEPS = 200
TINY_RATES = (1e-3, 1e-2, 1e-1)


def rehearse(request: WorkRequest) -> dict[str, Any]:
    """The worker's entry: `arguments.role` is `first` (everything) or `second` (the repetition)."""
    project = Project.load(Path(request.project_root))
    config = Config.from_json(request.config).for_phase("planning")
    make_deterministic(threads=config.threads, exceptions=config.training.deterministic_exceptions)
    found: dict[str, Any] = {"draws": _draws(config.seed)}
    task = load_task(project.task)
    steps = config.limits.probe_steps
    started = time.perf_counter()
    with told():
        found["steps"], session = trained_steps(task, config, request.folder / "main", steps)
    found["step_s"] = (time.perf_counter() - started) / max(len(found["steps"]), 1)
    found["updates_per_epoch"] = session.updates_per_epoch
    found["fault"] = session.fault
    found["loaders"] = loader_digests(task, config, session)
    found["worker_draws"] = _worker_draws(config.seed)
    numerics = numerics_fingerprint(session.device)
    found["environment"] = {
        **numerics,
        "loader workers": str(config.training.loader_workers),
    }
    if request.arguments["role"] == "first":
        found["determinism"] = _determinism()
        found["numerics"] = numerics
        found["code"] = list(project_code(project))
        found["data"] = list(session.data_files)
        found["model"] = profile_model(session.model)
        found |= _controls(task, config, request.folder, steps)
        found["forward"] = _forward(task, config, session)
        found["trainable"] = _trainable(task, config, session)
        found["probes"] = probe(task, config, session)
        found["config_reads"] = sorted(config.reads)
    files.write_json(request.folder / "rehearsal.json", found)
    return {}


def _draws(seed: int) -> dict[str, str]:
    """Numbers from every generator, and a hash of a text, right after seeding."""
    fix_seeds(seed)
    draws = {
        "random": repr([random.random() for _ in range(4)]),
        "numpy": repr(np.random.rand(4).tolist()),
        "torch": repr(torch.rand(4).tolist()),
        "hash": str(hash("pytest-mltrainer")),
    }
    if torch.cuda.is_available():
        draws["cuda"] = repr(torch.rand(4, device="cuda").tolist())
    return draws


@contextmanager
def told() -> Iterator[None]:
    """Name an operation without a deterministic form, and what to do. Raises UserError for it."""
    try:
        yield
    except RuntimeError as error:
        found = re.match(r"(?:Deterministic|(\S+) does not have a deterministic)", str(error))
        if found is None:
            raise
        name = found[1] or "a CUDA operation"
        message = (
            f"{name} has no deterministic form here, so no run of it can be repeated bit for bit: "
            "compute it in another way, or declare it in training_config.yaml, training: "
            f"deterministic_exceptions: [{found[1] or 'its name'}] ({error})"
        )
        raise UserError(message).with_traceback(error.__traceback__) from error


def trained_steps(
    task: Task,
    config: Config,
    output: Path,
    steps: int,
    *,
    checkpoint: Checkpoint | None = None,
    prepared: Callable[[TrainingSession], None] | None = None,
) -> tuple[list[dict[str, str]], TrainingSession]:
    """Digests of what the first `steps` updates drew, read and computed.

    With a `checkpoint`: of those behind it. `prepared` sees the session before it trains.
    """
    session = TrainingSession.rehearse(config, task, output, steps=steps)
    if checkpoint is not None:
        session.resume(checkpoint)
    if prepared is not None:
        prepared(session)
    digests: list[dict[str, str]] = []

    def record(step: int, optimizer: torch.optim.Optimizer) -> None:
        state = session.optimizer.state_dict()["state"]
        digests.append(
            {
                "rng": RngState.capture().digest(),
                "batch": digest_nested(session.batch),
                "loss": float(session.observer.last_loss).hex(),
                "gradients": digest_tensors(named_gradients(session.model, optimizer)),
                "parameters": digest_tensors(session.model.state_dict()),
                "optimizer": hashlib.sha256(digest_nested(state).encode()).hexdigest(),
            }
        )

    session.observer.watchers += [UpdateWatcher(session.model), AfterUpdate(record)]
    session.run()
    return digests, session


def loader_digests(task: Task, config: Config, session: TrainingSession) -> dict[str, list[str]]:
    """Digests of the first batches of an epoch, by number of loader workers."""
    found = {}
    for workers in sorted({0, config.training.loader_workers}):
        fix_seeds(derive_seed(config.seed, "epoch", 0))
        loader = TrainingLoader(
            task, session.splits.train, config, seed=config.seed, workers=workers
        )
        batches = itertools.islice(loader.epoch(0), LOADER_BATCHES)
        found[str(workers)] = [digest_nested(batch) for batch in batches]
    return found


class _Draws(Dataset[tuple[int, float]]):
    """Samples that say which worker made them, and what NumPy drew there."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> tuple[int, float]:
        worker = get_worker_info()
        return (worker.id if worker else -1), float(np.random.rand())


def _worker_draws(seed: int) -> dict[str, str]:
    """The first number that NumPy draws in each of two loader workers."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "loader", 0))
    loader: DataLoader[Any] = DataLoader(
        _Draws(), batch_size=None, num_workers=2, generator=generator
    )
    return {str(worker): repr(drawn) for worker, drawn in loader}


def _controls(task: Task, config: Config, folder: Path, steps: int) -> dict[str, str]:
    """Final parameters after the same steps with another seed, and with another learning rate."""
    found = {}
    patches: dict[str, dict[str, Any]] = {
        "other_seed": {"seed": config.seed + 1},
        "other_learning_rate": {"training.learning_rate": config.training.learning_rate * 1.5},
    }
    for name, patch in patches.items():
        changed = apply_patch(config, patch)
        digests, _ = trained_steps(task, changed, folder / name, steps)
        found[name] = digests[-1]["parameters"] if digests else ""
    return found


def _determinism() -> dict[str, Any]:
    """What is really switched on in this process, and whether it bites."""
    try:
        torch.zeros(4).put_(torch.tensor([0, 0]), torch.ones(2))
        raised = False
    except RuntimeError:
        raised = True
    return {
        "algorithms": torch.are_deterministic_algorithms_enabled(),
        "warn_only": torch.is_deterministic_algorithms_warn_only_enabled(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cublas_workspace": os.environ.get("CUBLAS_WORKSPACE_CONFIG", ""),
        "threads": torch.get_num_threads(),
        "nondeterministic_operation_raised": raised,
    }


def _forward(task: Task, config: Config, session: TrainingSession) -> dict[str, Any]:
    """Shapes, finiteness, agreement of batch 1 with batch B, and independence of samples."""
    model = _fresh_model(task, config, session)
    dataset = session.splits.validation
    size = min(config.training.batch_size, len(dataset), 16)  # type: ignore[arg-type]
    samples = [dataset[index] for index in range(size)]
    model.eval()
    with torch.no_grad():
        whole, targets = _predict(task, model, samples, session)
        # The last sample and the reverse order: a recurrent layer that takes the batch for time
        # lets samples influence only those behind them.
        single, _ = _predict(task, model, samples[-1:], session)
        reverse, _ = _predict(task, model, samples[::-1], session)
        # Another batch is summed in another order: what that may change at most in this model.
        for part in model.parameters():
            if part.dtype in (torch.float32, torch.float64):
                part.copy_(torch.nextafter(part, torch.full_like(part, math.inf)))
        rounded, _ = _predict(task, model, samples, session)
    return {
        "batch_size": size,
        "output_shape": list(whole.shape),
        "output_dtype": str(whole.dtype),
        "target_shape": list(targets.shape),
        "target_dtype": str(targets.dtype),
        "finite": bool(torch.isfinite(whole).all()),
        "scale": float(torch.nan_to_num(whole).abs().max()),
        "single_difference": _difference(whole[-1:], single),
        "mixing_difference": _difference(whole, reverse.flip(0)),
        "rounding_difference": _difference(whole, rounded),
    }


def _trainable(task: Task, config: Config, session: TrainingSession) -> dict[str, Any]:
    """Which parameters get a gradient and an optimizer; whether a tiny batch can be learned."""
    samples = [
        session.splits.train[index]
        for index in range(min(TINY_BATCH, len(session.splits.train)))  # type: ignore[arg-type]
    ]
    model = _fresh_model(task, config, session)
    model.train()
    inputs, targets = to_device(task.collate(samples), session.device)
    task.loss(task.predict(model, inputs), targets, config).backward()
    named = {name: part for name, part in model.named_parameters() if part.requires_grad}
    optimizer = task.optimizer(model, config)
    held = [id(part) for group in optimizer.param_groups for part in group["params"]]
    first, best, rate = _learn_tiny_batch(task, config, session, samples)
    return {
        "without_gradient": [name for name, part in named.items() if part.grad is None],
        "non_finite_gradient": [
            name
            for name, part in named.items()
            if part.grad is not None and not bool(torch.isfinite(part.grad).all())
        ],
        "not_in_optimizer": [name for name, part in named.items() if id(part) not in held],
        "twice_in_optimizer": [name for name, part in named.items() if held.count(id(part)) > 1],
        "parameters": len(named),
        "tiny_batch": len(samples),
        "first_loss": str(first),
        "best_loss": str(best),
        "best_rate": rate,
    }


def _learn_tiny_batch(
    task: Task, config: Config, session: TrainingSession, samples: list[Any]
) -> tuple[float, float, float]:
    """Initial and lowest loss on a few samples over three learning rates; dropout is off."""
    plain = apply_patch(config, {"training.label_smoothing": 0.0})
    inputs, targets = to_device(task.collate(samples), session.device)
    first, best, best_rate = math.nan, math.inf, TINY_RATES[0]
    for rate in TINY_RATES:
        model = _fresh_model(task, config, session)
        model.train()
        optimizer = torch.optim.Adam(model.parameters(), lr=rate)
        with _dropout_off(model):
            for step in range(TINY_STEPS):
                optimizer.zero_grad()
                loss = task.loss(task.predict(model, inputs), targets, plain)
                value = float(loss.detach())
                if step == 0 and math.isnan(first):
                    first = value
                if value < best:
                    best, best_rate = value, rate
                if not math.isfinite(value) or best <= 0.05 * abs(first):
                    break
                loss.backward()
                optimizer.step()
        if best <= 0.05 * abs(first):
            break
    return first, best, best_rate


@contextmanager
def _dropout_off(model: nn.Module) -> Iterator[None]:
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
    yield


def _fresh_model(task: Task, config: Config, session: TrainingSession) -> nn.Module:
    fix_seeds(derive_seed(config.seed, "model"))
    return task.model(config).to(session.device)


def _predict(
    task: Task, model: nn.Module, samples: list[Any], session: TrainingSession
) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, targets = to_device(task.collate(samples), session.device)
    return task.predict(model, inputs), targets


def _difference(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest absolute difference; 0 for equal bits, so that NaN beside NaN is no difference."""
    if digest_tensor(one) == digest_tensor(other):
        return 0.0
    return float(torch.nan_to_num((one.float() - other.float()).abs(), nan=1e30).max())
