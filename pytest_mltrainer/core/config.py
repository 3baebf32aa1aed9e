"""`training_config.yaml` as frozen values: strict, except the user's own `model` and `data`."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, WithJsonSchema, field_serializer, field_validator
from pydantic import ValidationInfo as Info

from pytest_mltrainer.core.config_problems import free_problems, schema_problems, shown
from pytest_mltrainer.core.document import Document, Problem
from pytest_mltrainer.core.section import Section, flatten, plain
from pytest_mltrainer.core.settings import (
    Approval,
    Budgets,
    Documents,
    Export,
    Launch,
    Limits,
    Objective,
    Optimization,
    Phases,
    Release,
    Seed,
    Settings,
    Training,
)
from pytest_mltrainer.core.strict_yaml import load_yaml

__all__ = [
    "Approval",
    "Budgets",
    "Config",
    "Export",
    "Launch",
    "Limits",
    "Objective",
    "Optimization",
    "Release",
    "Section",
    "Training",
    "apply_patch",
    "flatten",
    "json_schema",
    "load_config",
]

FREE_SECTIONS = ("model", "data")
OVERRIDES = {
    "planning": ("baseline",),
    "baseline": ("baseline",),
    "diagnostics": ("baseline",),
    "optimization": ("baseline", "optimization"),
    "finalization": ("finalization",),
}
"""Whose overrides a phase obeys, the later before the earlier."""

FreeSection = Annotated[Section, WithJsonSchema({"type": "object"})]
Device = Annotated[
    str,
    Field(
        pattern=r"^(auto|cpu|mps|cuda(:[0-9]{1,3})?)$",
        examples=["auto", "cpu", "cuda", "cuda:0", "mps"],
    ),
]


class Config(Settings, arbitrary_types_allowed=True):
    """The configuration of a project. Make it by `load_config`, `from_json` or `apply_patch`."""

    seed: Seed = Field(default=0, description="Seeds every generator.")
    device: Device = Field(default="auto", description="auto: cuda, else mps, else cpu.")
    threads: int = Field(
        default=1, ge=1, le=256, description="CPU threads of torch; another number, other bits."
    )
    objective: Objective = Field(
        default_factory=Objective, description="What the model is judged by."
    )
    training: Training = Field(default_factory=Training, description="How it is trained.")
    phases: Phases = Field(default_factory=Phases, description="What single phases do otherwise.")
    optimization: Optimization = Field(
        default_factory=Optimization, description="How better settings are searched and proven."
    )
    budgets: Budgets = Field(default_factory=Budgets, description="How long things may take.")
    launch: Launch = Field(default_factory=Launch, description="The processes that train.")
    limits: Limits = Field(default_factory=Limits, description="The limits of the checks.")
    export: Export = Field(default_factory=Export, description="The formats of delivery.")
    documents: Documents = Field(
        default_factory=Documents, description="Documents that not every project needs."
    )
    release: Release = Field(
        default_factory=Release, description="What a release is judged by besides the model."
    )
    approval: Approval = Field(
        default_factory=Approval, description="Who need not sign a release, and for how long."
    )
    model: FreeSection = Field(
        default_factory=lambda: Section("model", {}), description="Your own settings of the model."
    )
    data: FreeSection = Field(
        default_factory=lambda: Section("data", {}), description="Your own settings of the data."
    )

    @field_validator(*FREE_SECTIONS, mode="before")
    @classmethod
    def _as_section(cls, value: object, info: Info) -> object:
        name = str(info.field_name)
        return Section(name, value) if isinstance(value, Mapping) else value

    @field_serializer(*FREE_SECTIONS)
    def _as_plain(self, section: Section) -> dict[str, Any]:
        return section.plain()

    @property
    def reads(self) -> frozenset[str]:
        """The dotted keys of `model` and `data` that were read from this object so far."""
        sections = {"model": self.model, "data": self.data}
        return frozenset(f"{name}.{key}" for name, part in sections.items() for key in part.reads)

    def for_phase(self, phase: str) -> "Config":
        """The configuration of one phase: its overrides merged in, `phases` emptied.

        An override replaces the whole value of its key, `early_stopping` included. A patch of the
        phase (`with_patch`) comes last. Reads are recorded afresh. Raises KeyError for a phase that
        does not exist.
        """
        values = self.to_json()
        overrides = values.pop("phases")
        for name in OVERRIDES[phase]:
            own = overrides[name] or {}
            values["training"] |= own.get("training") or {}
            if own.get("seed") is not None:
                values["seed"] = own["seed"]
        patch = (overrides.get(phase) or {}).get("patch") or {}
        return apply_patch(Config.from_json(values), patch) if patch else Config.from_json(values)

    def with_patch(self, phase: str, patch: Mapping[str, Any]) -> "Config":
        """The same but for dotted keys that differ in one phase, optimization or finalization.

        Only the pipeline sets these: what a trial tries, and what the optimization has found.
        """
        values = self.to_json()
        values["phases"][phase] = (values["phases"][phase] or {}) | {"patch": dict(patch)}
        return Config.from_json(values)

    def without_patches(self) -> "Config":
        """The configuration that planning has passed."""
        values = self.to_json()
        for phase, overrides in values["phases"].items():
            if overrides and overrides.pop("patch", None) and not any(overrides.values()):
                values["phases"][phase] = None
        return Config.from_json(values)

    def to_json(self) -> dict[str, Any]:
        """Plain values with all defaults, as a fresh copy; of overrides only what was given."""
        return self.model_dump(mode="json")

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Config":
        """The configuration that `to_json` wrote. Raises ConfigError."""
        return _validated(Document(name="configuration", values=stored))


def load_config(path: Path) -> Config:
    """The configuration in `path`; missing keys have their defaults.

    Raises ConfigError with everything that is wrong, each with file, line, key, what was found,
    what was wanted, and what to write.
    """
    document = load_yaml(path)
    return _validated(replace(document, problems=(*document.problems, *_patches(document))))


def apply_patch(config: Config, patch: Mapping[str, Any]) -> Config:
    """A new configuration in which each value replaces what stands at its dotted key.

    Keys that do not exist are added below `model` and `data` only. Raises ConfigError for an
    unknown key, a value that its setting refuses, or a key below something that is no mapping.
    """
    values = config.to_json()
    problems = [
        problem for key, value in patch.items() if (problem := _put(values, key, plain(value)))
    ]
    return _validated(Document(name="patch", values=values, problems=tuple(problems)))


def json_schema() -> dict[str, Any]:
    """The JSON schema of `training_config.yaml`, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Config.model_json_schema(),
        "title": "training_config.yaml",
    }


