"""The folder of released models: numbered, each with its evidence, one of them current."""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_mltrainer.core import files
from pytest_mltrainer.core.artifacts import JUDGEMENTS, MANIFEST, VERDICT, RunFolder, file_names
from pytest_mltrainer.core.digests import sha256_file
from pytest_mltrainer.core.errors import StorageError, UserError
from pytest_mltrainer.core.project import PHASES
from pytest_mltrainer.core.verdict import load_verdict

MODEL = "final_model"
MODEL_MANIFEST = "model.json"
EVIDENCE = "evidence"
RECORD = "release.json"
CURRENT = "current.json"
DIGITS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One released model: digests of its files, the verdicts behind it, what it replaced.

    `model` is the digest of its `model.json`, which names it.
    """

    number: int
    released: str
    model: str
    files: Mapping[str, str]
    verdicts: Mapping[str, str]
    replaces: int | None = None

    @property
    def name(self) -> str:
        """`0003`."""
        return f"{self.number:0{DIGITS}d}"


class Registry:
    """The releases of a project. What is there is never changed; the current one is pointed at."""

    def __init__(self, folder: Path) -> None:
        """The folder need not exist yet."""
        self.folder = folder

    def releases(self) -> list[Release]:
        """Every release, oldest first. Raises StorageError for a damaged record."""
        if not self.folder.is_dir():
            return []
        names = [path for path in self.folder.iterdir() if path.name.isdecimal()]
        return sorted((_load(path / RECORD) for path in names), key=lambda entry: entry.number)

    def current(self) -> Release | None:
        """The release that is in use: the champion that a new one must not be worse than.

        None before the first. Raises StorageError when the record of it is damaged.
        """
        path = self.folder / CURRENT
        if not path.exists():
            return None
        number = files.read_json(path).get("release")
        found = [entry for entry in self.releases() if entry.number == number]
        if not found:
            raise StorageError(f"{path}: there is no release {number!r}; run rollback, or mend it")
        return found[0]

    def model(self, release: Release) -> Path:
        """The folder of a released model. Raises StorageError when its bytes are others now."""
        folder = self.folder / release.name / MODEL
        for name, digest in release.files.items():
            if sha256_file(folder / name) != digest:
                raise StorageError(f"{folder / name}: it is not what was released; restore it")
        return folder

    def add(self, run: RunFolder) -> Release:
        """Copy the final model of a run with its evidence, whole or not at all; it is current then.

        That the run is ready for production is for the caller to verify. Raises UserError when
        this very model is the current release, StorageError when it cannot be copied.
        """
        current = self.current()
        source = run.phase("finalization").path / MODEL
        model = sha256_file(source / MODEL_MANIFEST)
        if current and current.model == model:
            raise UserError(f"{source}: this model is release {current.name} already")
        release = Release(
            number=max((entry.number for entry in self.releases()), default=0) + 1,
            released=datetime.now(UTC).isoformat(timespec="seconds"),
            model=model,
            files={name: sha256_file(source / name) for name in file_names(source)},
            verdicts=_identities(run),
            replaces=current.number if current else None,
        )
        target = self.folder / release.name
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=files.TEMPORARY, dir=self.folder) as scratch:
                made = Path(scratch) / release.name
                shutil.copytree(source, made / MODEL)
                _copy_evidence(run, made / EVIDENCE)
                files.write_json(made / RECORD, asdict(release))
                files.swap_folder(made, target)
        except (OSError, shutil.Error) as error:
            raise StorageError(f"{target}: cannot release there ({error})") from error
        files.write_json(self.folder / CURRENT, {"release": release.number})
        return release

    def roll_back(self) -> Release:
        """Point at the release that the current one replaced. Raises UserError without one."""
        current = self.current()
        wanted = current.replaces if current else None
        before = [entry for entry in self.releases() if entry.number == wanted]
        if not before:
            raise UserError(f"{self.folder}: there is no release before the current one")
        files.write_json(self.folder / CURRENT, {"release": before[0].number})
        return before[0]


def _load(path: Path) -> Release:
    stored: dict[str, Any] = files.read_json(path)
    try:
        return Release(**stored)
    except TypeError as error:
        raise StorageError(f"{path}: no record of a release ({error}); restore it") from error


def _identities(run: RunFolder) -> dict[str, str]:
    found = {phase: load_verdict(run.phase(phase)) for phase in PHASES}
    return {phase: verdict.identity for phase, verdict in found.items() if verdict}


def _copy_evidence(run: RunFolder, target: Path) -> None:
    """Manifests, verdicts and judgements of each phase, the ledger, and the approvals."""
    target.mkdir(parents=True)
    for phase in PHASES:
        for name in (MANIFEST, VERDICT, JUDGEMENTS):
            path = run.phase(phase).path / name
            if path.is_file():
                (target / phase).mkdir(exist_ok=True)
                shutil.copy(path, target / phase / name)
    if run.ledger.is_file():
        shutil.copy(run.ledger, target / run.ledger.name)
    approvals = run.path / "approvals"
    if approvals.is_dir():
        shutil.copytree(approvals, target / approvals.name)
