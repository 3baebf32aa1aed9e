"""What a step was made from, by name: recorded by the worker, read again without an import.

Names: `code/FILE`, `config/KEY`, `data/FILE`, `numerics/NAME`, `text/FILE`,
`upstream/PHASE/ARTIFACT`.
"""

import json
import platform
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pytest_mltrainer.core.artifacts import RunFolder
from pytest_mltrainer.core.config import FREE_SECTIONS, Config, flatten
from pytest_mltrainer.core.digests import MISSING, digest_source, sha256_file
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.core.steps import NUMERICS_VERSION, PROFILE_TOPICS, Step

UNREADABLE_HERE = tuple(
    f"numerics/{name}"
    for name in ("device", "CPU capability", "oneDNN", "autocast", "PYTHONHASHSEED")
)
"""Only a worker that imports torch can read these; they are compared where training runs."""
FREE_PREFIXES = tuple(f"{section}." for section in FREE_SECTIONS)
PACKAGED = "site-packages:"
"""Prefix of the names of data files that installed packages ship."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One input that is not what it was when the step was done."""

    name: str
    before: str | None
    now: str | None

    @property
    def is_numerics(self) -> bool:
        """Whether only what computes is another: the version of a package, the machine."""
        return self.name.startswith("numerics/")

    def text(self) -> str:
        """The change in words, naming file or key, and values where they are short."""
        kind, _, rest = self.name.partition("/")
        if kind == "config":
            return f"{rest}: {_shown(self.before)} -> {_shown(self.now)}"
        if kind == "numerics":
            return f"{rest} {_shown(self.before)} -> {_shown(self.now)}"
        subject = {"data": f"data file {rest}", "upstream": f"artifact {rest}"}
        what = rest if kind in ("code", "text") else subject.get(kind, self.name)
        return f"{what} is missing" if self.now in (None, MISSING) else f"{what} changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """What the worker used: files of code and data, and the numerics it ran with."""

    code: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    numerics: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class CurrentInputs:
    """Reads inputs as they are now. Each file is read once."""

    project: Project
    config: Config
    run: RunFolder
    _files: dict[str, str] = field(default_factory=dict)
    _flat: dict[str, dict[str, Any]] = field(default_factory=dict)

    def of(self, step: Step, phase: str, sources: Sources) -> dict[str, str]:
        """All inputs of a step, from what the worker says that it used."""
        names = [f"config/{key}" for key in self.config_keys(step, phase)]
        names += [f"upstream/{artifact}" for artifact in step.upstream]
        names += [f"text/{name}" for name in step.texts]
        if step.texts:
            asked = PROFILE_TOPICS[self.config.documents.profile]
            names += [f"text/docs/model/{topic}.md" for topic in asked]
        if step.code:
            names += [f"code/{name}" for name in sorted({*sources.code, *self._declared()})]
        if step.data:
            names += [f"data/{name}" for name in sources.data]
        inputs = {name: self.read(name, phase) for name in names}
        if step.numerics:
            inputs |= {f"numerics/{name}": value for name, value in sources.numerics.items()}
        return inputs

    def changes(self, step: Step, phase: str, recorded: Mapping[str, str]) -> list[Change]:
        """The inputs that differ from the recorded ones."""
        names = {*recorded, *(f"config/{key}" for key in self.config_keys(step, phase))}
        if step.code:
            names |= {f"code/{name}" for name in self._declared()}
        changed = []
        for name in sorted(names.difference(UNREADABLE_HERE)):
            before, now = recorded.get(name), self.read(name, phase)
            if before != now and not _is_schema_change(name, before, now):
                changed.append(Change(name=name, before=before, now=now))
        return changed

    def read(self, name: str, phase: str) -> str:
        """The present value of an input; `missing` when it is gone."""
        kind, _, rest = name.partition("/")
        if kind == "config":
            flat = self._flat_config(phase)
            # As JSON, which keeps 16 and "16" apart.
            return json.dumps(flat[rest], sort_keys=True) if rest in flat else MISSING
        if kind == "code":
            return self._file(rest, digest_source)
        if kind in ("data", "text"):
            return self._file(rest, sha256_file)
        if kind == "upstream":
            upstream, _, artifact = rest.partition("/")
            manifest = self.run.phase(upstream).manifest()
            return MISSING if manifest is None else manifest.artifacts.get(artifact, MISSING)
        return current_numerics(rest, self.config)

    def config_keys(self, step: Step, phase: str) -> list[str]:
        """The configuration keys that the step depends on."""
        return [key for key in self._flat_config(phase) if _covers(step.config, key)]

    def _flat_config(self, phase: str) -> dict[str, Any]:
        if phase not in self._flat:
            resolved = self.config.for_phase(phase).to_json()
            if phase == "planning":
                resolved["phases"] = self.config.without_patches().to_json()["phases"]
            self._flat[phase] = flatten(resolved)
        return self._flat[phase]

    def _declared(self) -> Iterator[str]:
        for pattern in self.project.inputs:
            for path in sorted(self.project.root.glob(pattern)):
                if path.is_file():
                    yield self.project.relative(path)

    def _path(self, name: str) -> Path:
        if name.startswith(PACKAGED):
            return _packages_folder() / name.removeprefix(PACKAGED)
        return self.project.root / name

    def _file(self, name: str, digest: Callable[[Path], str]) -> str:
        if name not in self._files:
            self._files[name] = digest(self._path(name))
        return self._files[name]


def data_name(project: Project, path: str) -> str:
    """A data file as artifacts name it: relative to the project, or to the installed packages.

    Data sets that packages ship lie elsewhere in every environment and are still the same.
    """
    if Path(path).is_relative_to(_packages_folder()):
        return f"{PACKAGED}{Path(path).relative_to(_packages_folder()).as_posix()}"
    return project.relative(Path(path))


def _packages_folder() -> Path:
    return Path(sysconfig.get_path("purelib"))


def current_numerics(name: str, config: Config) -> str:
    """The present value of one entry of the numerics fingerprint, without torch."""
    if name == "python":
        return ".".join(platform.python_version_tuple()[:2])
    if name == "machine":
        return platform.machine()
    if name == "threads":
        return str(config.threads)
    if name == "pytest-mltrainer numerics":
        return str(NUMERICS_VERSION)
    try:
        return version(name)
    except (PackageNotFoundError, ValueError):  # what a damaged manifest names may be no name
        return MISSING


def _is_schema_change(name: str, before: str | None, now: str) -> bool:
    """Whether a setting came with another version of ours, at its default, or went with it.

    The user's own sections have no defaults: a key that comes or goes there is a change.
    """
    kind, _, key = name.partition("/")
    if kind != "config" or key.startswith(FREE_PREFIXES):
        return False
    if before is None:
        return now == json.dumps(flatten(Config().to_json()).get(key), sort_keys=True)
    return now == MISSING


def _covers(sections: Iterable[str], key: str) -> bool:
    return any(key == section or key.startswith(f"{section}.") for section in sections)


def _shown(value: str | None) -> str:
    return "(absent)" if value in (None, MISSING) else str(value)