@cache
def _schema() -> dict[str, Any]:
    return json_schema()


def _validated(document: Document) -> Config:
    problems = [*document.problems]
    for section in FREE_SECTIONS:
        problems += free_problems(document, section)
    try:
        config = Config.model_validate(dict(document.values))
    except ValidationError as error:
        problems += schema_problems(error, _schema(), document)
        raise document.error(problems) from None
    if problems:
        raise document.error(problems)
    return config


def _patches(document: Document) -> list[Problem]:
    """Patches in a file: only the pipeline sets those."""
    phases = document.values.get("phases")
    return [
        Problem(
            path=("phases", phase, "patch"),
            found="patch",
            wanted="training or seed",
            remedy="write the changed keys where they belong",
        )
        for phase, overrides in (phases.items() if isinstance(phases, Mapping) else ())
        if isinstance(overrides, Mapping) and "patch" in overrides
    ]


def _put(values: dict[str, Any], key: str, value: object) -> Problem | None:
    """Set the value at a dotted key, in place; the problem when something else is in the way."""
    above, dot, below = key.partition(".")
    if not dot:
        values[above] = value
        return None
    if values.get(above) is None:
        values[above] = {}
    inside = values[above]
    if isinstance(inside, dict):
        problem = _put(inside, below, value)
        return problem and replace(problem, path=(above, *problem.path))
    return Problem(
        path=(above,),
        found=shown(inside),
        wanted=f"a mapping that can hold '{below}'",
        remedy="name a key that exists",
    )
