"""Where a study is kept: a database that machines share, or a journal in the run folder."""

import os
import re
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, unquote, urlsplit

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

    if any(not VARIABLE.fullmatch(password) for password in _passwords(url) or ()):
        raise UserError(
            f"training_config.yaml optimization.storage: found {redacted(url)} with a password, "
            "which every run folder would repeat, wanted an environment variable in its place, "
            "such as ${STUDY_PASSWORD}"
        )
    missing = [name for name in VARIABLE.findall(url) if name not in os.environ]
    if missing:
        raise UserError(
            f"training_config.yaml optimization.storage: found {redacted(url)}, wanted the "
            f"environment variable {missing[0]} to be set"
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
    """The URL of a storage without the passwords in it; variables stay."""
    if (passwords := _passwords(url)) is None:
        return url.partition("@")[2] or url
    for password in passwords:
        if not VARIABLE.fullmatch(password):
            url = url.replace(f":{password}@", ":***@").replace(f"={password}", "=***")
    return url


def storage_error(storage: str | None, journal: Path, error: Exception) -> UserError:
    """What a storage, or the journal without one, has raised, in one line and without password."""
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    kept = "what was tried so far is kept, and the next run goes on from there"
    if storage is None:
        return UserError(f"{journal}: the study cannot be used ({reason[:300]}); {kept}")
    reason = reason.replace(_expanded(storage), redacted(storage))
    for password in _passwords(_expanded(storage)) or ():
        reason = reason.replace(password, "***").replace(unquote(password), "***")
    return UserError(
        f"training_config.yaml optimization.storage: found {redacted(storage)}, which cannot "
        f"be used ({reason[:300]}), wanted the URL of a storage that is up: start it, mend the "
        f"URL, or delete the key, and the study is kept in the run folder; {kept}"
    )


def open_storage(storage: str | None, journal: Path) -> "BaseStorage":
    """The storage at that URL; without one, the file `journal`."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    if storage is not None:
        return _connected(storage)
    _mend(journal)
    return JournalStorage(JournalFileBackend(str(journal)))


def _passwords(url: str) -> list[str] | None:
    """What stands in the place of a password, before the host or in the query; None: no URL."""
    try:
        parts = urlsplit(url)
        found = [parts.password, *(value for name, value in parse_qsl(parts.query)
                                   if name in ("password", "passwd", "pwd"))]  # fmt: skip
    except ValueError:
        return None
    return [password for password in found if password]


def _expanded(url: str) -> str:
    """The URL with its variables; one in the place of a password is quoted as URLs want it."""
    passwords = _passwords(url) or ()

    def value(found: re.Match[str]) -> str:
        known = os.environ.get(found[1], found[0])
        return quote(known, safe="") if found[0] in passwords else known

    return VARIABLE.sub(value, url)


def _connected(url: str) -> "BaseStorage":
    """The storage at a URL with environment variables in it.

    It is asked again where another machine was making the same tables just then.
    """
    from optuna.storages import get_storage
    from sqlalchemy.exc import DBAPIError, IntegrityError

    for pause_s in MAKING_TABLES_S:
        try:
            return get_storage(_expanded(url))
        except DBAPIError as error:
            if not isinstance(error, IntegrityError) and "already exists" not in str(error):
                raise
            time.sleep(pause_s)
    return get_storage(_expanded(url))


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
