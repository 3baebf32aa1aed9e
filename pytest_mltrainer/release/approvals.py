"""Signed statements beside a run, and what they are worth: a role is approved, or why it is not.

They lie in `approvals/` of the run folder, one file each, and are only added. What a file says is
believed when a key to which the policy gives the role signed it for exactly what is there now.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from pytest_mltrainer.core import files
from pytest_mltrainer.core.artifacts import RunFolder
from pytest_mltrainer.core.errors import StorageError
from pytest_mltrainer.release import signing
from pytest_mltrainer.release.policy import Policy
from pytest_mltrainer.release.statement import (
    LIMIT_BYTES,
    REVIEW,
    WAIVER,
    Role,
    Statement,
    StatementError,
    parse_statement,
)
from pytest_mltrainer.release.subject import OPEN, subject_changes

Subjects = Mapping[str, Mapping[str, Any]]
"""What each role signs, as it is now."""

FOLDER = "approvals"
SCHEMA = 1
SKEW = timedelta(minutes=5)
"""How far the clocks of the signer and of the judge may be apart."""

Outcome = Literal["approved", "rejected", "refused", "stale", "missing"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A file of `approvals/`: its statement and signature, or the `problem` that it has."""

    name: str
    statement: Statement | None = None
    signature: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a role stands, with the reason; `notes` are statements that did not count."""

    role: Role
    outcome: Outcome
    reason: str
    statement: Statement | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What statements are judged by: the policy, the time, and who wrote the code."""

    policy: Policy
    now: datetime
    authors: tuple[str, ...] | None = None

    @classmethod
    def open(cls, policy: Policy, recorded: Sequence[str] | None) -> "Desk":
        """Now; the authors are those that git recorded and those that the policy names."""
        known = (
            None
            if recorded is None and policy.authors is None
            else (
                *(recorded or ()),
                *(policy.authors or ()),
            )
        )
        return cls(policy=policy, now=datetime.now(UTC), authors=known)

    def why_not(self, stored: Stored) -> str:
        """Why a statement does not count, whatever it is about; empty when it does."""
        statement = stored.statement
        if statement is None:
            return stored.problem
        try:
            key = signing.verify(statement.canonical(), stored.signature)
        except signing.SignatureRefused as error:
            return str(error)
        when = (min(statement.begins, self.now), self.now)
        if why := self.policy.why_not_key(key, statement.person, when):
            return why
        if why := self.policy.why_not_role(statement.person, statement.role):
            return why
        if statement.begins > self.now + SKEW:
            return f"it is dated in the future ({statement.signed_at})"
        return self._why_not_approving(statement) if statement.answer == "approve" else ""

    def why_over(self, statement: Statement, subject: Mapping[str, Any]) -> str:
        """Why a statement holds no longer: its time is over, or it was about something else."""
        longest = statement.begins + timedelta(days=self.policy.max_days)
        ends = min(statement.ends, longest)
        if self.now >= ends:
            return f"what {statement.person} signed expired on {ends.date()}"
        if changes := subject_changes(statement.subject, subject):
            return f"{statement.person} signed for another model or run: {changes[0]}"
        return ""

    def _why_not_approving(self, statement: Statement) -> str:
        if statement.person in (self.authors or ()):
            return f"{statement.person} wrote the code that trained: somebody else must sign"
        if statement.role == REVIEW and self.authors is None:
            return (
                "who wrote the code is not recorded, because there is no git: name them in the "
                'policy (authors = ["..."])'
            )
        checks = statement.subject.get("checks", {})
        failed = [name for name, outcome in checks.items() if outcome in OPEN]
        return f"it approves although {failed[0]} was not passed" if failed else ""


def read_statements(run: RunFolder) -> list[Stored]:
    """Every statement beside the run, oldest first by file name."""
    folder = run.path / FOLDER
    return [_read(path) for path in sorted(folder.glob("*.json"))] if folder.is_dir() else []


def store_statement(run: RunFolder, statement: Statement, signature: str) -> Path:
    """Add a statement; nothing that was there is touched. Raises StorageError."""
    folder = run.path / FOLDER
    count = len(list(folder.glob("*.json"))) if folder.is_dir() else 0
    path = folder / f"{count + 1:04d}-{statement.role}-{statement.digest[:12]}.json"
    files.write_json(
        path,
        {
            "schema": SCHEMA,
            "statement": statement.canonical().decode(),
            "signature": signature,
        },
    )
    return path


