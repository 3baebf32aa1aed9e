"""The sections of `training_config.yaml`: every setting with its type, range, default, meaning."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_serializer,
    model_serializer,
)
from pydantic.json_schema import SkipJsonSchema

Name = Annotated[str, Field(min_length=1)]
# A tuple, because settings are frozen; not strict, so that a list of the file is accepted.
Names = Annotated[tuple[Name, ...], Field(strict=False)]
Choices = Annotated[tuple[bool | int | float | str, ...], Field(strict=False)]
Formats = Annotated[tuple[Name, ...], Field(strict=False, min_length=1)]
Count = Annotated[int, Field(ge=1, le=10**9)]
CountOrZero = Annotated[int, Field(ge=0, le=10**9)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
# NumPy's generator takes no larger seed.
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]


class Settings(BaseModel):
    """Strict and frozen: no unknown keys, no conversions, no NaN or infinity."""

    # Building the validators takes as long as importing the module: only when one is used.
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, defer_build=True
    )


class Objective(Settings):
    """What the model is judged by; frozen at planning."""

    metric: Name | None = Field(
        default=None, description="The metric that decides; null: the default of the task's kind."
    )
    target: float | None = Field(
        default=None, description="The value of the metric that is wanted; null: none is set."
    )
    direction: Literal["maximize", "minimize"] | None = Field(
        default=None, description="Which way is better; null: as the metric defines it."
    )
    margin: NotNegative = Field(
        default=0.01,
        description="How much worse than baseline or champion a release may be, in the metric.",
    )
    guards: dict[Name, NotNegative] = Field(
        default_factory=dict,
        description="Further metrics, and by how much each may get worse.",
    )


class EarlyStopping(Settings):
    """When training ends before its last epoch."""

    patience: Count = Field(description="Epochs without improvement after which training stops.")
    min_delta: NotNegative = Field(default=0.0, description="The least gain that counts.")


class Training(Settings):
    """How the built-in loop trains."""

    epochs: Count = Field(default=20, description="Passes over the training data.")
    batch_size: Count = Field(default=64, description="Samples in a batch.")
    optimizer: Literal["sgd", "adam", "adamw", "task"] = Field(
        default="adamw", description="The optimizer; task: the one that `Task.optimizer` makes."
    )
    learning_rate: float = Field(default=1e-3, gt=0, le=100, description="The first, or highest.")
    momentum: Share = Field(default=0.9, description="Momentum of sgd.")
    weight_decay: NotNegative = Field(default=0.01, description="Weight decay of the optimizer.")
    scheduler: Literal["none", "plateau", "step", "cosine", "onecycle"] = Field(
        default="none", description="How the learning rate changes."
    )
    scheduler_step_epochs: Count = Field(default=10, description="step: epochs between changes.")
    scheduler_gamma: float = Field(
        default=0.1, gt=0, le=1, description="step, plateau: factor of each change."
    )
    scheduler_patience: CountOrZero = Field(
        default=5, description="plateau: epochs without improvement before a change."
    )
    warmup_steps: CountOrZero = Field(default=0, description="Steps of linear warm-up.")
    clip_norm: Positive | None = Field(
        default=None, description="Largest norm of the gradient; null: no clipping."
    )
    accumulate: Count = Field(default=1, description="Batches whose gradients make one step.")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="Label smoothing.")
    class_weights: Literal["none", "balanced"] = Field(
        default="none", description="balanced: weights inverse to the class frequencies."
    )
    shuffle: bool = Field(default=True, description="Whether training batches are shuffled.")
    loader_workers: int = Field(default=0, ge=0, le=64, description="Processes that load data.")
    early_stopping: EarlyStopping | None = Field(
        default=None, description="When to stop early; null: never."
    )
    checkpoint_every: Count = Field(default=5, description="Epochs between periodic checkpoints.")
    checkpoint_steps: Count | None = Field(
        default=None, description="Updates between checkpoints within an epoch; null: none."
    )
    digest_every: Count = Field(
        default=100, description="Steps between digests of gradients and parameters."
    )
    deterministic_exceptions: Names = Field(
        default=(), description="Operations in use that have no deterministic form."
    )
    unused_parameters: Names = Field(
        default=(), description="Name patterns of parameters that need no gradient."
    )


class PhaseOverrides(Settings):
    """What one phase does otherwise. Only the training keys that are given count."""

    training: Training | None = Field(
        default=None, description="Training keys that differ; the others stay as in `training`."
    )
    seed: Seed | None = Field(default=None, description="The seed; null: the one of the project.")
    patch: SkipJsonSchema[dict[str, Any]] = Field(
        default_factory=dict, description="Set by the pipeline alone: what optimization has found."
    )

    @field_serializer("training")
    def _only_given(self, training: Training | None) -> dict[str, object] | None:
        # A default that was not given must not come back as an override.
        return None if training is None else training.model_dump(mode="json", exclude_unset=True)

    @model_serializer(mode="wrap")
    def _without_empty_patch(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = serialize(self)
        return values if values["patch"] else {k: v for k, v in values.items() if k != "patch"}


class Phases(Settings):
    """Overrides by phase; planning and diagnostics use those of the baseline."""

    baseline: PhaseOverrides | None = Field(default=None, description="Planning to diagnostics.")
    optimization: PhaseOverrides | None = Field(default=None, description="Trials and winner.")
    finalization: PhaseOverrides | None = Field(default=None, description="The final training.")


class SearchRange(Settings):
    """The values that the search tries for one key: a range, or a list of choices."""

    low: float | None = Field(default=None, description="The smallest value.")
    high: float | None = Field(default=None, description="The largest value.")
    log: bool = Field(default=False, description="Whether magnitudes are searched evenly.")
    choices: Choices = Field(default=(), description="The values themselves, instead of a range.")


class Optimization(Settings):
    """How the optimization phase searches, and how it proves what it found."""

    rounds: int = Field(default=3, ge=1, le=3, description="Rounds of diagnosis and trials.")
    trials: Count = Field(default=12, description="Trials of a round, recommended ones included.")
    seeds: int = Field(
        default=3, ge=3, le=50, description="Fresh seeds that winner and baseline are compared on."
    )
    jobs: int = Field(default=1, ge=1, le=64, description="Trials at the same time.")
    pruner: Literal["none", "median", "hyperband"] = Field(
        default="median", description="What ends hopeless trials early."
    )
    storage: Name | None = Field(
        default=None,
        description="URL of an Optuna storage that machines share, with ${VARIABLES} of the "
        "environment; null: a journal.",
    )
    search: dict[Name, SearchRange] = Field(
        default_factory=dict, description="Dotted keys to search; empty: around the best patch."
    )


class Budgets(Settings):
    """How long things may take. What would take longer stops and says so."""

    baseline_minutes: Positive = Field(default=60.0, description="Baseline training.")
    diagnosis_minutes: Positive = Field(
        default=30.0, description="The trainings of the diagnosis on parts of the data."
    )
    optimization_minutes: Positive = Field(
        default=60.0, description="The trials of one round of optimization."
    )
    seeds_minutes: Positive = Field(
        default=60.0, description="The trainings of one round on fresh seeds."
    )
    worker_timeout_minutes: Positive = Field(
        default=1440.0, description="After this a worker is ended, whatever it does."
    )


class Launch(Settings):
    """How the processes that train are started."""

    kind: Name = Field(
        default="local", description="local, torchrun, or the name of a plugin's launcher."
    )
    processes: Count = Field(default=1, description="torchrun: processes on each node.")
    nodes: Count = Field(default=1, description="torchrun: machines that train together.")
    rendezvous: str | None = Field(
        default=None,
        pattern=r"^[^\s:]+:[0-9]{1,5}$",
        description="host:port of the first node, where the others meet it; null: one node.",
    )


class Limits(Settings):
    """The limits that the checks judge by."""

    probe_steps: int = Field(
        default=20,
        ge=1,
        le=200,
        description="Steps that are compared bit by bit between two processes.",
    )
    max_content_duplicates: Share = Field(
        default=0.001,
        description="Share of samples with equal content in two splits, beyond chance.",
    )
    min_train_rows_per_class: CountOrZero = Field(
        default=30, description="Training samples below which a class is called small."
    )
    tiny_batch_loss_share: float = Field(
        default=0.1, gt=0, lt=1, description="What may remain of the loss of one tiny batch."
    )
    max_metric_difference: NotNegative = Field(
        default=1e-6, description="Relative, between a logged and the recomputed metric."
    )
    max_wait_share: Share = Field(
        default=0.30, description="Share of the step time spent waiting for data."
    )
    wait_judged_after_minutes: NotNegative = Field(
        default=10.0, description="Runs shorter than this are not judged by their waiting."
    )
    max_val_test_gap_points: NotNegative = Field(
        default=5.0, description="Percentage points by which validation may beat test."
    )
    max_val_test_gap_sd: NotNegative = Field(
        default=0.05, description="The same for regression, in target standard deviations."
    )
    max_train_val_gap_points: NotNegative = Field(
        default=20.0,
        description="Percentage points by which training may beat validation in an optimized "
        "model, where it does not in the baseline.",
    )
    max_train_val_gap_sd: NotNegative = Field(
        default=0.5, description="The same for regression, in target standard deviations."
    )
    max_time_ratio: Positive = Field(
        default=2.0, description="Time of an epoch of an optimized model, over the baseline's."
    )
    max_memory_ratio: Positive = Field(
        default=2.0, description="Peak memory of its training, over the baseline's."
    )
    min_class_recall: Share = Field(default=0.5, description="Recall that each class must reach.")
    min_samples_per_class: Count = Field(
        default=20, description="Samples below which the recall of a class is not decidable."
    )
    max_flip_share: Share = Field(
        default=0.005, description="Share of predictions that an export may change."
    )
    max_quantisation_loss: Share = Field(
        default=0.01, description="Share of the metric that an export in int8 may lose."
    )
    latency_p95_ms: Positive | None = Field(
        default=None, description="95th percentile of the latency at batch size 1; null: no limit."
    )


class Export(Settings):
    """In which formats the final model is delivered."""

    formats: Formats = Field(default=("onnx",), description="Each is written, loaded, compared.")


class Documents(Settings):
    """Which documents are written besides those that every final model has."""

    profile: Literal["none", "eu-ai-act"] = Field(
        default="none",
        description="eu-ai-act: a technical documentation in the structure of Annex IV as well.",
    )


class Release(Settings):
    """What a release is judged by besides the model: own tests, scanners, the clean room."""

    registry: Name = Field(
        default="releases", description="The folder of released models, in the project."
    )
    tests: Names = Field(
        default=(), description="Arguments of pytest for the project's own tests; none: all."
    )
    tests_minutes: Positive = Field(default=10.0, description="How long those tests may take.")
    scanners: Names = Field(
        default=(), description="Result files of scanners, SARIF or JUnit, that must be clean."
    )
    scanner_days: Positive = Field(default=7.0, description="Results older than this are stale.")
    not_secrets: Names = Field(
        default=(), description="Patterns of files in which what looks like a secret is none."
    )
    clean_room_minutes: Positive = Field(
        default=10.0, description="How long installing the deployment lock may take."
    )


SignedRole = Literal["review", "technical", "product", "compliance"]


class Approval(Settings):
    """Who has to sign before a release."""

    not_applicable: dict[SignedRole, Name] = Field(
        default_factory=dict,
        description="Roles that need not sign, each with the reason; all others must.",
    )
    days_valid: int = Field(
        default=30, ge=1, le=3650, description="Days for which a signature holds."
    )
