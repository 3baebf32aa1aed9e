"""What a person signs: one canonical JSON statement about one final model, or about its code.

It names what was judged and how the checks ended, never the verdict that it completes.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from pytest_mltrainer.core.digests import sha256_bytes
from pytest_mltrainer.core.errors import UserError

SCHEMA = 1
REVIEW: Final = "review"
WAIVER: Final = "waiver"
APPROVALS: Final = ("technical", "product", "compliance")
ROLES = (REVIEW, *APPROVALS)
LIMIT_BYTES = 1_000_000
_PERSON = re.compile(r"[!-~]{1,200}")

Role = Literal["review", "technical", "product", "compliance", "waiver"]
Answer = Literal["approve", "reject"]


class StatementError(UserError):
    """The bytes are no statement; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """`person` in `role` approves or rejects `subject`, from `signed_at` to `expires_at` (UTC).

    `earlier` are the digests of the statements that were stored before, so that none of them can
    be taken away unnoticed.
    """

    role: Role
    person: str
    answer: Answer
    reason: str
    subject: Mapping[str, Any]
    signed_at: str
    expires_at: str
    earlier: tuple[str, ...] = ()
    schema: int = field(default=SCHEMA)

    def canonical(self) -> bytes:
        """The bytes that are signed: sorted keys, no spaces, UTF-8 written as ASCII."""
        return json.dumps(
            asdict(self), sort_keys=True, separators=(",", ":"), allow_nan=False
        ).encode()

    @property
    def digest(self) -> str:
        """sha256 of the canonical bytes."""
        return sha256_bytes(self.canonical())

    @property
    def begins(self) -> datetime:
        """When it was signed, as the signer says."""
        return datetime.fromisoformat(self.signed_at)

    @property
    def ends(self) -> datetime:
        """Until when it holds, as the signer says."""
        return datetime.fromisoformat(self.expires_at)


def make_statement(
    *,
    role: Role,
    person: str,
    answer: Answer,
    reason: str,
    subject: Mapping[str, Any],
    days: int,
    now: datetime,
    earlier: tuple[str, ...],
) -> Statement:
    """A statement of now that holds for `days`."""
    begins = now.astimezone(UTC).replace(microsecond=0)
    return Statement(
        role=role,
        person=person,
        answer=answer,
        reason=reason,
        subject=subject,
        signed_at=begins.isoformat(),
        expires_at=(begins + timedelta(days=days)).isoformat(),
        earlier=earlier,
    )


def parse_statement(data: bytes) -> Statement:
    """The statement in `data`. Raises StatementError for anything but canonical bytes of one.

    One meaning has one spelling: duplicate keys, other orders and other spaces are refused.
    """
    if len(data) > LIMIT_BYTES:
        raise StatementError(f"it is larger than {LIMIT_BYTES:,} bytes")
    try:
        values = json.loads(data, object_pairs_hook=_without_duplicates)
        if not isinstance(values, dict) or values.get("schema") != SCHEMA:
            raise StatementError(f"it is not of schema {SCHEMA}: upgrade, or sign again")
        if values.keys() != {part.name for part in fields(Statement)}:
            raise StatementError("it has other keys than a statement")
        statement = Statement(**{**values, "earlier": tuple(values["earlier"])})
        _check(statement)
        is_canonical = statement.canonical() == data
    except (ValueError, TypeError, RecursionError) as error:
        raise StatementError(f"it cannot be read ({error})") from error
    if not is_canonical:
        raise StatementError("it is not in canonical form, so it was edited")
    return statement


def _check(statement: Statement) -> None:
    texts = (statement.reason, statement.signed_at, statement.expires_at, *statement.earlier)
    if not all(isinstance(text, str) for text in texts):
        raise StatementError("a text of it is no text")
    if statement.role not in (*ROLES, WAIVER) or statement.answer not in ("approve", "reject"):
        raise StatementError(f"no role or answer: {statement.role!r}, {statement.answer!r}")
    if not isinstance(statement.person, str) or not _PERSON.fullmatch(statement.person):
        raise StatementError("the person has no printable name")
    if not isinstance(statement.subject, dict):
        raise StatementError("it says nothing about anything")
    if statement.begins.tzinfo is None or statement.ends.tzinfo is None:
        raise StatementError("its dates have no time zone")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = dict(pairs)
    if len(keys) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return keys
