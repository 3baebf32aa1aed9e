"""`pytest-mltrainer approve` and `waive`: show what is signed, sign it, and keep it by the run."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pytest_mltrainer.core import files
from pytest_mltrainer.core.artifacts import JUDGEMENTS, RunFolder
from pytest_mltrainer.core.chain import FINAL, read_chain
from pytest_mltrainer.core.errors import UserError
from pytest_mltrainer.core.verdict import Verdict
from pytest_mltrainer.release import signing
from pytest_mltrainer.release.approvals import Desk, Stored, store_statement
from pytest_mltrainer.release.signatures import (
    NO_POLICY,
    Signatures,
    concluded_model,
    waivable_model,
)
from pytest_mltrainer.release.statement import (
    REVIEW,
    WAIVER,
    Answer,
    Role,
    Statement,
    make_statement,
)
from pytest_mltrainer.release.subject import OPEN, subject_changes

LIMIT_LINES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody wants to sign. `check`: what a waiver is for."""

    role: Role
    key: Path
    answer: Answer = "approve"
    reason: str = ""
    days: int = 30
    check: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A statement before it is signed, and what its signer should read first."""

    statement: Statement
    shown: tuple[str, ...]
    run: RunFolder
    desk: Desk


def draft(run: RunFolder, root: Path | None, wish: Wish) -> Draft:
    """The statement that would be signed. Raises UserError where it could not count.

    What is approved must hold together: chain, manifests and verdicts are verified first.
    """
    chain = read_chain(run, with_final_verdict=True)
    final = chain.links[FINAL]
    if final.manifest is None or final.verdict is None:
        raise UserError("; ".join(final.problems) or "finalization has not been judged")
    expected = (f"the gate of {FINAL} is AWAITING SIGNATURE", f"the gate of {FINAL} is FAIL")
    broken = [problem for problem in chain.problems if problem not in expected]
    if broken:
        raise UserError(f"there is nothing to sign: {broken[0]}; pytest --phase={FINAL} first")
    model = concluded_model(run, final.manifest, final.verdict)
    signatures = Signatures.read(run, root, model)
    if signatures.desk is None:
        raise UserError(NO_POLICY)
    subject = (
        waivable_model(model, wish.check)
        if wish.role == WAIVER
        else dict(signatures.subjects[wish.role])
    )
    statement = make_statement(
        role=wish.role,
        person=_person(wish, signatures.desk),
        answer=wish.answer,
        reason=wish.reason,
        subject=subject,
        days=min(wish.days, signatures.desk.policy.max_days),
        now=datetime.now(UTC),
        earlier=_digests(signatures.statements),
    )
    _refuse_open_checks(wish, final.verdict)
    shown = tuple(_shown(run, statement, final.verdict, signatures, dict(chain.counts)))
    return Draft(statement=statement, shown=shown, run=run, desk=signatures.desk)


def sign_and_store(drafted: Draft, key: Path) -> Path:
    """Sign, judge the signature as every judge will, and store it. Raises UserError."""
    signature = signing.sign(drafted.statement.canonical(), key)
    stored = Stored(name="the new statement", statement=drafted.statement, signature=signature)
    if why := drafted.desk.why_not(stored):
        raise UserError(f"not stored, because it would not count: {why}")
    return store_statement(drafted.run, drafted.statement, signature)


def _digests(statements: Sequence[Stored]) -> tuple[str, ...]:
    return tuple(sorted(entry.statement.digest for entry in statements if entry.statement))


def _person(wish: Wish, desk: Desk) -> str:
    """Whose key it is, by the policy; refused early where it may not sign."""
    key = signing.public_key(wish.key)
    people = desk.policy.people_of(key)
    granted = [person for person in people if not desk.policy.why_not_role(person, wish.role)]
    person = (granted or list(people) or [""])[0]
    why = desk.policy.why_not_key(key, person, (desk.now,))
    if why or (why := desk.policy.why_not_role(person, wish.role)):
        raise UserError(f"{wish.key} may not sign as {wish.role}: {why} ({desk.policy.path})")
    return person


def _refuse_open_checks(wish: Wish, verdict: Verdict) -> None:
    """A waiver is for what failed, an approval for what did not."""
    if wish.role == WAIVER and verdict.checks.get(wish.check) not in ("fail", "waived"):
        raise UserError(f"{wish.check} did not fail, so there is nothing to waive")
    if wish.answer == "reject" or wish.role in (REVIEW, WAIVER):
        return
    failed = [name for name, outcome in verdict.unsigned_checks.items() if outcome in OPEN]
    if failed:
        raise UserError(f"{failed[0]} did not pass: mend it, or have it waived, before approving")


def _shown(
    run: RunFolder,
    statement: Statement,
    verdict: Verdict,
    signatures: Signatures,
    counts: Mapping[str, int],
) -> Iterator[str]:
    """Results, limits, waivers, what is disclosed, and the difference to what was approved last."""
    until = statement.ends.date()
    yield f"{statement.person} {statement.answer}s as {statement.role}, until {until}"
    if statement.reason:
        yield f"reason: {statement.reason}"
    if statement.role == REVIEW:
        yield from _code(run, statement)
        return
    for name, digest in sorted(statement.subject["artifacts"].items()):
        if name.startswith("final_model/"):
            yield f"model: {name} sha256 {digest[:12]}"
    yield from _results(run, verdict)
    yield "disclosed: " + ", ".join(f"{event}: {count}" for event, count in sorted(counts.items()))
    yield from _difference(statement, signatures.statements)


def _results(run: RunFolder, verdict: Verdict) -> Iterator[str]:
    """Each judgement with its limit, as the gate recorded it last."""
    last = files.read_ledger(run.phase(FINAL).path / JUDGEMENTS)[-1:]
    checks = last[0]["checks"] if last and last[0]["identity"] == verdict.identity else {}
    for name, outcome in sorted(verdict.unsigned_checks.items()):
        yield f"{outcome:<14} {name}"
        for entry in checks.get(name, {}).get("judgements", ())[:3]:
            yield f"               {entry['what']}: {entry['measured']}, wanted {entry['limit']}"


def _code(run: RunFolder, statement: Statement) -> Iterator[str]:
    facts = files.read_json(run.phase("planning").artifact("source.json"))
    commit = facts.get("commit", "")
    yield f"commit: {commit or 'none, there is no git'}"
    if authors := facts.get("authors"):
        yield f"written by: {', '.join(authors)}"
    for name, digest in sorted(statement.subject["code"].items()):
        yield f"{name.removeprefix('code/')} sha256 {digest[:12]}"


def _difference(statement: Statement, statements: Sequence[Stored]) -> Iterator[str]:
    """What changed since the role last approved something."""
    before = [
        entry.statement
        for entry in statements
        if entry.statement
        and entry.statement.role == statement.role
        and entry.statement.answer == "approve"
    ]
    if not before:
        yield "difference to the last approved: there is none before this"
        return
    changes = subject_changes(before[-1].subject, statement.subject)
    yield f"difference to what was approved on {before[-1].signed_at}:"
    yield from (f"  {change}" for change in (changes or ["none"])[:LIMIT_LINES])
