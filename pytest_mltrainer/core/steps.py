"""The steps that a phase's work is made of, and which inputs make each of them stale.

Only what is stale is redone. A step also goes stale with the steps that it `needs`; the steps of
other phases count by the digests of the artifacts that it uses (`upstream`).
"""

from collections.abc import Iterable
from dataclasses import dataclass

NUMERICS_VERSION = 2
"""Raised when a change of ours changes trained numbers, the only one that causes retraining."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step, and the configuration, code, data, numerics and artifacts it is made of.

    `texts` are files of the project that people write for the documents.
    """

    name: str
    config: tuple[str, ...] = ()
    code: bool = True
    data: bool = True
    numerics: bool = False
    upstream: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


_TRAINING = ("seed", "device", "threads", "objective", "training", "model", "data")

_PROCESSES = ("launch.processes", "launch.nodes")
"""How many processes share a batch changes the numbers; how they are started does not."""

EVIDENCE = (
    "baseline/telemetry/steps.rec",
    "baseline/telemetry/epochs.jsonl",
    "baseline/telemetry/layers.rec",
    "baseline/telemetry/layers.json",
    "baseline/fault.json",
    "baseline/checkpoints/best.pt",
    "baseline/checkpoints/last.pt",
    "baseline/diagnoses.json",
    "planning/data_profile.json",
    "planning/rehearsal/first.json",
)
"""What a diagnosis reads; a run that broke lacks some of it, a sound one the fault."""

TOPICS = ("purpose", "users", "limitations", "contacts")
"""What only people know of a model; `docs/model/` has a file for each."""
PROFILE_TOPICS = {"none": (), "eu-ai-act": ("eu_ai_act",)}
"""What a profile of the documents asks for besides."""

STEPS: dict[str, tuple[Step, ...]] = {
    "planning": (
        Step(name="data", config=("seed", "data")),
        Step(
            name="rehearse",
            config=(*_TRAINING, "limits.probe_steps"),
            numerics=True,
            needs=("data",),
        ),
        Step(
            name="record",
            config=(*_TRAINING, "phases", "export"),
            needs=("data", "rehearse"),
        ),
    ),
    "baseline": (
        Step(
            name="train",
            config=(*_TRAINING, *_PROCESSES),
            numerics=True,
            upstream=("planning/splits.json",),
        ),
        Step(name="evaluate", config=("objective",), needs=("train",)),
        Step(name="diagnose", config=("objective",), needs=("train", "evaluate")),
        Step(name="documents", config=("objective",), needs=("train", "evaluate", "diagnose")),
    ),
    "diagnostics": (
        Step(
            name="bottleneck",
            config=_TRAINING,
            numerics=True,
            upstream=("planning/splits.json", "baseline/fault.json"),
        ),
        Step(
            name="capacity",
            config=(*_TRAINING, "budgets.diagnosis_minutes"),
            numerics=True,
            upstream=("planning/splits.json", *EVIDENCE),
        ),
        Step(name="diagnose", config=("objective",), upstream=EVIDENCE, needs=("capacity",)),
        # The preview holds the whole configuration, so it goes stale with any of it.
        Step(
            name="documents",
            config=(*_TRAINING, "launch", "optimization", "budgets", "limits", "export"),
            upstream=("planning/config_resolved.json",),
            needs=("bottleneck", "capacity", "diagnose"),
        ),
    ),
    "optimization": (
        # A trial is its own worker, so all of them are one step: those that stay are kept by it.
        Step(
            name="search",
            config=(
                *_TRAINING,
                *_PROCESSES,
                "optimization",
                "budgets.optimization_minutes",
                "budgets.seeds_minutes",
            ),
            numerics=True,
            upstream=(
                "planning/splits.json",
                "baseline/checkpoints/best.pt",
                "diagnostics/diagnosis.json",
                "diagnostics/recommendations.json",
            ),
        ),
        # What was found is shown in the whole configuration, so it goes stale with any of it.
        Step(
            name="documents",
            config=(*_TRAINING, "launch", "optimization", "budgets", "limits", "export"),
            upstream=("planning/config_resolved.json",),
            needs=("search",),
        ),
    ),
    "finalization": (
        Step(
            name="train",
            config=(*_TRAINING, *_PROCESSES),
            numerics=True,
            upstream=("planning/splits.json",),
        ),
        Step(name="evaluate", config=("objective",), needs=("train",)),
        Step(name="export", config=("export",), needs=("train",)),
        # The monitor is calibrated on the predictions, and alarms at the limit of the latency.
        Step(
            name="service",
            config=("objective", "export", "limits.latency_p95_ms"),
            needs=("train", "evaluate", "export"),
        ),
        Step(
            name="documents",
            config=("objective", "training", "seed", "documents"),
            texts=tuple(f"docs/model/{topic}.md" for topic in TOPICS),
            needs=("train", "evaluate", "export", "service"),
        ),
    ),
}
"""Phases that this version can do, in their order."""


def with_dependents(phase: str, stale: Iterable[str]) -> tuple[str, ...]:
    """The stale steps and every step of the phase that needs one of them, in order."""
    redo: set[str] = set(stale)
    for step in STEPS[phase]:
        if redo.intersection(step.needs):
            redo.add(step.name)
    return tuple(step.name for step in STEPS[phase] if step.name in redo)
