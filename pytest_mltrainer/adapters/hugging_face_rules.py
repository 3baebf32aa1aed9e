"""What `TrainingArguments` must not say, for the session says it."""

from enum import Enum

from transformers import TrainingArguments

from pytest_mltrainer.adapters.governed import Governed, contradictions, in_config, refuse
from pytest_mltrainer.training.session import TrainingSession


def governed(session: TrainingSession) -> dict[str, Governed]:
    """The arguments that the session governs."""
    training = session.config.training
    evaluation = "define Task.metrics(outputs, targets)"
    saving = in_config("checkpoint_every or checkpoint_steps")
    precision = "use torch.autocast in Task.predict, which validation and export share"
    seed = "write seed in training_config.yaml"
    optimizer = in_config("optimizer, or define Task.optimizer(model, config)")
    return {
        "num_train_epochs": Governed(training.epochs, in_config("epochs")),
        "max_steps": Governed(-1, in_config("epochs")),
        "per_device_train_batch_size": Governed(training.batch_size, in_config("batch_size")),
        "auto_find_batch_size": Governed(False, in_config("batch_size")),
        "gradient_accumulation_steps": Governed(training.accumulate, in_config("accumulate")),
        "learning_rate": Governed(training.learning_rate, in_config("learning_rate")),
        "weight_decay": Governed(training.weight_decay, in_config("weight_decay")),
        "optim": Governed("adamw_torch", optimizer),
        "lr_scheduler_type": Governed("constant", in_config("scheduler")),
        "warmup_steps": Governed(0, in_config("warmup_steps")),
        "max_grad_norm": Governed(0.0, in_config("clip_norm")),
        "label_smoothing_factor": Governed(0.0, in_config("label_smoothing")),
        "seed": Governed(session.seed, seed),
        "data_seed": Governed(None, seed),
        "full_determinism": Governed(False, "nothing: it is deterministic"),
        "dataloader_num_workers": Governed(training.loader_workers, in_config("loader_workers")),
        "save_strategy": Governed("no", saving),
        "load_best_model_at_end": Governed(False, saving),
        "enable_jit_checkpoint": Governed(False, saving),
        "eval_strategy": Governed("no", evaluation),
        "eval_on_start": Governed(False, evaluation),
        "report_to": Governed([], "read telemetry/ of the phase"),
        "push_to_hub": Governed(False, "release what finalization has passed"),
        "disable_tqdm": Governed(True, "it shows its own progress"),
        "fp16": Governed(False, precision),
        "bf16": Governed(False, precision),
        "torch_compile": Governed(False, "compile in Task.model(config)"),
    }


def check(session: TrainingSession, arguments: TrainingArguments, plain: TrainingArguments) -> None:
    """Raise UserError with everything that contradicts the session.

    What stands as in `plain`, which was made from defaults, was not said by the user.
    """
    said = {
        name: getattr(arguments, name)
        for name in governed(session)
        if getattr(arguments, name) != getattr(plain, name)
    }
    given = {name: part.value if isinstance(part, Enum) else part for name, part in said.items()}
    problems = contradictions(given, governed(session))
    where, wanted = arguments.device, session.device
    if (where.type, where.index or 0) != (wanted.type, wanted.index or 0):
        problems.append(
            f"found the device {where}, wanted {wanted}: write that device in "
            "training_config.yaml, or use_cpu=True here for the CPU"
        )
    if arguments.n_gpu > 1:
        problems.append(f"found {arguments.n_gpu} GPUs, wanted one: set CUDA_VISIBLE_DEVICES")
    refuse("TrainingArguments", problems)
