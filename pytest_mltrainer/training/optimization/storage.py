"""Where a study is kept: a database that machines share, or a journal in the run folder."""

import os
import re
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pytest_mltrainer.core.errors import UserError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

VARIABLE = re.compile(r"\$\{(\w+)\}")
MAKING_TABLES_S = (0.2, 1.0, 3.0)


def check_storage(url: str) -> None:
    """Raise UserError where no study can be kept at that URL of an Optuna storage.

    Nor may the URL hold a password: the configuration stands in every run folder.
    """
    import optuna

    password = _password(url)
    if password and not VARIABLE.search(password):
        raise UserError(
            f"training_config.yaml optimization.storage: found {redacted(url)} with a password, "
            "which every run folder would repeat, wanted an environment variable in its place, "
            "such as ${STUDY_PASSWORD}"
        )
    missing = [name for name in VARIABLE.findall(url) if name not in os.environ]
    if missing:
        raise UserError(
            f"training_config.yaml optimization.storage: found {url}, wanted the environment "
            f"variable {missing[0]} to be set"
        )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            _connected(url).get_all_studies()
        except Exception as error:
            # A storage raises whatever its driver does: dozens of types.
            raise storage_error(url, Path(), error) from error


def redacted(url: str) -> str:
    """The URL of a storage without the password in it."""
    try:
        password = urlsplit(url).password
    except ValueError:
        return url.partition("@")[2] or url
    return url.replace(f":{password}@", ":***@") if password else url


def storage_error(storage: str | None, journal: Path, error: Exception) -> UserError:
    """What a storage, or the journal without one, has raised, in one line and without password."""
    reason = str(error).strip().partition("\n")[0][:300] or type(error).__name__
    kept = "what was tried so far is kept, and the next run goes on from there"
    if storage is None:
        return UserError(f"{journal}: the study cannot be used ({reason}); {kept}")
    reason = reason.replace(os.path.expandvars(storage), redacted(storage))
    password = _password(os.path.expandvars(storage))
    if password:
        reason = reason.replace(password, "***")
    return UserError(
        f"training_config.yaml optimization.storage: found {redacted(storage)}, which cannot "
        f"be used ({reason}), wanted the URL of a storage that is up: start it, mend the URL, or "
        f"delete the key, and the study is kept in the run folder; {kept}"
    )


def open_storage(storage: str | None, journal: Path) -> "BaseStorage":
    """The storage at that URL; without one, the file `journal`."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    if storage is not None:
        return _connected(storage)
    _mend(journal)
    return JournalStorage(JournalFileBackend(str(journal)))


def _password(url: str) -> str | None:
    try:
        return urlsplit(url).password
    except ValueError:
        return None


def _connected(url: str) -> "BaseStorage":
    """The storage at a URL with environment variables in it.

    It is asked again where another machine was making the same tables just then.
    """
    from optuna.storages import get_storage
    from sqlalchemy.exc import DBAPIError, IntegrityError

    for pause_s in MAKING_TABLES_S:
        try:
            return get_storage(os.path.expandvars(url))
        except DBAPIError as error:
            if not isinstance(error, IntegrityError) and "already exists" not in str(error):
                raise
            time.sleep(pause_s)
    return get_storage(os.path.expandvars(url))


def _mend(journal: Path) -> None:
    """Take away what a killed process leaves: a torn last line, and its lock.

    Nobody else can hold either: the folder belongs to this one worker.
    """
    for leftover in journal.parent.glob(f"{journal.name}.lock*"):
        leftover.unlink(missing_ok=True)
    if journal.exists():
        content = journal.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole != len(content):
            with journal.open("r+b") as stream:
                stream.truncate(whole)
