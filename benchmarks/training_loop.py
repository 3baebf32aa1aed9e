"""The built-in loop with its telemetry against a hand-written DataLoader loop, and Lightning's.

CPU time of whole epochs, interleaved, one thread; printed are medians of the ratios of neighbours.
Ratios of whole epochs are noisy (some 8 %), so the telemetry is timed by itself too: the time spent
in the observer's own hooks against the rest of the step.

    python benchmarks/training_loop.py [--rounds 9]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pytest_mltrainer import Config, Splits, Task
from pytest_mltrainer.training.observer import Observer
from pytest_mltrainer.training.session import TrainingSession

EPOCHS = 6
# Rehearsals are the sessions that need no project; this one may be as long as the benchmark.
STEPS = 200


class Cnn(Task):
    """19 k parameters on digits, batches of 64."""

    batch_size = 64

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(512, 28),
            nn.ReLU(),
            nn.Linear(28, 10),
        )

    def data(self, config: Config) -> Splits:
        features, labels = load_digits(return_X_y=True)
        images = torch.tensor(features / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
        whole = TensorDataset(images, torch.tensor(labels))
        few = TensorDataset(images[:64], torch.tensor(labels[:64]))
        return Splits(train=whole, validation=few, test=few)


class Mlp(Cnn):
    """1 M parameters on digits, batches of 128."""

    batch_size = 128

    def model(self, config: Config) -> nn.Module:
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 950), nn.ReLU(), nn.Linear(950, 950), nn.ReLU(),
            nn.Linear(950, 10),
        )  # fmt: skip


def configuration(task: Cnn) -> Config:
    training = {"epochs": EPOCHS, "batch_size": task.batch_size, "checkpoint_every": 1000}
    return Config.from_json({"device": "cpu", "training": training})


def ours(task: Cnn) -> None:
    """Whole epochs of the built-in loop, telemetry and validation included."""
    with tempfile.TemporaryDirectory() as folder:
        session = TrainingSession.rehearse(configuration(task), task, Path(folder), steps=STEPS)
        session.run()


def by_hand(task: Cnn) -> None:
    """The loop that a PyTorch engineer writes: train, validate, keep the last weights."""
    config = configuration(task)
    torch.manual_seed(0)
    splits = task.data(config)
    model = task.model(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loader: DataLoader[Any] = DataLoader(splits.train, batch_size=task.batch_size, shuffle=True)
    done = 0
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(EPOCHS):
            model.train()
            right = seen = 0
            total = 0.0
            for inputs, targets in loader:
                if done == STEPS:
                    return
                outputs = model(inputs)
                loss = nn.functional.cross_entropy(outputs, targets)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                total += loss.item()
                right += int((outputs.argmax(1) == targets).sum())
                seen += len(targets)
                done += 1
            model.eval()
            with torch.no_grad():
                for inputs, targets in DataLoader(splits.validation, batch_size=256):
                    nn.functional.cross_entropy(model(inputs), targets).item()
            torch.save(model.state_dict(), Path(folder) / "last.pt")


def lightning(task: Cnn) -> None:
    """Lightning's Trainer at its defaults, without its progress bar."""
    import lightning.pytorch as pl

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = task.model(configuration(task))

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            inputs, targets = batch
            loss = nn.functional.cross_entropy(self.model(inputs), targets)
            self.log("loss", loss)
            return loss

        def validation_step(self, batch: Any, index: int) -> None:
            inputs, targets = batch
            self.log("validation", nn.functional.cross_entropy(self.model(inputs), targets))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=1e-3)

    splits = task.data(configuration(task))
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            max_epochs=EPOCHS, accelerator="cpu", enable_progress_bar=False, logger=True,
            enable_model_summary=False, default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(
            Module(),
            DataLoader(splits.train, batch_size=task.batch_size, shuffle=True),
            DataLoader(splits.validation, batch_size=256),
        )


def cpu_time(work: Callable[[Cnn], None], task: Cnn) -> float:
    start = time.process_time()
    work(task)
    return time.process_time() - start


def telemetry_share(task: Cnn) -> float:
    """Time in the observer's hooks against the time of the steps without them."""
    spent = 0.0
    originals = (Observer._before_step, Observer._after_step)

    def timed(method: Callable[..., None]) -> Callable[..., None]:
        def wrapper(*args: Any) -> None:
            nonlocal spent
            start = time.perf_counter()
            method(*args)
            spent += time.perf_counter() - start

        return wrapper

    Observer._before_step, Observer._after_step = map(timed, originals)  # type: ignore[method-assign]
    start = time.perf_counter()
    try:
        ours(task)
    finally:
        Observer._before_step, Observer._after_step = originals  # type: ignore[method-assign]
    return spent / (time.perf_counter() - start - spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    loops: dict[str, Callable[[Cnn], None]] = {"pytest-mltrainer": ours}
    try:
        import lightning.pytorch

        loops["lightning"] = lightning
    except ImportError:
        print("lightning is not installed: pip install 'lightning!=2.6.2,!=2.6.3' to compare")
    for task in (Cnn(), Mlp()):
        for work in (by_hand, *loops.values()):
            work(task)
        ratios: dict[str, list[float]] = {name: [] for name in loops}
        for _ in range(rounds):
            for name, work in loops.items():
                before = cpu_time(by_hand, task)
                measured = cpu_time(work, task)
                after = cpu_time(by_hand, task)
                ratios[name].append(2 * measured / (before + after))
        print(f"{type(task).__name__}: {task.__doc__}")
        for name, values in ratios.items():
            spread = f"{min(values):.3f} to {max(values):.3f}"
            print(f"  {name:18} {statistics.median(values):.3f} x by hand ({spread})")
        share = statistics.median(telemetry_share(task) for _ in range(3))
        print(f"  telemetry alone    {1 + share:.3f} x a step")


if __name__ == "__main__":
    main()
