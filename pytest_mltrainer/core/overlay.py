"""The overlay: what repairs a broken baseline, in the run folder and never in the user's file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pytest_mltrainer.core import files
from pytest_mltrainer.core.config import Config, apply_patch, load_config
from pytest_mltrainer.core.digests import digest_value
from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.core.project import Project
from pytest_mltrainer.core.proposal import places

OVERLAY = "overlay.json"
_TRAINED = ("seed", "device", "threads", "training", "phases", "model", "data")


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """A patch of the configuration that was `made_for`, and the issue that it mends.

    It holds as long as the user changes nothing that training depends on in the file.
    """

    patch: Mapping[str, Any]
    issue: str
    made_for: str

    def text(self) -> str:
        """`training.learning_rate: 0.01`: what the file's values are replaced by."""
        return ", ".join(f"{key}: {value}" for key, value in self.patch.items())


def make_overlay(config: Config, patch: Mapping[str, Any], issue: str) -> Overlay:
    """The overlay that repairs the user's own `config`."""
    return Overlay(patch=dict(patch), issue=issue, made_for=_digest(config))


def store_overlay(run_folder: Path, overlay: Overlay) -> None:
    """From now on the project runs with it."""
    files.write_json(run_folder / OVERLAY, asdict(overlay))


def overlay_of(run_folder: Path, config: Config) -> Overlay | None:
    """The overlay of the run folder; None where there is none, or it was for another `config`.

    Raises StorageError for a file that is none.
    """
    path = run_folder / OVERLAY
    if not path.exists():
        return None
    try:
        overlay = Overlay(**files.read_json(path))
    except TypeError as error:
        raise StorageError(f"{path}: no overlay ({error}); delete it to train without") from error
    return overlay if overlay.made_for == _digest(config) else None


def repairs(project: Project) -> Mapping[str, Any]:
    """The patch of the overlay that the project runs with; empty without one."""
    overlay = overlay_of(project.run_folder, load_config(project.config_path))
    return overlay.patch if overlay else {}


def effective_config(project: Project) -> Config:
    """The configuration that the project runs with: the user's file and the overlay."""
    config = load_config(project.config_path)
    overlay = overlay_of(project.run_folder, config)
    return overlaid(config, overlay) if overlay else config


def overlaid(config: Config, overlay: Overlay) -> Config:
    """`config` with the overlay in it, overrides of the baseline included."""
    return apply_patch(config, places(config, overlay.patch))


def _digest(config: Config) -> str:
    resolved = config.to_json()
    return digest_value({section: resolved[section] for section in _TRAINED})
