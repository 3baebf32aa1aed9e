"""Whose keys there are: OpenSSH's `allowed_signers`, and lists of revoked keys."""

import base64
import binascii
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pytest_mltrainer.core.errors import UserError

_KEY_TYPES = re.compile(r"(ssh-|ecdsa-|sk-)[a-z0-9@.-]+")
_DATE = re.compile(r"(\d{8})(\d{4}(?:\d{2})?)?(Z?)")


class PolicyError(UserError):
    """The policy is missing, unprotected or wrong; nothing can be approved by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signer:
    """A line of allowed_signers: whose key, for what, and when."""

    people: tuple[str, ...]
    key: bytes
    namespaces: tuple[str, ...] = ()
    valid_after: datetime | None = None
    valid_before: datetime | None = None

    def is_valid(self, at: datetime) -> bool:
        """Whether the key is valid at that moment."""
        after, before = self.valid_after, self.valid_before
        return (after is None or at >= after) and (before is None or at < before)


def read_signers(path: Path, text: str) -> Iterator[Signer]:
    """The lines of an allowed_signers file: `PEOPLE [OPTIONS] KEYTYPE BASE64 [COMMENT]`."""
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        where = f"{path}:{number}"
        try:
            people, *rest = shlex.split(line)
        except ValueError as error:
            raise PolicyError(f"{where}: an open quotation mark") from error
        options = "" if rest and _KEY_TYPES.fullmatch(rest[0]) else (rest.pop(0) if rest else "")
        if len(rest) < 2 or "*" in people or "?" in people:
            raise PolicyError(f"{where}: wanted a person without wildcards, and a public key")
        yield Signer(
            people=tuple(people.split(",")),
            key=_key(rest[1], where),
            **_options(options, line, where),
        )


def _options(options: str, line: str, where: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    quoted = re.findall(r'([a-z-]+)="([^"]*)"', line) if options else []
    for name, value in quoted:
        if name == "namespaces":
            found["namespaces"] = tuple(value.split(","))
        elif name in ("valid-after", "valid-before"):
            found[name.replace("-", "_")] = _date(value, where)
        else:
            raise PolicyError(f"{where}: the option {name} is not supported")
    if options and (not quoted or "cert-authority" in options):
        raise PolicyError(f"{where}: the option {options[:60]!r} is not supported")
    return found


def _date(text: str, where: str) -> datetime:
    """`YYYYMMDD[HHMM[SS]][Z]`; without Z it is taken as UTC too, the same on every machine."""
    parts = _DATE.fullmatch(text)
    if parts is None:
        raise PolicyError(f"{where}: found date {text!r}, wanted YYYYMMDD[HHMM[SS]]Z")
    try:
        day = datetime.strptime(f"{parts[1]}{(parts[2] or '').ljust(6, '0')}", "%Y%m%d%H%M%S")
    except ValueError as error:
        raise PolicyError(f"{where}: there is no date {text!r}") from error
    return day.replace(tzinfo=UTC)


def read_keys(path: Path, text: str) -> frozenset[bytes]:
    """Public keys, one a line, with or without a name before them. Raises PolicyError."""
    keys = set()
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        place = next((i for i, word in enumerate(words) if _KEY_TYPES.fullmatch(word)), None)
        if place is None or place + 1 >= len(words):
            raise PolicyError(f"{path}:{number}: wanted a public key")
        keys.add(_key(words[place + 1], f"{path}:{number}"))
    return frozenset(keys)


def _key(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise PolicyError(f"{where}: the key is damaged ({error})") from error