def standing(role: Role, subjects: Subjects, every: Sequence[Stored], desk: Desk) -> Standing:
    """How a role stands. A rejection outweighs an approval.

    Of each person the last statement counts. A statement that was taken away, one person for two
    roles and what the desk refuses are refusals; one that is over, or for another model, is stale.
    """
    own = [entry for entry in every if _role(entry) in (role, None)]
    counted: dict[str, Statement] = {}
    refused, stale = [], []
    for entry in own:
        if why := desk.why_not(entry):
            refused.append(f"{entry.name}: {why}")
            continue
        statement = entry.statement
        assert statement is not None
        if why := desk.why_over(statement, subjects[role]):
            stale.append(f"{entry.name}: {why}")
            continue
        counted[statement.person] = statement
    if gone := _gone(every):
        refused.append(gone)
        counted = {}
    notes = tuple(refused + stale)
    return _weighed(role, counted, refused, stale, notes, _others(role, subjects, every, desk))


def _weighed(
    role: Role,
    counted: Mapping[str, Statement],
    refused: Sequence[str],
    stale: Sequence[str],
    notes: tuple[str, ...],
    others: Mapping[str, str],
) -> Standing:
    """The standing, from the statements that count and the reasons why others do not."""
    rejected = [entry for entry in counted.values() if entry.answer == "reject"]
    approved = [entry for entry in counted.values() if entry.answer == "approve"]
    if rejected:
        reason = f"{rejected[0].person} rejected it: {rejected[0].reason or 'no reason given'}"
        if approved:
            reason += f" ({approved[0].person} approved it; a rejection outweighs)"
        return Standing(role=role, outcome="rejected", reason=reason, notes=notes)
    single = [entry for entry in approved if entry.person not in others]
    if single:
        entry = single[-1]
        reason = f"{entry.person}, {entry.signed_at}, holds until {entry.expires_at}"
        return Standing(role=role, outcome="approved", reason=reason, statement=entry, notes=notes)
    if approved:
        person = approved[0].person
        reason = f"{person} signed as {others[person]} too: one person may sign one role"
        return Standing(role=role, outcome="refused", reason=reason, notes=notes)
    if refused:
        return Standing(role=role, outcome="refused", reason=refused[-1], notes=notes)
    if stale:
        return Standing(role=role, outcome="stale", reason=stale[-1], notes=notes)
    return Standing(role=role, outcome="missing", reason="nobody has signed yet", notes=notes)


def _others(role: Role, subjects: Subjects, every: Sequence[Stored], desk: Desk) -> dict[str, str]:
    """Who approved the same in another role; waivers are no role."""
    found: dict[str, str] = {}
    for entry in every if role != WAIVER else ():
        statement = entry.statement
        if statement is None or statement.role in (role, WAIVER) or statement.answer != "approve":
            continue
        if not desk.why_not(entry) and not desk.why_over(statement, subjects[statement.role]):
            found[statement.person] = statement.role
    return found


def _gone(every: Sequence[Stored]) -> str:
    """Which statement was taken away, by those that were stored behind it."""
    there = {entry.statement.digest for entry in every if entry.statement}
    for entry in every:
        for digest in entry.statement.earlier if entry.statement else ():
            if digest not in there:
                return (
                    f"{entry.name}: a statement that was stored before it (sha256 "
                    f"{digest[:12]}) was removed or edited"
                )
    return ""


def _role(entry: Stored) -> str | None:
    return entry.statement.role if entry.statement else None


def _read(path: Path) -> Stored:
    try:
        if path.is_symlink() or path.stat().st_size > 2 * LIMIT_BYTES:
            raise StatementError(f"it is a link, or larger than {2 * LIMIT_BYTES:,} bytes")
        values = files.read_json(path)
        if not isinstance(values, dict) or values.get("schema") != SCHEMA:
            raise StatementError("it is of another schema: upgrade pytest-mltrainer")
        statement = parse_statement(str(values["statement"]).encode())
        return Stored(name=path.name, statement=statement, signature=str(values["signature"]))
    except (StatementError, StorageError, OSError, KeyError, UnicodeEncodeError) as error:
        return Stored(name=path.name, problem=str(error).removeprefix(f"{path}: "))
