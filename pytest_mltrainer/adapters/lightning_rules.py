"""What options, callbacks and modules of Lightning must not say, for the session says it."""

from collections.abc import Iterable, Iterator
from typing import Any

from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping
from lightning.pytorch.utilities.model_helpers import is_overridden

from pytest_mltrainer.adapters.governed import Governed, contradictions, in_config, refuse
from pytest_mltrainer.training.session import TrainingSession

METHODS = {
    "configure_optimizers": "define Task.optimizer(model, config), and set training.scheduler",
    "configure_gradient_clipping": in_config("clip_norm"),
    "train_dataloader": "define Task.data(config)",
}
"""What a module must not define, for it would train otherwise than the session; what instead."""
NEEDLESS = "it does that itself"
LENGTH = in_config("epochs")
VALIDATION = "define Task.metrics(outputs, targets)"
DEVICE = "write device in training_config.yaml"
PRECISION = "use torch.autocast in Task.predict, which validation and export share"


def governed(session: TrainingSession) -> dict[str, Governed]:
    """The trainer's options that the session governs."""
    training = session.config.training
    return {
        "max_epochs": Governed(training.epochs, LENGTH),
        "min_epochs": Governed(None, in_config("early_stopping")),
        "max_steps": Governed(-1, LENGTH),
        "min_steps": Governed(None, in_config("early_stopping")),
        "max_time": Governed(None, "set budgets in training_config.yaml"),
        "limit_train_batches": Governed(None, "let Task.data(config) give fewer samples"),
        "overfit_batches": Governed(0.0, "let Task.data(config) give fewer samples"),
        "fast_dev_run": Governed(False, "run `pytest --phase=planning`, which rehearses"),
        "limit_val_batches": Governed(0, VALIDATION),
        "num_sanity_val_steps": Governed(0, "run `pytest --phase=planning`, which rehearses"),
        "accumulate_grad_batches": Governed(training.accumulate, in_config("accumulate")),
        "gradient_clip_val": Governed(None, in_config("clip_norm")),
        "gradient_clip_algorithm": Governed(None, in_config("clip_norm")),
        "deterministic": Governed(None, in_config("deterministic_exceptions")),
        "benchmark": Governed(None, NEEDLESS),
        "logger": Governed(False, "read telemetry/ of the phase"),
        "enable_checkpointing": Governed(False, in_config("checkpoint_every or checkpoint_steps")),
        "enable_progress_bar": Governed(False, NEEDLESS),
        "enable_model_summary": Governed(False, NEEDLESS),
        "accelerator": Governed(session.device.type, DEVICE),
        "devices": Governed(1, DEVICE),
        "num_nodes": Governed(1, DEVICE),
        "strategy": Governed("auto", DEVICE),
        "precision": Governed("32-true", PRECISION),
        "plugins": Governed(None, PRECISION),
        "use_distributed_sampler": Governed(False, NEEDLESS),
        "reload_dataloaders_every_n_epochs": Governed(0, "define Task.data(config)"),
        "default_root_dir": Governed(str(session.output), NEEDLESS),
    }


def check(
    session: TrainingSession,
    module: LightningModule,
    callbacks: Iterable[Callback],
    options: dict[str, Any],
) -> None:
    """Raise UserError with everything that contradicts the session."""
    refuse("adapters.lightning.fit", contradictions(options, governed(session)))
    refuse("adapters.lightning.fit", _callback_problems(callbacks))
    refuse(type(module).__name__, _module_problems(session, module))


def _callback_problems(callbacks: Iterable[Callback]) -> Iterator[str]:
    for callback in callbacks:
        kinds = {EarlyStopping: "early_stopping", Checkpoint: "checkpoint_every"}
        for kind, key in kinds.items():
            if isinstance(callback, kind):
                yield (
                    f"found the callback {type(callback).__name__}, but the session governs that: "
                    f"{in_config(key)}, and leave the callback out"
                )


def _module_problems(session: TrainingSession, module: LightningModule) -> Iterator[str]:
    if not isinstance(module, LightningModule):
        yield (
            f"found a {type(module).__module__}.{type(module).__qualname__}, wanted a "
            "LightningModule of the package lightning: import lightning.pytorch"
        )
        return
    if not module.automatic_optimization:
        yield (
            "found automatic_optimization = False, wanted True: the session does every update. For "
            "updates of your own write the loop in Task.train, over session.batches()"
        )
    for name, instead in METHODS.items():
        if is_overridden(name, module):
            yield f"found {name}(), but the session governs that: {instead}, and take it out"
    held = {id(part) for part in session.model.parameters()}
    own = {id(part) for part in module.parameters()}
    if not held <= own:
        yield "found a model of its own, wanted session.model: give it to the module"
    strangers = [
        name
        for name, part in module.named_parameters()
        if part.requires_grad and id(part) not in held
    ]
    if strangers:
        yield (
            f"found parameters outside session.model, which nothing would train "
            f"({', '.join(strangers[:3])}): make them in Task.model(config)"
        )
