"""The same training by several loops: by hand, ours, and those of other frameworks.

Each loop is a function that sets everything up and returns the training itself: only that is timed.
All of them train for the same epochs on the same batches, validate after each and save a checkpoint
that training could go on from, at the defaults of their framework but for its progress bar.
"""

import importlib.util
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pytest_mltrainer import Config, Splits, Task
from pytest_mltrainer.training import permit as permit_module
from pytest_mltrainer.training.permit import Permit
from pytest_mltrainer.training.session import TrainingSession

EPOCHS = 20
Training = Callable[[], object]


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
    width = 950

    def model(self, config: Config) -> nn.Module:
        width = self.width
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(),
            nn.Linear(width, 10),
        )  # fmt: skip


class LargeMlp(Mlp):
    """10 M parameters on digits, batches of 128."""

    width = 3120


def configuration(task: Cnn) -> Config:
    training = {"epochs": EPOCHS, "batch_size": task.batch_size, "checkpoint_every": 1000}
    return Config.from_json({"device": "cpu", "training": training})


def session_of(task: Cnn, folder: Path) -> TrainingSession:
    """A session without a project: a benchmark proves nothing about a model."""
    permit = Permit("", None, permit_module._MADE_HERE)
    return TrainingSession._make(permit, configuration(task), task, folder)


def ours(task: Cnn, folder: Path) -> Training:
    """The built-in loop with telemetry, metrics, durable checkpoints."""
    return session_of(task, folder).run


def by_hand(task: Cnn, folder: Path) -> Training:
    """The loop that a PyTorch engineer writes."""
    model, train, validation = _parts(task)
    optimizer = _optimizer(model)

    def run() -> None:
        for _ in range(EPOCHS):
            model.train()
            right = seen = 0
            total = 0.0
            for inputs, targets in train:
                outputs = model(inputs)
                loss = nn.functional.cross_entropy(outputs, targets)
                loss.backward()
                optimizer.step()
                optimizer.zero_grad()
                total += loss.item()
                right += int((outputs.argmax(1) == targets).sum())
                seen += len(targets)
            model.eval()
            with torch.no_grad():
                for inputs, targets in validation:
                    nn.functional.cross_entropy(model(inputs), targets).item()
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(state, folder / "last.pt")

    return run


def lightning(task: Cnn, folder: Path) -> Training:
    """Lightning's Trainer."""
    import lightning.pytorch as pl

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = task.model(configuration(task))

        def training_step(self, batch: Any, index: int) -> torch.Tensor:
            loss = _loss(self.model, batch)
            self.log("loss", loss)
            return loss

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("validation", _loss(self.model, batch))

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return _optimizer(self)

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    _, train, validation = _parts(task)
    trainer = pl.Trainer(
        max_epochs=EPOCHS, accelerator="cpu", enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip
    return lambda: trainer.fit(Module(), train, validation)


def ignite(task: Cnn, folder: Path) -> Training:
    """ignite's Engine."""
    from ignite.engine import Events, create_supervised_evaluator, create_supervised_trainer
    from ignite.handlers import ModelCheckpoint
    from ignite.metrics import Accuracy, Loss, RunningAverage

    model, train, validation = _parts(task)
    optimizer, criterion = _optimizer(model), nn.CrossEntropyLoss()
    trainer = create_supervised_trainer(model, optimizer, criterion)
    RunningAverage(output_transform=lambda loss: loss).attach(trainer, "loss")
    metrics = {"accuracy": Accuracy(), "loss": Loss(criterion)}
    evaluator = create_supervised_evaluator(model, metrics)
    keeper = ModelCheckpoint(folder, require_empty=False)
    kept = {"model": model, "optimizer": optimizer}
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: evaluator.run(validation))
    trainer.add_event_handler(Events.EPOCH_COMPLETED, keeper, kept)
    return lambda: trainer.run(train, max_epochs=EPOCHS)


def accelerate(task: Cnn, folder: Path) -> Training:
    """A loop by hand with Accelerate."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    plain, batches, held_out = _parts(task)
    model, optimizer, train, validation = accelerator.prepare(
        plain, _optimizer(plain), batches, held_out
    )

    def run() -> None:
        for _ in range(EPOCHS):
            model.train()
            total = 0.0
            for batch in train:
                loss = _loss(model, batch)
                accelerator.backward(loss)
                optimizer.step()
                optimizer.zero_grad()
                total += loss.item()
            model.eval()
            with torch.no_grad():
                for batch in validation:
                    _loss(model, batch).item()
            accelerator.save_state(str(folder / "state"))

    return run


def hugging_face(task: Cnn, folder: Path) -> Training:
    """Hugging Face's Trainer."""
    from transformers import PrinterCallback, Trainer, TrainingArguments
    from transformers.utils import logging as their_logging

    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = task.model(configuration(task))

        def forward(self, inputs: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            outputs = self.model(inputs)
            return {"loss": nn.functional.cross_entropy(outputs, labels), "logits": outputs}

    def collate(samples: list[Any]) -> dict[str, torch.Tensor]:
        inputs, labels = zip(*samples, strict=True)
        return {"inputs": torch.stack(inputs), "labels": torch.stack(labels)}

    their_logging.set_verbosity_error()
    splits = task.data(configuration(task))
    arguments = TrainingArguments(
        output_dir=str(folder), num_train_epochs=EPOCHS, use_cpu=True, report_to="none",
        per_device_train_batch_size=task.batch_size, per_device_eval_batch_size=256,
        eval_strategy="epoch", save_strategy="epoch", disable_tqdm=True, learning_rate=1e-3,
    )  # fmt: skip
    trainer = Trainer(
        Wrapped(), arguments, data_collator=collate,
        train_dataset=splits.train, eval_dataset=splits.validation,
    )  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    return trainer.train


PEERS = {
    "lightning": ("lightning", lightning),
    "ignite": ("ignite", ignite),
    "accelerate": ("accelerate", accelerate),
    "hugging face": ("transformers", hugging_face),
}


def installed_peers() -> dict[str, Callable[[Cnn, Path], Training]]:
    """The loops of the frameworks that are installed here."""
    return {
        name: loop for name, (module, loop) in PEERS.items() if importlib.util.find_spec(module)
    }


def _parts(task: Cnn) -> tuple[nn.Module, "DataLoader[Any]", "DataLoader[Any]"]:
    torch.manual_seed(0)
    splits = task.data(configuration(task))
    train: DataLoader[Any] = DataLoader(splits.train, batch_size=task.batch_size, shuffle=True)
    validation: DataLoader[Any] = DataLoader(splits.validation, batch_size=256)
    return task.model(configuration(task)), train, validation


def _optimizer(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), lr=1e-3)


def _loss(model: nn.Module, batch: Any) -> torch.Tensor:
    inputs, targets = batch
    return nn.functional.cross_entropy(model(inputs), targets)
